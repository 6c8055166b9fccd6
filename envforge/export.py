"""``export``: a lockfile as the file of another tool, and what that file cannot hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envforge.errors import InputError
from envforge.formats import (
    environment_pins,
    explicit_txt,
    hashed_requirements,
    pipfile_lock,
    pixi_lock,
    pylock_toml,
)
from envforge.model.foreign import Written
from envforge.model.lockfile import Lockfile

__all__ = ["FORMATS", "ONE_PLATFORM", "ExportOptions", "export"]

Writer = Callable[[Lockfile, str, Sequence[str]], Written]

_WRITERS: Mapping[str, Writer] = {
    "pylock": pylock_toml.write,
    "requirements": hashed_requirements.write,
    "explicit": explicit_txt.write,
    "environment": environment_pins.write,
    "pipfile": pipfile_lock.write,
}
ONE_PLATFORM = frozenset(_WRITERS)
"""The formats that are for one platform a file."""
FORMATS = (*_WRITERS, "pixi")
"""The names of the formats, as they are typed."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and how.

    ``platforms`` is empty for all of them.  ``version`` is that of the format where several are written;
    ``md5`` is for explicit files that a conda older than 24.9 shall read.
    """

    platforms: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("main",)
    version: int | None = None
    md5: bool = False


def export(lockfile: Lockfile, name: str, options: ExportOptions) -> tuple[Written, ...]:
    """The files of one format, in the order of their platforms.

    :param name: one of :data:`FORMATS`.
    :raises InputError: for a format, platform or group that there is not, or an option that it does not have.
    """
    if name not in FORMATS:
        raise InputError(
            f"no format {name!r}",
            at="FORMAT",
            do=f"use one of: {', '.join(FORMATS)}",
        )
    for given, option, known in (
        (options.md5, "--md5", "explicit"),
        (options.version is not None, "--format-version", "pixi"),
    ):
        if given and name != known:
            raise InputError(f"{name} has no {option}", at=option, do=f"leave it out: it is for {known}")
    if name not in ONE_PLATFORM:
        return (_pixi(lockfile, options),)
    if options.md5:
        return tuple(
            explicit_txt.write(lockfile, platform, options.groups, md5=True)
            for platform in options.platforms or lockfile.platforms
        )
    write = _WRITERS[name]
    return tuple(
        write(lockfile, platform, options.groups) for platform in options.platforms or lockfile.platforms
    )


def _pixi(lockfile: Lockfile, options: ExportOptions) -> Written:
    from dataclasses import replace

    for platform in options.platforms:
        lockfile.rows(platform)  # says which platforms there are if it is none of them
    if options.platforms:
        lockfile = replace(
            lockfile,
            platforms=options.platforms,
            packages=tuple(row for row in lockfile.packages if row.platform in options.platforms),
        )
    return pixi_lock.write(lockfile, version=options.version or pixi_lock.VERSIONS[0])
