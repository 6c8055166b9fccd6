"""Wheels that are built on the laptop when an environment is locked, from an sdist or a project.

In the shared lockfile the row of such a package is its sdist's, which every tool can fetch; a project has no
row there, because no other tool could.  What envforge needs beside that lies in ``custom`` under
``envforge.built.PLATFORM.NAME``.  In the :class:`~envforge.model.lockfile.Lockfile` that is read from it the
row is the wheel's: ``built:FILENAME`` and its sha256, like any other from there on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name

__all__ = ["BUILT", "BuiltWheel", "built_key", "built_wheels", "has_built", "row_to_share", "rows_as_built"]

BUILT = "built:"
"""What the URL of a built wheel begins with; its file name follows."""
_PREFIX = "envforge.built."
_HEX = re.compile(r"[0-9a-f]{64}")
_WHEEL = re.compile(r"[A-Za-z0-9_.]+-[A-Za-z0-9_.!+]+(-[0-9][A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl")
_PYTHON = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")


@dataclass(frozen=True, kw_only=True)
class BuiltWheel:
    """A wheel, and everything that a second build of it needs to come to the same bytes.

    ``source`` is the URL of an sdist, without secrets; or that of a repository with the commit; or the path
    of a project, or of an sdist on the laptop, relative to the lockfile.  ``source_sha256`` is that of an
    sdist's URL, else ``None``.  ``asked`` is what a requirement named in place of ``source``: a branch,
    perhaps.  ``python`` is the X.Y that built it, ``epoch`` the SOURCE_DATE_EPOCH, ``requires`` the build
    requirements with their hashes, a line each.  ``dependencies`` and ``groups`` are those of its rows.
    """

    filename: str
    sha256: str
    source: str
    source_sha256: str | None
    python: str
    epoch: int
    requires: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    asked: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        if not _WHEEL.fullmatch(self.filename):
            raise InputError(f"{self.filename!r} is not the name of a wheel", at="wheel")
        for key, value in (("sha256", self.sha256), ("source_sha256", self.source_sha256)):
            if value is not None and not _HEX.fullmatch(value):
                raise InputError(f"{value!r} is not a sha256 in lower-case hex", at=key)
        if not _PYTHON.fullmatch(self.python):
            raise InputError(f"{self.python!r} is not a version X.Y of Python", at="python")
        if not 0 <= self.epoch < 1 << 33:
            raise InputError(f"{self.epoch} is no time", at="epoch")

    @property
    def name(self) -> str:
        """The canonical name of the project."""
        return canonical_name(self.filename.split("-")[0])

    @property
    def version(self) -> str:
        """The version, as the file's name has it."""
        return self.filename.split("-")[1]

    @property
    def asked_as(self) -> str:
        """What a requirement names it by, if one does."""
        return self.asked or self.source

    @property
    def is_of_repository(self) -> bool:
        """Whether it was built from a commit."""
        return self.source.startswith("git+")

    @property
    def url(self) -> str:
        """The URL of the row."""
        return BUILT + self.filename

    def text(self) -> str:
        """One canonical line of JSON for ``custom``."""
        content: dict[str, object] = {"asked": self.asked} if self.asked else {}
        content |= {
            "dependencies": dict(self.dependencies),
            "epoch": self.epoch,
            "groups": list(self.groups),
            "indexes": list(self.indexes),
            "python": self.python,
            "requires": list(self.requires),
            "sha256": self.sha256,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "wheel": self.filename,
        }
        return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def built_key(platform: str, name: str) -> str:
    """The key of a lockfile's ``custom`` that holds what was built of ``name`` for ``platform``."""
    return f"{_PREFIX}{platform}.{canonical_name(name)}"


def has_built(custom: Mapping[str, str]) -> bool:
    """Whether anything of a lockfile was built."""
    return any(key.startswith(_PREFIX) for key in custom)


def built_wheels(lockfile: Lockfile) -> Iterator[tuple[str, BuiltWheel]]:
    """Each built wheel with its platform, in the order of their keys.

    :raises InputError: if what the lockfile says of one is not what envforge writes.
    """
    for platform, _, built in _read(lockfile.custom):
        yield platform, built


