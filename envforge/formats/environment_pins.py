"""An ``environment.yml`` that pins every package: ``NAME=VERSION=BUILD``; below ``pip:``, ``NAME==VERSION``.

What ``conda env export``, ``micromamba env export`` and ``conda-lock render --kind env`` write.  Goals:
conda, mamba and micromamba make an environment of it for one platform; every build is the locked one.  It
holds no hash, so that whoever serves the channel decides what is installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from envforge.errors import InputError
from envforge.formats._fields import Fields, describe, printable, redacted
from envforge.formats._halves import (
    HASHES,
    NAMES,
    NEEDS,
    ORIGIN,
    conda_half,
    group_losses,
    losses,
    own_losses,
    pip_half,
    shown_name,
)
from envforge.formats._yaml import compose, plain, render
from envforge.formats.hashed_requirements import read as read_requirements
from envforge.formats.hashed_requirements import requirement_line
from envforge.model.foreign import ForeignConda, ForeignLock, Loss, Written
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["channel_name", "read", "write"]

_LIMIT = 10_000_000
_ANACONDA = "https://conda.anaconda.org/"
_PIN = re.compile(
    r"(?:(?P<channel>[^\s=<>]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)==?(?P<version>[^\s=<>!~,|*]+)=(?P<build>[^\s=<>!~,|*]+)"
)
_PLATFORM = re.compile(r"^#\s*platform:\s*([a-z0-9]+-[a-z0-9_]+)\s*$", re.MULTILINE)
_KEYS = frozenset(("name", "channels", "dependencies", "platforms", "prefix", "variables", "category"))


def channel_name(url: str) -> str:
    """A channel as people write it: the name on anaconda.org, else its URL."""
    return url.removeprefix(_ANACONDA) if url.startswith(_ANACONDA) else url


def write(lockfile: Lockfile, platform: str, groups: Sequence[str] = ("main",)) -> Written:
    """All packages of one platform and of ``groups``.

    A package of another channel than the first one names it.

    :raises InputError: for a platform or a group that is not locked.
    """
    conda = sorted(conda_half(lockfile, platform, groups), key=lambda row: row.name)
    unpinned = [row for row in conda if not _PIN.fullmatch(_pin(row, channel_name(row.channel)))]
    conda = [row for row in conda if row not in unpinned]
    pip = pip_half(lockfile, platform, groups)
    urls = [channel.url.rstrip("/") for channel in lockfile.channels]
    channels = [channel_name(url if "://" in url else f"{_ANACONDA}{url}") for url in urls]
    others = {channel_name(row.channel) for row in conda} - set(channels)
    channels += sorted(others)
    pins = [(row, requirement_line(row)) for row in pip.rows]
    dependencies: list[object] = [_pin(row, channels[0]) for row in conda]
    if any(line for _, line in pins):
        dependencies.append({"pip": [line for _, line in pins if line]})
    document = {
        "name": shown_name(lockfile),
        "channels": [*channels, "nodefaults"],
        "dependencies": dependencies,
    }
    head = [
        f"# Every package of {shown_name(lockfile)} by version and build, locked for one platform.",
        "#     conda env create --file FILE     # or micromamba env create",
        f"# platform: {platform}",
    ]
    whole = tuple(Loss(what=what) for what in (HASHES, ORIGIN, NEEDS) if conda or pip.rows)
    return Written(
        filename=f"environment.{platform}.yml",
        text="\n".join(head) + "\n" + render(document),
        platform=platform,
        losses=losses((NAMES, [*unpinned, *(row for row, line in pins if line is None)]))
        + pip.losses
        + whole
        + group_losses(lockfile, platform, groups, told_apart=False)
        + own_losses(lockfile, name=True, target=False),
    )


def _pin(row: LockedPackage, first: str) -> str:
    channel = channel_name(row.channel)
    return ("" if channel == first else f"{channel}::") + f"{row.name}={row.version}={row.build_string}"


def read(text: str, *, source: str) -> ForeignLock:
    """The pins in ``text``.

    :raises InputError: if something is not pinned: then it is a specification.
    """
    value = plain(compose(text, source=source, limit=_LIMIT), source=source)
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where an environment.yml is needed", at=source, do=_lock(source))
    try:
        fields = Fields(value, frozenset(value) | _KEYS)
        channels = fields.texts("channels") if "channels" in fields else ()
        name = fields.text("name") if "name" in fields else None
        said = _PLATFORM.search(text)
        platforms = fields.texts("platforms") if "platforms" in fields else (said[1],) if said else ()
        entries = fields.each("dependencies", lambda item: item)
    except InputError as error:
        error.do = error.do or _lock(source)
        raise error.inside(source) from None
    platform = platforms[0] if len(platforms) == 1 else ""
    conda = [
        _conda(item, f"dependencies[{index}]", platform, source)
        for index, item in enumerate(entries)
        if not isinstance(item, dict)
    ]
    lines = [line for item in entries if isinstance(item, dict) for line in _pip(item, source)]
    pip = read_requirements("\n".join(lines), source=f"{source}: pip")
    return ForeignLock(
        kind="environment.yml with pins",
        conda=tuple(conda),
        pypi=pip.pypi,
        name=name,
        channels=tuple(channel for channel in channels if channel != "nodefaults"),
        indexes=pip.indexes,
        platforms=(platform,) if platform else (),
        notes=pip.notes,
    )


def _conda(item: object, key: str, platform: str, source: str) -> ForeignConda:
    text = item if isinstance(item, str) else str(item)
    match = _PIN.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"{redacted(text)!r} is not pinned to one build",
            at=f"{source}: {key}",
            do=_lock(source),
        )
    return ForeignConda(
        name=match["name"].lower(),
        version=match["version"],
        build=match["build"],
        channel=match["channel"],
        platform=platform,
        at=f"{source}: {key}",
    )


def _pip(item: dict[str, object], source: str) -> tuple[str, ...]:
    fields = Fields(item, frozenset(("pip",)), f"{source}: dependencies")
    return fields.each("pip", printable) if "pip" in fields else ()


def _lock(source: str) -> str:
    return f"envforge lock {shlex.quote(source)}   # this is a specification: what it leaves open is solved"
