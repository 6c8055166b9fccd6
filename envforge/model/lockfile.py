"""The lockfile: every package of every platform, by URL and hash.

The nouns follow conda-lock's schema, version 1, because that is the file which is shared; what
envforge adds lives in ``custom`` under keys that begin with ``envforge.``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from urllib.parse import unquote, urlsplit

from envforge.errors import InputError
from envforge.model.platforms import Target

__all__ = ["LockedChannel", "LockedPackage", "Lockfile", "canonical_name", "join_specs"]

_HEX = {"md5": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}
_FILENAME = re.compile(r"[A-Za-z0-9_.!+~-][A-Za-z0-9_.!+~%-]*")
_ARCHIVES = (".conda", ".tar.bz2")


def canonical_name(name: str) -> str:
    """A PyPI project's normalised name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def join_specs(specs: Iterable[str]) -> dict[str, str]:
    """``["python >=3.12", "__glibc >=2.17,<3"]`` as the mapping that a lockfile row holds.

    The whole rest of each MatchSpec is kept, ``*`` where there is none; several for one name are
    joined by ``,`` in their order.
    """
    joined: dict[str, str] = {}
    for spec in specs:
        name, _, rest = spec.strip().partition(" ")
        rest = rest.strip()
        if name in joined and rest:
            rest = rest if joined[name] == "*" else f"{joined[name]},{rest}"
        joined[name] = rest or joined.get(name, "*")
    return joined


@dataclass(frozen=True, kw_only=True)
class LockedChannel:
    """A channel's URL without secrets, and the names of the variables that fill in the secrets."""

    url: str
    used_env_vars: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LockedPackage:
    """One row: one artifact for one platform.

    ``dependencies`` maps names to the rest of the MatchSpec (conda) or the specifier (pip).
    """

    name: str
    version: str
    manager: str
    platform: str
    url: str
    sha256: str | None
    md5: str | None = None
    dependencies: Mapping[str, str] = field(default_factory=dict)
    build: str | None = None
    category: str = "main"
    optional: bool = False

    def __post_init__(self) -> None:
        if self.manager not in ("conda", "pip"):
            raise InputError(f"manager {self.manager!r} is neither conda nor pip", at="manager")
        for kind, value in (("md5", self.md5), ("sha256", self.sha256)):
            if value is not None and not _HEX[kind].fullmatch(value):
                raise InputError(f"{value!r} is not a {kind} in lower-case hex", at=f"hash.{kind}")
        if self.manager == "conda":
            self._check_conda()

    def _check_conda(self) -> None:
        if self.md5 is None:
            raise InputError(f"the conda package {self.name} has no md5", at="hash")
        if not self.filename.endswith(_ARCHIVES):
            raise InputError(f"{self.filename!r} is not a conda archive", at="url")
        if self.subdir not in (self.platform, "noarch"):
            raise InputError(
                f"the URL is of subdir {self.subdir!r}, the row of platform {self.platform}", at="url"
            )

    @property
    def filename(self) -> str:
        """The artifact's own name, from the URL.

        :raises InputError: if that could name a path outside the directory it is put in.
        """
        name = unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])
        if not _FILENAME.fullmatch(name) or name in (".", ".."):
            raise InputError(f"the URL ends in no usable file name: {name!r}", at="url")
        return name

    @property
    def subdir(self) -> str:
        """The conda subdir of the URL: a platform or ``noarch``."""
        return urlsplit(self.url).path.rsplit("/", 2)[-2]

    @property
    def channel(self) -> str:
        """The URL of the channel that the conda package came from, without a slash at its end."""
        return self.url.split("?")[0].rsplit("/", 2)[0]

    @property
    def build_string(self) -> str:
        """A conda package's build string, from its file name: NAME-VERSION-BUILD."""
        stem = self.filename
        for suffix in _ARCHIVES:
            stem = stem.removesuffix(suffix)
        return stem.rsplit("-", 1)[-1]

    @property
    def is_wheel(self) -> bool:
        """Whether the row is a wheel (and not an sdist or a VCS link)."""
        return self.manager == "pip" and urlsplit(self.url).path.endswith(".whl")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a row is sorted by and known by."""
        return (self.manager, self.name, self.platform, self.category)

    def to_dict(self) -> dict[str, object]:
        """A plain mapping in a fixed order, without what is unset."""
        row: dict[str, object] = {
            "name": self.name,
            "version": self.version,
            "manager": self.manager,
            "platform": self.platform,
            "dependencies": dict(sorted(self.dependencies.items())),
            "url": self.url,
            "hash": {k: v for k, v in (("md5", self.md5), ("sha256", self.sha256)) if v is not None},
            "category": self.category,
            "optional": self.optional,
        }
        if self.build is not None:
            row["build"] = self.build
        return row


@dataclass(frozen=True, kw_only=True)
class Lockfile:
    """A whole lockfile; packages sorted by :attr:`LockedPackage.key`, no key twice."""

    packages: tuple[LockedPackage, ...]
    channels: tuple[LockedChannel, ...]
    platforms: tuple[str, ...]
    sources: tuple[str, ...] = ()
    content_hash: Mapping[str, str] = field(default_factory=dict)
    custom: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.packages, key=lambda package: package.key))
        for one, other in pairwise(ordered):
            if one.key == other.key:
                raise InputError(
                    f"{one.name} is locked twice for {one.platform}: {one.version} and {other.version}",
                    at="package",
                )
        object.__setattr__(self, "packages", ordered)

    @property
    def name(self) -> str:
        """The environment's name, ``default`` where the specification gave none."""
        return self.custom.get("envforge.name", "default")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, ``main`` first; one that needs nothing beside ``main`` has no row of its own."""
        named = self.custom.get("envforge.groups", "").split()
        return ("main", *sorted({*named, *(package.category for package in self.packages)} - {"main"}))

    def target(self, platform: str) -> Target | None:
        """What was assumed of ``platform`` when it was locked; ``None`` if another tool wrote the file."""
        text = self.custom.get(f"envforge.target.{platform}")
        return None if text is None else Target.parse(platform, text)

    def rows(self, platform: str, groups: Iterable[str] = ("main",)) -> tuple[LockedPackage, ...]:
        """The packages of one platform and of the chosen groups, each artifact once.

        :raises InputError: for a platform or a group that the lockfile does not have.
        """
        if platform not in self.platforms:
            raise InputError(
                f"the lockfile has no packages for {platform}",
                at=f"platforms: {', '.join(self.platforms)}",
                do=f"envforge lock -p {platform}   # on a machine with network",
            )
        wanted = set(groups)
        known = self.groups
        if not wanted <= set(known):
            raise InputError(
                f"the lockfile has no group {', '.join(sorted(wanted - set(known)))}",
                at=f"groups: {', '.join(known)}",
                do="name one of those, or lock a specification that has it",
            )
        chosen = {p.url: p for p in self.packages if p.platform == platform and p.category in wanted}
        return tuple(chosen.values())

    def digest(self) -> str:
        """sha256 over the locked rows and what was assumed: what the environment *is*, in hex."""
        content = {
            "packages": [package.to_dict() for package in self.packages],
            "targets": {p: self.custom.get(f"envforge.target.{p}") for p in sorted(self.platforms)},
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