def rows_as_built(
    packages: tuple[LockedPackage, ...], custom: Mapping[str, str]
) -> tuple[LockedPackage, ...]:
    """The rows of the shared lockfile with those of built wheels in place of their sdists', and added.

    :raises InputError: if an sdist that was built is not the one that is locked.
    """
    if not has_built(custom):
        return packages
    rows: dict[tuple[str, str, str], list[LockedPackage]] = {}
    for row in packages:
        rows.setdefault((row.manager, canonical_name(row.name), row.platform), []).append(row)
    for platform, at, built in _read(custom):
        key = ("pip", built.name, platform)
        shared = rows.get(key, [])
        if built.source_sha256 is None and not built.is_of_repository:
            if shared:
                raise InputError(f"{built.name} is locked twice: as a project and as a package", at=at)
            rows[key] = [_project(built, platform, group) for group in built.groups]
        elif {(row.url, row.sha256) for row in shared} != {(built.source, built.source_sha256)}:
            raise InputError(
                f"the wheel of {built.name} was built from something else than what is locked", at=at
            )
        else:
            rows[key] = [replace(row, url=built.url, sha256=built.sha256, md5=None) for row in shared]
    return tuple(row for found in rows.values() for row in found)


def row_to_share(row: LockedPackage, custom: Mapping[str, str]) -> LockedPackage | None:
    """The row as other tools can use it: a built wheel's is its sdist's, and a project has none."""
    if not row.url.startswith(BUILT):
        return row
    key = built_key(row.platform, row.name)
    if key not in custom:
        raise InputError(f"nothing says what {row.name} was built from", at=key)
    built = _parse(key, custom[key])
    if built.source_sha256 is None and not built.is_of_repository:
        return None
    return replace(row, url=built.source, sha256=built.source_sha256)


def _project(built: BuiltWheel, platform: str, group: str) -> LockedPackage:
    return LockedPackage(
        name=built.name,
        version=built.version,
        manager="pip",
        platform=platform,
        url=built.url,
        sha256=built.sha256,
        dependencies=built.dependencies,
        category=group,
        optional=group != "main",
    )


def _read(custom: Mapping[str, str]) -> Iterator[tuple[str, str, BuiltWheel]]:
    for key in sorted(custom):
        if key.startswith(_PREFIX):
            platform, _, name = key.removeprefix(_PREFIX).partition(".")
            built = _parse(key, custom[key])
            if built.name != name or not platform:
                raise _unusable(key, f"it is about {built.name}")
            yield platform, f"metadata: custom_metadata: {key}", built


def _parse(key: str, text: str) -> BuiltWheel:
    try:
        value = json.loads(text)
        return BuiltWheel(
            filename=_of(str, value["wheel"]),
            sha256=_of(str, value["sha256"]),
            source=_of(str, value["source"]),
            source_sha256=None if value["source_sha256"] is None else _of(str, value["source_sha256"]),
            python=_of(str, value["python"]),
            epoch=_of(int, value["epoch"]),
            requires=tuple(_of(str, line) for line in _of(list, value["requires"])),
            indexes=tuple(_of(str, url) for url in _of(list, value["indexes"])),
            asked=_of(str, value.get("asked", "")),
            dependencies={_of(str, k): _of(str, v) for k, v in _of(dict, value["dependencies"]).items()},
            groups=tuple(_of(str, group) for group in _of(list, value["groups"])),
        )
    except (ValueError, TypeError, KeyError, RecursionError, InputError) as error:
        raise _unusable(key, str(error).splitlines()[0] if str(error) else "it is empty") from error


def _of(kind: type[Any], value: object) -> Any:
    if type(value) is not kind or (kind is str and not value.isprintable()):  # type: ignore[attr-defined]
        raise TypeError(f"{value!r} where {kind.__name__} is needed")
    return value


def _unusable(key: str, why: str) -> InputError:
    return InputError(
        f"what the lockfile says of a built wheel cannot be used: {why}",
        at=f"metadata: custom_metadata: {key}",
        do="envforge lock   # writes it anew",
    )
