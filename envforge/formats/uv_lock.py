"""``uv.lock``: uv's universal lockfile, version 1 in all its revisions; it is read and not written.

A graph: which packages count is decided by walking it from the project on, on each target anew.  Goals: what
uv would install on the target is what is locked; the project itself, and what comes from a repository or a
directory, is named and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envforge import __version__
from envforge.errors import InputError
from envforge.formats._fields import Fields, describe, redacted
from envforge.formats._toml import parse
from envforge.model.foreign import Choice, Edge, ForeignFile, ForeignLock, ForeignPypi
from envforge.model.lockfile import canonical_name

__all__ = ["VERSION", "read"]

VERSION = 1
"""The version of the format; a revision adds keys only."""
_REMEDY = "write it anew: uv lock   # or take the file from version control as it was"
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_OURS = ("editable", "virtual", "directory")
_LENGTHS = {"sha384": 96, "sha512": 128, "md5": 32, "blake2b": 128, "sha1": 40}


def read(text: str, *, source: str) -> ForeignLock:
    """The graph in ``text``, with the project's groups and extras as groups.

    :raises InputError: if it is no uv.lock, or one of another version.
    """
    document = parse(text, source=source)
    try:
        _check_version(document.get("version"))
        return _Reading(document, source).lock()
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error.inside(source) from None


def _check_version(version: object) -> None:
    if type(version) is not int:
        raise InputError(f"{describe(version)} where the version number is needed", at="version")
    if version != VERSION:
        raise InputError(
            f"the uv.lock has version {version}, and envforge {__version__} reads version {VERSION}",
            at="version",
            do="use a newer envforge" if version > VERSION else _REMEDY,
        )


def _open(value: object, place: str) -> Fields:
    return Fields(value, frozenset(value) if isinstance(value, dict) else frozenset(), place)


@dataclass
class _Reading:
    document: Mapping[str, Any]
    source: str
    notes: list[str] = field(default_factory=list)

    def lock(self) -> ForeignLock:
        packages = self.document.get("package", [])
        if not isinstance(packages, list):
            raise InputError(f"{describe(packages)} where a list is needed", at="package")
        entries = [_open(value, f"package[{index}]") for index, value in enumerate(packages)]
        roots = self._roots(entries)
        read = [self._package(entry, f"package[{index}]") for index, entry in enumerate(entries)]
        indexes = dict.fromkeys(one.index for one in read if one.index is not None)
        name = roots[0].text("name") if len(roots) == 1 else None
        return ForeignLock(
            kind=f"uv.lock {VERSION}",
            pypi=tuple(read),
            name=name,
            indexes=tuple(indexes),
            requires_python=self._requires_python(),
            choices=self._choices(roots),
            graph=True,
            asked_pip=tuple(_asked(roots)),
            notes=tuple(self.notes),
        )

    def _requires_python(self) -> str | None:
        top = _open(self.document, "")
        return top.text("requires-python") if "requires-python" in top else None

    def _roots(self, entries: Sequence[Fields]) -> list[Fields]:
        """The project in the lockfile's directory, else all members of the workspace."""
        manifest = _open(self.document.get("manifest", {}), "manifest")
        members = set(manifest.texts("members")) if "members" in manifest else set()
        ours = [entry for entry in entries if any(key in _source(entry) for key in _OURS)]
        here = [entry for entry in ours if "." in (_source(entry).get(key) for key in _OURS)]
        found = here or [entry for entry in ours if entry.text("name") in members] or ours
        if not found:
            raise InputError("there is no project in it, so nothing says what is needed", at="package")
        if len(found) > 1:
            names = ", ".join(sorted(entry.text("name") for entry in found))
            self.notes.append(
                f"the workspace has several members, which are locked together: {redacted(names)}"
            )
        return found

    def _choices(self, roots: Sequence[Fields]) -> tuple[Choice, ...]:
        """``main`` is what the project needs; groups and extras add to it."""
        edges: dict[str, list[Edge]] = {"main": []}
        active: dict[str, list[str]] = {"main": []}
        for root in roots:
            name = root.text("name")
            edges["main"] += self._edges(root.values.get("dependencies", []), f"{name}.dependencies")
            for key, kind in (("optional-dependencies", "extra"), ("dev-dependencies", "group")):
                table = _open(root.values.get(key, {}), f"{name}.{key}")
                for group, values in table.values.items():
                    edges.setdefault(group, []).extend(self._edges(values, f"{name}.{key}.{group}"))
                    # How uv writes into a marker that a group or an extra is asked for.
                    active.setdefault(group, []).append(f"{kind}-{len(name)}-{name}-{group}")
        return tuple(
            Choice(name=group, roots=tuple(edges[group]), extras=tuple(active[group])) for group in edges
        )

    def _edges(self, values: object, at: str) -> list[Edge]:
        if not isinstance(values, list):
            raise InputError(f"{describe(values)} where a list is needed", at=at)
        found = []
        for index, value in enumerate(values):
            entry = _open(value, f"{at}[{index}]")
            extras = entry.texts("extra") if "extra" in entry else ()
            found.append(
                Edge(
                    name=canonical_name(entry.text("name")),
                    version=entry.text("version") if "version" in entry else None,
                    extras=extras,
                    marker=entry.text("marker") if "marker" in entry else None,
                )
            )
        return found

    def _package(self, entry: Fields, at: str) -> ForeignPypi:
        name, where = entry.text("name"), _source(entry)
        origin = "a repository" if "git" in where else None
        if any(key in where for key in _OURS):
            origin = "a directory"
        files = []
        if origin is None:
            sdist = entry.values.get("sdist")
            files = [_file(one, where, f"{at}.wheels") for one in _list(entry, "wheels")]
            files += [] if sdist is None else [_file(sdist, where, f"{at}.sdist")]
        markers = entry.texts("resolution-markers") if "resolution-markers" in entry else ()
        optional = _open(entry.values.get("optional-dependencies", {}), f"{at}.optional-dependencies")
        return ForeignPypi(
            name=name,
            version=entry.text("version") if "version" in entry else "",
            files=tuple(file for file in files if file is not None),
            marker=" or ".join(f"({marker})" for marker in markers) or None,
            groups=None,
            needs=tuple(self._edges(entry.values.get("dependencies", []), f"{at}.dependencies")),
            extras={
                extra: tuple(self._edges(values, f"{at}.optional-dependencies.{extra}"))
                for extra, values in optional.values.items()
            },
            index=str(where["registry"]) if "://" in str(where.get("registry")) else None,
            source=origin,
            at=f"{self.source}: {at}",
        )


