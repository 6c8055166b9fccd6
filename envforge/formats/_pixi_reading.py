"""Reading ``pixi.lock``, versions 3 to 7; see :mod:`envforge.formats.pixi_lock`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envforge import __version__
from envforge.errors import InputError
from envforge.formats._collector import collector_paused
from envforge.formats._edges import edges_of
from envforge.formats._fields import Fields, describe, redacted
from envforge.formats._yaml import Unquoted, compose, plain
from envforge.formats.explicit_txt import from_url
from envforge.model.foreign import NOT_IMPORTED, ForeignConda, ForeignFile, ForeignLock, ForeignPypi
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import VirtualPackage

__all__ = ["NEWEST", "read"]

NEWEST = 7
_OLDEST = 3
_LIMIT = 100_000_000
_REMEDY = "write it anew: pixi lock   # or take the file from version control as it was"
_DEFAULT = "default"
_HEX = {"sha256": re.compile(r"[0-9a-fA-F]{64}"), "md5": re.compile(r"[0-9a-fA-F]{32}")}
_REMOTE = re.compile(r"(https?|file|s3|oci)://", re.IGNORECASE)
_REPOSITORY = re.compile(r"(git|hg|svn|bzr)\+")


@collector_paused()
def read(text: str, *, source: str, environment: str | None = None) -> ForeignLock:
    """The packages of one environment, and of others as groups where they only add to it.

    :param environment: which one; left out, ``default``, or the only one there is.
    :raises InputError: if it is no pixi.lock, one of a version that is not known, or lacks the environment.
    """
    value = plain(compose(text, source=source, limit=_LIMIT), source=source)
    try:
        return _Reading(_document(value), environment, source).lock()
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error if (error.at or "").startswith(source) else error.inside(source) from None


def _document(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a pixi.lock is needed", do="name the right file")
    version = value.get("version")
    if type(version) is not int:
        raise InputError(f"{describe(version)} where the version number is needed", at="version")
    if not _OLDEST <= version <= NEWEST:
        newer = version > NEWEST
        raise InputError(
            f"the pixi.lock has version {version}, and envforge {__version__} reads {_OLDEST} to {NEWEST}",
            at="version",
            do="use a newer envforge" if newer else _REMEDY,
        )
    return value


def _open(value: object, place: str) -> Fields:
    """A mapping in which a newer pixi may have put keys that are of no interest here."""
    known = frozenset(value) if isinstance(value, dict) else frozenset()
    return Fields(value, known, place)


def _word(value: object) -> str | None:
    """A text, also one that YAML takes for a number: ``version: 3.10``."""
    if isinstance(value, Unquoted):
        return value.text
    return str(value) if type(value) in (int, str) else None


@dataclass
class _Reading:
    document: dict[str, Any]
    wanted: str | None
    source: str
    notes: list[str] = field(default_factory=list)

    def lock(self) -> ForeignLock:
        if self.document["version"] < 4:
            return self._flat()
        environments = self._environments()
        name = self._chosen(environments)
        base = environments[name]
        subdirs, targets = self._platforms()
        groups = {name: "main"}
        if self.wanted is None:
            groups |= {other: other for other in environments if self._adds(environments, name, other)}
        self._tell_others(environments, groups)
        members = self._members(environments, groups, subdirs)
        conda, pypi = self._packages(members)
        return ForeignLock(
            kind=f"pixi.lock {self.document['version']}",
            conda=conda,
            pypi=pypi,
            name=None if name == _DEFAULT else name,
            channels=tuple(self._channels(base)),
            indexes=base.texts("indexes") if "indexes" in base else (),
            platforms=tuple(
                dict.fromkeys(
                    subdirs.get(key, key)
                    for key in self._packages_of(base, name)
                    if not subdirs or key in subdirs
                )
            ),
            targets=targets,
            notes=tuple(self.notes),
        )

    def _environments(self) -> dict[str, Fields]:
        value = self.document.get("environments")
        if not isinstance(value, dict) or not value:
            raise InputError(f"{describe(value)} where environments are needed", at="environments")
        return {name: _open(one, f"environments.{name}") for name, one in value.items()}

    def _chosen(self, environments: Mapping[str, Fields]) -> str:
        names = sorted(environments)
        if self.wanted is not None and self.wanted not in environments:
            raise InputError(
                f"there is no environment {redacted(self.wanted)!r}",
                at="environments",
                do=f"name one of: {redacted(', '.join(names))}",
            )
        if self.wanted is None and _DEFAULT not in names and len(names) > 1:
            raise InputError(
                "there are several environments, and none is the default",
                at="environments",
                do=f"name one with --environment: {redacted(', '.join(names))}",
            )
        return self.wanted or (_DEFAULT if _DEFAULT in names else names[0])

    def _packages_of(self, environment: Fields, name: str) -> dict[str, list[object]]:
        at = f"environments.{name}"
        if "packages" not in environment:
            return {}
        found = environment.items("packages", lambda items: items)
        for platform, items in found.items():
            if not isinstance(items, list):
                raise InputError(f"{describe(items)} where a list is needed", at=f"{at}.packages.{platform}")
        return found  # type: ignore[return-value]

    def _adds(self, environments: Mapping[str, Fields], base: str, other: str) -> bool:
        """Whether ``other`` holds all of ``base``, and something more: then it is a group."""
        if other == base:
            return False
        ours = self._packages_of(environments[base], base)
        theirs = self._packages_of(environments[other], other)
        everywhere = dict.fromkeys([*ours, *theirs])
        pairs = [({*map(_key, ours.get(p, []))}, {*map(_key, theirs.get(p, []))}) for p in everywhere]
        return all(one <= two for one, two in pairs) and any(one < two for one, two in pairs)

    def _tell_others(self, environments: Mapping[str, Fields], groups: Mapping[str, str]) -> None:
        left = sorted(set(environments) - set(groups))
        if left and self.wanted is None:
            self.notes.append(
                f"{NOT_IMPORTED}, for they do not only add to the {next(iter(groups))} environment: "
                f"{redacted(', '.join(left))}; name one with --environment"
            )

    def _platforms(self) -> tuple[dict[str, str], dict[str, str]]:
        """From the file's names of platforms to ours, and what is assumed of them."""
        subdirs: dict[str, str] = {}
        targets: dict[str, str] = {}
        for index, value in enumerate(self.document.get("platforms") or ()):
            entry = _open(value, f"platforms[{index}]")
            name = entry.text("name")
            subdir = entry.text("subdir") if "subdir" in entry else name
            if subdir in subdirs.values():
                self.notes.append(f"a second platform for {subdir} is not imported: {redacted(name)}")
                continue
            subdirs[name] = subdir
            if "virtual-packages" in entry:
                packages = entry.each("virtual-packages", lambda one: VirtualPackage.parse(str(one)))
                targets[subdir] = " ".join(str(_as_ours(package)) for package in packages)
        return subdirs, targets

    def _members(
        self,
        environments: Mapping[str, Fields],
        groups: Mapping[str, str],
        subdirs: Mapping[str, str],
    ) -> dict[tuple[str, str], dict[str, list[str]]]:
        """For each package the platforms that it is for, and there the groups."""
        members: dict[tuple[str, str], dict[str, list[str]]] = {}
        for name, group in groups.items():
            for platform, items in self._packages_of(environments[name], name).items():
                if subdirs and platform not in subdirs:
                    continue
                for item in items:
                    where = members.setdefault(_key(item), {})
                    where.setdefault(subdirs.get(platform, platform), []).append(group)
        return members

    def _packages(
        self, members: Mapping[tuple[str, str], Mapping[str, Sequence[str]]]
    ) -> tuple[tuple[ForeignConda, ...], tuple[ForeignPypi, ...]]:
        conda: list[ForeignConda] = []
        pypi: list[ForeignPypi] = []
        packages = self.document.get("packages")
        if not isinstance(packages, list):
            raise InputError(f"{describe(packages)} where a list is needed", at="packages")
        seen: set[tuple[str, str]] = set()
        unreached: dict[str, None] = {}
        for index, value in enumerate(packages):
            at = f"packages[{index}]"
            key = _key(value)
            where = members.get(key)
            if where is None or key in seen:
                continue
            seen.add(key)
            entry = _open(value, at)
            for platform, groups in where.items():
                kept = ("main",) if "main" in groups else tuple(groups)
                if key[0] == "pypi":
                    pypi.append(_pypi(entry, key[1], platform, kept, f"{self.source}: {at}"))
                elif _REMOTE.match(key[1]):
                    conda.append(_conda(entry, key[1], platform, kept, f"{self.source}: {at}"))
                else:
                    unreached[key[1]] = None
        if unreached:
            self.notes.append(
                f"{NOT_IMPORTED}, for it comes from no channel: {redacted(', '.join(unreached))}"
            )
        missing = [key[1] for key in members if key not in seen and key[0] in ("conda", "pypi")]
        if missing:
            raise InputError(f"no entry for {redacted(missing[0])}", at="packages")
        built = sorted({key[1] for key in members if key[0] not in ("conda", "pypi")})
        if built:
            self.notes.append(f"{NOT_IMPORTED}, for it is built from source: {redacted(', '.join(built))}")
        return tuple(conda), tuple(pypi)

    def _channels(self, environment: Fields) -> Sequence[str]:
        if "channels" not in environment:
            return ()
        return environment.each(
            "channels", lambda one: _open(one, "").text("url") if isinstance(one, dict) else str(one)
        )

    def _flat(self) -> ForeignLock:
        """Versions before 4: rows as conda-lock has them, with lists for dependencies."""
        metadata = _open(self.document.get("metadata"), "metadata")
        conda, pypi = [], []
        rows = self.document.get("package")
        if not isinstance(rows, list):
            raise InputError(f"{describe(rows)} where a list is needed", at="package")
        for index, value in enumerate(rows):
            at = f"package[{index}]"
            row = _open(value, at)
            hashes = value.get("hash") if isinstance(value.get("hash"), dict) else {}
            entry = {"sha256": hashes.get("sha256"), "md5": hashes.get("md5"), **value}
            entry["depends"] = entry["requires_dist"] = value.get("dependencies") or []
            platform, url = row.text("platform"), row.text("url")
            if value.get("manager") == "conda":
                conda.append(_conda(_open(entry, at), url, platform, ("main",), f"{self.source}: {at}"))
            else:
                pypi.append(_pypi(_open(entry, at), url, platform, ("main",), f"{self.source}: {at}"))
        return ForeignLock(
            kind=f"pixi.lock {self.document['version']}",
            conda=tuple(conda),
            pypi=tuple(pypi),
            channels=tuple(self._channels(metadata)),
            platforms=metadata.texts("platforms"),
        )


