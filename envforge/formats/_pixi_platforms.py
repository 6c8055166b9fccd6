"""The platforms of a pixi environment, and what their entries say that they offer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.version import InvalidVersion, Version

from envforge.errors import InputError
from envforge.formats._draft import Around
from envforge.formats._fields import redacted
from envforge.formats._toml import Node
from envforge.model.platforms import PLATFORMS, VirtualPackage
from envforge.model.spec import Assumption

__all__ = ["Workspace", "is_a_part", "read_platforms"]

_FAMILIES = {
    "unix": ("linux-", "osx-"),
    "linux": ("linux-",),
    "osx": ("osx-",),
    "win": ("win-",),
}
_FRIENDLY = {
    "glibc": "__glibc",
    "linux": "__linux",
    "macos": "__osx",
    "osx": "__osx",
    "windows": "__win",
    "cuda": "__cuda",
}
_OF_FAMILY = {"__glibc": "linux-", "__linux": "linux-", "__osx": "osx-", "__win": "win-"}
_ARCHITECTURES = {
    "osx-arm64": re.compile(r"m\d"),
    "linux-ppc64le": re.compile(r"ppc|power"),
    "linux-aarch64": re.compile(r"aarch64|arm|neoverse|a64fx|graviton|thunderx|cortex"),
}
"""Microarchitectures that are not of x86-64."""
_REQUIREMENTS = frozenset(("linux", "libc", "cuda", "macos", "archspec", "windows"))


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One platform as it is listed: its name, the conda subdir, and its virtual packages."""

    name: str
    subdir: str
    offers: tuple[VirtualPackage, ...]
    at: str