def _list(entry: Fields, key: str) -> Iterable[object]:
    return entry.each(key, lambda one: one) if key in entry else ()


def _source(entry: Fields) -> Mapping[str, object]:
    value = entry.values.get("source", {})
    if not isinstance(value, dict):
        raise entry.wrong("source", "a table")
    return value


def _file(value: object, where: Mapping[str, object], at: str) -> ForeignFile | None:
    entry = _open(value, at)
    url = entry.text("url") if "url" in entry else where.get("url")
    if not isinstance(url, str):  # a file of a directory: nobody else has it
        return None
    sha256 = None
    if "hash" in entry:
        text = entry.text("hash")
        match = _HASH.fullmatch(text)
        kind, _, digest = text.partition(":")
        if match is None and len(digest) != _LENGTHS.get(kind):
            raise entry.wrong("hash", "sha256:HEX")
        sha256 = match[1].lower() if match else None
    return ForeignFile(filename=None, url=url.partition("#")[0], sha256=sha256)


def _asked(roots: Sequence[Fields]) -> Iterable[str]:
    """The project's own requirements, as far as uv notes them."""
    for root in roots:
        metadata = _open(root.values.get("metadata", {}), "metadata")
        for value in _list(metadata, "requires-dist"):
            entry = _open(value, "metadata.requires-dist")
            marker = entry.text("marker") if "marker" in entry else ""
            if "extra ==" in marker or any(
                key in entry for key in ("git", "directory", "editable", "virtual")
            ):
                continue
            extras = entry.texts("extras") if "extras" in entry else ()
            text = entry.text("name") + (f"[{','.join(extras)}]" if extras else "")
            text += entry.text("specifier") if "specifier" in entry else ""
            yield f"{text} ; {marker}" if marker else text