def _key(value: object) -> tuple[str, str]:
    """What kind of package, and where it is: what an environment and the list of packages agree on."""
    if isinstance(value, dict):
        kind = value.get("kind")
        if isinstance(kind, str):
            place = value.get("url", value.get("path"))
            if isinstance(place, str):
                return kind, place
        for name in ("conda", "pypi", "conda_source", "source"):
            if isinstance(value.get(name), str):
                return name, value[name]
        if value:
            name, place = next(iter(value.items()))
            return f"{name}?", str(place)
    raise InputError(f"{describe(value)} where a package is needed", at="packages")


def _hash(kind: str, value: object, at: str) -> str | None:
    if value is None or value == "":
        return None
    text = _word(value)
    if text is None or not _HEX[kind].fullmatch(text):
        raise InputError(f"{describe(value)} is no {kind}", at=f"{at}.{kind}")
    return text.lower()


def _conda(entry: Fields, url: str, platform: str, groups: tuple[str, ...], at: str) -> ForeignConda:
    said = entry.values
    named = from_url(url, platform, at)
    known = {key: _word(said[key]) for key in ("name", "version", "build") if said.get(key) is not None}
    for key, value in known.items():
        if not value or not value.isprintable() or any(c.isspace() for c in value):
            raise InputError(f"{describe(said[key])} where a {key} is needed", at=f"{at}.{key}")
    return ForeignConda(
        name=known.get("name") or named.name,
        version=known.get("version") or named.version,
        build=known.get("build") or named.build,
        platform=platform,
        url=url,
        sha256=_hash("sha256", said.get("sha256"), at),
        md5=_hash("md5", said.get("md5"), at),
        depends=entry.texts("depends") if "depends" in entry else (),
        groups=groups,
        at=at,
    )


def _pypi(entry: Fields, place: str, platform: str, groups: tuple[str, ...], at: str) -> ForeignPypi:
    said = entry.values
    name = entry.text("name")
    version = _word(said.get("version")) or ""
    requires = entry.texts("requires_dist") if "requires_dist" in entry else ()
    source = None
    if _REPOSITORY.match(place):
        source = "a repository"
    elif not _REMOTE.match(place) and not place.startswith("direct+"):
        source = "a directory"
    return ForeignPypi(
        name=canonical_name(name),
        version=version,
        files=(
            ForeignFile(
                filename=None,
                url=place.removeprefix("direct+").partition("#")[0],
                sha256=_hash("sha256", said.get("sha256"), at),
            ),
        ),
        platforms=(platform,),
        groups=groups,
        needs=edges_of(requires),
        index=entry.text("index") if "index" in entry else None,
        source=source,
        at=at,
    )


def _as_ours(package: VirtualPackage) -> VirtualPackage:
    """Pixi gives the microarchitecture the version 0, conda 1."""
    if package.name == "__archspec" and package.version == "0":
        return VirtualPackage(name=package.name, version="1", build=package.build)
    return package
