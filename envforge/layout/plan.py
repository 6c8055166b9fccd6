"""What belongs in a mirror, and under which path: a pure function of lockfiles.

A platform of a lock is *served* where the mirror has all of its artifacts.  Asking for some platforms
only therefore needs to be recorded nowhere: what was mirrored once is seen from the manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from envforge.errors import InputError
from envforge.model.built import BUILT
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.manifest import MirrorChannel, check_inside
from envforge.model.runtime import runtime_rows
from envforge.model.urls import public_url, without_secrets

__all__ = [
    "Artifact",
    "LockfileInput",
    "Plan",
    "check_no_secrets",
    "expanded",
    "lock_name",
    "make_plan",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TOKEN = re.compile(r"/t/[^/]+(?=/|$)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_KNOWN_CHANNELS = {
    "defaults": tuple(f"https://repo.anaconda.com/pkgs/{part}" for part in ("main", "r", "msys2"))
}
_FETCHED = ("http", "https", "file", BUILT.rstrip(":"))


@dataclass(frozen=True, kw_only=True)
class LockfileInput:
    """A lockfile to mirror: its bytes as read, the name of its file, and what they say."""

    content: bytes
    filename: str
    lockfile: Lockfile


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file that comes from outside.

    ``path`` is relative to the mirror; ``rows`` are all rows of all locks that mean it, in the order of
    the locks' names, each with its lock's name; ``source`` is the URL to fetch it from, variables in it
    not filled in.
    """

    path: str
    sha256: str
    md5: str | None
    source: str
    rows: tuple[tuple[str, LockedPackage], ...]

    @property
    def row(self) -> LockedPackage:
        """A row that stands for all where they must agree."""
        return self.rows[0][1]

    @property
    def origin(self) -> str:
        """The URL to name in the manifest: the same whatever lock was mirrored first, without secrets."""
        return min(public_url(row.url, conda=row.manager == "conda") for _, row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a mirror is to hold: artifacts by path, channels in priority order, platforms served."""

    locks: Mapping[str, Lockfile]
    artifacts: Mapping[str, Artifact]
    channels: tuple[MirrorChannel, ...]
    platforms: tuple[str, ...]


def lock_name(given: LockfileInput) -> str:
    """The NAME below ``locks/``: from ``NAME.conda-lock.yml``, else the environment's own name.

    :raises InputError: if that is no usable file name.
    """
    for suffix in (".conda-lock.yml", ".conda-lock.yaml"):
        if given.filename.endswith(suffix):
            name = given.filename.removesuffix(suffix)
            break
    else:
        name = given.lockfile.name
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a lock in a mirror",
            at=given.filename,
            do="name the file NAME.conda-lock.yml, with letters, digits and . _ + - in NAME",
        )
    return name


def check_no_secrets(name: str, given: LockfileInput) -> None:
    """A lockfile is published byte for byte: refuse one in which a password or token is written out.

    The reader dropped it from what the file says, so the text itself is looked at.

    :raises InputError: naming the line.
    """
    lockfile = given.lockfile
    channels = {package.url for package in _rows(lockfile) if package.manager == "conda"}
    channels |= {channel.url for channel in lockfile.channels}
    for number, line in enumerate(given.content.decode(errors="replace").splitlines(), start=1):
        for url in _URL.findall(line):
            token = url not in channels and without_secrets(url, tokens=True) in channels
            if token or without_secrets(url, tokens=False) != url:
                raise InputError(
                    f"the lock {name} holds a password or token, and a mirror would show it to everyone",
                    at=f"{given.filename}:{number}",
                    do="lock again with the secret in ~/.netrc or in a variable",
                )


def expanded(url: str, variables: Collection[str], environment: Mapping[str, str]) -> str:
    """``url`` with the variables that the lockfile's channels name filled in.

    :raises InputError: if one of them is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in variables:
            return match[0]
        if name not in environment:
            raise InputError(
                f"the lockfile's channel needs the variable {name}, which is not set",
                at=url,
                do=f"export {name}=…",
            )
        return environment[name]

    return _VARIABLE.sub(value, url)


def make_plan(
    locks: Mapping[str, Lockfile], requested: Mapping[str, Collection[str]], present: Collection[str]
) -> Plan:
    """Plan a mirror.

    :param locks: every lock it shall serve, by name.
    :param requested: for the locks that are being mirrored now, the platforms asked for.
    :param present: the sha256 of every artifact that the mirror's manifest lists so far.
    :raises InputError: for a row that cannot be mirrored, and where two locks disagree about a file.
    """
    directories = _channel_directories(locks)
    wanted = _wanted(locks, requested, frozenset(present))
    artifacts = _artifacts(locks, wanted, requested, directories)
    digests = {artifact.sha256 for artifact in artifacts.values()}
    served = {
        platform
        for lock in locks.values()
        for platform in lock.platforms
        if _digests(lock, platform) <= digests
    }
    used = {artifact.path.split("/")[1] for artifact in artifacts.values() if artifact.md5 is not None}
    return Plan(
        locks=locks,
        artifacts=artifacts,
        channels=tuple(c for c in _by_priority(locks, directories) if c.name in used),
        platforms=tuple(sorted(served)),
    )


def _rows(lock: Lockfile) -> tuple[LockedPackage, ...]:
    """Every row of a lock: the environment's, and those of the runtime that a bundle of it would carry."""
    known = {(row.url, row.sha256) for row in lock.packages}
    runtime = (row for platform in sorted(lock.platforms) for row in runtime_rows(lock, platform))
    return lock.packages + tuple(row for row in runtime if (row.url, row.sha256) not in known)


def _digests(lock: Lockfile, platform: str) -> frozenset[str | None]:
    return frozenset(row.sha256 for row in _rows(lock) if row.platform == platform)


def _wanted(
    locks: Mapping[str, Lockfile], requested: Mapping[str, Collection[str]], present: frozenset[str]
) -> list[tuple[str, LockedPackage]]:
    """Every row to mirror with its lock's name: of platforms asked for now, or served so far."""
    found = []
    for name in sorted(locks):
        asked = requested.get(name, ())
        served = [p for p in locks[name].platforms if p in asked or _digests(locks[name], p) <= present]
        found += [(name, row) for row in _rows(locks[name]) if row.platform in served]
    return found


# -- rows ----------------------------------------------------------------------------------------------


def _check(name: str, row: LockedPackage) -> str:
    """The sha256 of a row that can be mirrored."""
    at = f"lock {name}: package {row.name} ({row.manager}, {row.platform})"
    parts = urlsplit(row.url)
    if row.sha256 is None or parts.scheme not in _FETCHED:
        what = "without a sha256" if row.sha256 is None else f"by a {parts.scheme or 'relative'} link"
        raise InputError(
            f"{row.name} {row.version} is locked {what}, so it cannot be mirrored",
            at=at,
            do=f"take {row.name} from conda, or from an index as a wheel, and lock again",
        )
    if row.is_wheel and canonical_name(row.filename.split("-")[0]) != canonical_name(row.name):
        raise InputError(f"{row.filename} is not a wheel of {row.name}", at=at, do="lock it again")
    return row.sha256


def _path(row: LockedPackage, directories: Mapping[str, str]) -> str:
    if row.manager == "conda":
        return f"conda/{directories[public_url(row.channel, conda=True)]}/{row.subdir}/{row.filename}"
    return f"pypi/files/{row.sha256}/{row.filename}"


def _artifacts(
    locks: Mapping[str, Lockfile],
    wanted: Sequence[tuple[str, LockedPackage]],
    requested: Collection[str],
    directories: Mapping[str, str],
) -> dict[str, Artifact]:
    digests: dict[str, tuple[str, str]] = {}
    for name, row in wanted:
        sha256, path = _check(name, row), check_inside(_path(row, directories), at=f"lock {name}")
        other, seen = digests.setdefault(path, (name, sha256))
        if seen != sha256:
            raise _two_hashes(path, row, name, other)
    known = {sha256 for _, sha256 in digests.values()}
    meant: dict[str, list[tuple[str, LockedPackage]]] = defaultdict(list)
    for name in sorted(locks):
        for row in _rows(locks[name]):
            if (
                row.sha256 in known
                and digests.get(path := _path(row, directories), ("", ""))[1] == row.sha256
            ):
                meant[path].append((name, row))
    return {path: _artifact(path, meant[path], requested) for path in sorted(meant)}


def _artifact(path: str, rows: Sequence[tuple[str, LockedPackage]], requested: Collection[str]) -> Artifact:
    row = rows[0][1]
    for name, other in rows:
        if other.manager != row.manager or (other.md5 != row.md5 and row.manager == "conda"):
            raise _two_hashes(path, row, name, rows[0][0])
    fresh = [row.url for name, row in rows if name in requested]
    return Artifact(
        path=path,
        sha256=row.sha256 or "",
        md5=row.md5 if row.manager == "conda" else None,
        source=(fresh or [row.url])[0],
        rows=tuple(rows),
    )


def _two_hashes(path: str, row: LockedPackage, one: str, other: str) -> InputError:
    return InputError(
        f"{row.filename} is locked with two different hashes, by the locks {other} and {one}",
        at=path,
        do=f"lock the older of the two again: envforge lock -P {row.name}",
    )


# -- channels ------------------------------------------------------------------------------------------


def _channel_directories(locks: Mapping[str, Lockfile]) -> dict[str, str]:
    """The name below ``conda/`` of every channel that any row comes from, by its URL without secrets."""
    rows = (row for lock in locks.values() for row in _rows(lock) if row.manager == "conda")
    urls = {public_url(row.channel, conda=True) for row in rows}
    sharing: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        sharing[_last_part(url).casefold()].append(url)  # some disks do not tell Forge from forge
    names = {}
    for group in sharing.values():
        for url in group:
            digest = hashlib.sha256(url.encode()).hexdigest()[:8]
            names[url] = _last_part(url) if len(group) == 1 else f"{_last_part(url)}-{digest}"
    return names


def _last_part(url: str) -> str:
    parts = urlsplit(url)
    text = unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or "channel"
    return re.sub(r"[^A-Za-z0-9._+-]", "-", text).lstrip(".-") or "channel"


def _by_priority(locks: Mapping[str, Lockfile], directories: Mapping[str, str]) -> list[MirrorChannel]:
    """The channels: as the first lock by name ranks them, then the next lock's, then undeclared ones."""
    ranked = [url for name in sorted(locks) for url in _declared(locks[name])]
    urls = dict.fromkeys([*ranked, *sorted(directories)])
    return [MirrorChannel(name=directories[url], url=url) for url in urls if url in directories]


def _declared(lock: Lockfile) -> Iterable[str]:
    for channel in lock.channels:
        if "://" in channel.url:
            yield public_url(channel.url, conda=True).rstrip("/")
        else:
            default = (f"https://conda.anaconda.org/{channel.url.strip('/')}",)
            yield from _KNOWN_CHANNELS.get(channel.url, default)