@dataclass(kw_only=True)
class Workspace:
    """The platforms of the environment, by subdir, and what is assumed of them."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    all_names: tuple[str, ...] = ()
    assumed: tuple[Assumption, ...] = ()

    @property
    def subdirs(self) -> tuple[str, ...]:
        """The conda subdirs, in the order that they are listed."""
        return tuple(self.entries)

    def matches(self, selector: str, subdir: str) -> bool:
        """Whether ``[target.SELECTOR]`` is for ``subdir``."""
        if selector in _FAMILIES:
            return subdir.startswith(_FAMILIES[selector])
        entry = self.entries.get(subdir)
        return any(fnmatchcase(name, selector) for name in (subdir, *([entry.name] if entry else [])))

    def check_selector(self, selector: str, node: Node) -> None:
        """Refuse a selector that is for nothing.

        :raises InputError: if no platform of pixi's, and none of the manifest's, has that name.
        """
        known = (*_FAMILIES, *PLATFORMS, *self.all_names)
        if "*" not in selector and selector not in known and not re.fullmatch(r"[a-z]+-[a-z0-9]+", selector):
            raise node.error(
                f"{redacted(selector)!r} is no platform",
                do=f"use one of: {', '.join((*_FAMILIES, *PLATFORMS))}",
            )


def is_a_part(node: Node) -> bool:
    """Whether ``node`` is a feature or an environment, and not the root of the manifest."""
    return node.path[-2:-1] in (("feature",), ("environments",))


def read_platforms(workspace: Node, parts: Sequence[Node], around: Around) -> Workspace:
    """The platforms that all features have; of several of one subdir, the first.

    :raises InputError: for what is no platform, or if the features have none in common.
    """
    listed = workspace.get("platforms")
    entries = [_entry(item) for item in (listed.items() if listed is not None else [])]
    names = {entry.name for entry in entries} | {entry.subdir for entry in entries}
    chosen: dict[str, _Entry] = {}
    for entry in _shared(entries, parts):
        if entry.subdir not in PLATFORMS:
            around.note(f"{entry.at}: {entry.subdir} is left out: no environment is locked for it")
        elif entry.subdir in chosen:
            around.note(f"{entry.at}: {entry.name} is left out: {chosen[entry.subdir].name} comes first")
        else:
            chosen[entry.subdir] = entry
    return Workspace(
        entries=chosen, all_names=tuple(sorted(names)), assumed=tuple(_assumptions(chosen, parts))
    )


def _shared(entries: list[_Entry], parts: Sequence[Node]) -> list[_Entry]:
    """The entries that every feature has."""
    for part in parts:
        own = part.get("platforms") if is_a_part(part) else None
        if own is not None:
            wanted = own.texts("a platform")
            entries = [entry for entry in entries if entry.name in wanted or entry.subdir in wanted]
            if not entries:
                raise own.error(
                    "no platform is left that all features of the environment have",
                    do="name one that they share, or lock another one: --environment NAME",
                )
    return entries


def _assumptions(chosen: dict[str, _Entry], parts: Sequence[Node]) -> list[Assumption]:
    found: dict[tuple[str, str], Assumption] = {}
    for entry in chosen.values():
        for package in entry.offers:
            _keep_highest(found, Assumption(package=package, at=entry.at, platforms=(entry.subdir,)))
    for part in parts:
        node = part.get("system-requirements")
        for one in _requirements(node) if node is not None else ():
            for subdir in _subdirs(one.package, list(chosen) or list(PLATFORMS)):
                _keep_highest(found, Assumption(package=one.package, at=one.at, platforms=(subdir,)))
    return list(found.values())


def _entry(item: Node) -> _Entry:
    if isinstance(item.value, str):
        name = item.text("a platform")
        return _Entry(name=name, subdir=name, offers=(), at=item.at)
    table = item.table()
    subdir = (table.get("platform") or table.get("name") or item).text(
        "a platform", do='write { platform = "linux-64" }'
    )
    offers = [
        package
        for key, node in table.items()
        if key not in ("platform", "name")
        for package in _offered(key, node)
    ]
    # The name that pixi gives an entry without one: the subdir, and what it declares.
    made = "-".join([subdir, *(f"{one.name[2:]}-{one.version}".replace(".", "-") for one in sorted(offers))])
    name = table["name"].text("a name") if "name" in table else made
    return _Entry(name=name, subdir=subdir, offers=tuple(offers), at=item.at)


def _offered(key: str, node: Node) -> list[VirtualPackage]:
    if key == "archspec":
        return [_package(node, "__archspec", "1", node.text("a microarchitecture"))]
    if key == "cuda" and isinstance(node.value, dict):
        table = node.known(frozenset(("driver", "arch")))
        names = {"driver": "__cuda", "arch": "__cuda_arch"}
        return [_package(inner, names[part], inner.text("a version")) for part, inner in table.items()]
    name = key if key.startswith("__") else _FRIENDLY.get(key)
    if name is None:
        raise node.error(
            f"unknown key {redacted(key)!r} of a platform",
            do=f"use platform, name, archspec, {', '.join(_FRIENDLY)}, or __NAME",
        )
    return [_package(node, name, node.text("a version"))]


def _package(node: Node, name: str, version: str, build: str = "0") -> VirtualPackage:
    try:
        made = VirtualPackage.parse(f"{name}={version}={build}")
    except InputError as error:
        error.at = node.at
        raise
    if name != "__archspec" and not re.fullmatch(r"\d+(\.\d+)*", version):
        raise node.error(f"{redacted(version)!r} is no version of {name}", do="write digits and dots")
    return made


def _requirements(node: Node) -> list[Assumption]:
    """``[system-requirements]``, pixi's older way to say it."""
    found = []
    for key, inner in node.known(_REQUIREMENTS).items():
        if key == "libc" and isinstance(inner.value, dict):
            table = inner.known(frozenset(("family", "version")))
            if "family" in table and table["family"].value != "glibc":
                raise table["family"].error("only glibc can be assumed", do='write libc = "2.28"')
            packages = [_package(inner, "__glibc", table.get("version", inner).text("a version"))]
        else:
            packages = _offered("glibc" if key == "libc" else key, inner)
        found += [Assumption(package=package, at=inner.at) for package in packages]
    return found


def _subdirs(package: VirtualPackage, subdirs: list[str]) -> list[str]:
    """Those of ``subdirs`` that can have ``package``."""
    if package.name == "__archspec":
        other = next((place for place, names in _ARCHITECTURES.items() if names.match(package.build)), None)
        return [one for one in subdirs if (one == other if other else one.endswith("-64"))]
    if package.name.startswith("__cuda"):
        return [one for one in subdirs if not one.startswith("osx-")]
    return [one for one in subdirs if one.startswith(_OF_FAMILY.get(package.name, ""))]


def _keep_highest(found: dict[tuple[str, str], Assumption], one: Assumption) -> None:
    subdir = (one.platforms or ("",))[0]
    known = found.get((subdir, one.package.name))
    if known is None or _version(known.package) < _version(one.package):
        found[subdir, one.package.name] = one


def _version(package: VirtualPackage) -> Version:
    try:
        return Version(package.version)
    except InvalidVersion:
        return Version("0")
