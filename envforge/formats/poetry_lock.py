"""``poetry.lock``: Poetry's lockfile, versions 1.0 to 2.1 of the format (Poetry 1.0 to 2); it is read only.

It holds file names and hashes, and no URLs: an index finds the files.  Version 2.1 says of each package in
which groups and under which marker it counts; the ones before leave that to the graph, and what Poetry 1.5 to
1.8 wrote has no groups at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envforge import __version__
from envforge.errors import InputError
from envforge.formats._draft import PYPI
from envforge.formats._edges import edges_of
from envforge.formats._fields import Fields, describe
from envforge.formats._poetry_ranges import poetry_range, python_marker
from envforge.formats._toml import parse
from envforge.model.foreign import Choice, Edge, ForeignFile, ForeignLock, ForeignPypi
from envforge.model.lockfile import canonical_name

__all__ = ["NEWEST", "read"]

NEWEST = (2, 1)
"""The newest version of the format; the first one is 1.0."""
_NEWEST_TEXT = ".".join(map(str, NEWEST))
_REMEDY = "write it anew: poetry lock   # or take the file from version control as it was"
_HASH = re.compile(r"(?:(?P<kind>[a-z0-9]+):)?(?P<digest>[0-9a-fA-F]+)")
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128, "md5": 32, "sha1": 40}
_EXTRA = re.compile(r"""\bextra\s*==\s*('[^']*'|"[^"]*")""")
_ALWAYS = "python_version >= '2'"
_NO_GROUPS = "Poetry before 2 wrote no groups into it, so that every package is taken for one of main"


def read(text: str, *, source: str) -> ForeignLock:
    """The packages in ``text``.

    :raises InputError: if it is no poetry.lock, or one of a newer version.
    """
    document = parse(text, source=source)
    try:
        version = _version(document)
        return _Reading(document, version, source).lock()
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error.inside(source) from None


def _open(value: object, place: str) -> Fields:
    return Fields(value, frozenset(value) if isinstance(value, dict) else frozenset(), place)


def _version(document: Mapping[str, Any]) -> tuple[int, int]:
    metadata = _open(document.get("metadata"), "metadata")
    text = metadata.text("lock-version") if "lock-version" in metadata else "1.0"
    match = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", text)
    if match is None:
        raise InputError(f"{describe(text)} where a version is needed", at="metadata.lock-version")
    version = int(match[1]), int(match[2])
    if version[0] > NEWEST[0]:
        raise InputError(
            f"the poetry.lock has version {text}, and envforge {__version__} reads up to {_NEWEST_TEXT}",
            at="metadata.lock-version",
            do="use a newer envforge",
        )
    return version


@dataclass
class _Reading:
    document: Mapping[str, Any]
    version: tuple[int, int]
    source: str
    notes: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def lock(self) -> ForeignLock:
        packages = self.document.get("package", [])
        if not isinstance(packages, list):
            raise InputError(f"{describe(packages)} where a list is needed", at="package")
        metadata = _open(self.document["metadata"], "metadata")
        entries = [_open(value, f"package[{index}]") for index, value in enumerate(packages)]
        files = metadata.values.get("files")
        whole = _open(files, "metadata.files") if files is not None else None
        # Poetry locks no setuptools and no distribute, whatever needs them; nor what an extra would bring.
        self.names = {canonical_name(entry.text("name")) for entry in entries}
        by_marker = any("groups" in entry for entry in entries) or self.version >= (2, 1)
        read: list[ForeignPypi] = []
        for index, entry in enumerate(entries):
            at = f"package[{index}]"
            one = self._package(entry, self._files(entry, whole, at), at)
            read += self._grouped(one, entry, at) if by_marker else [one]
        python = metadata.text("python-versions") if "python-versions" in metadata else "*"
        return ForeignLock(
            kind=f"poetry.lock {self.version[0]}.{self.version[1]}",
            pypi=tuple(read),
            indexes=self._indexes(entries),
            requires_python=poetry_range(python) or None,
            choices=self._extras() if by_marker else self._guessed(entries, read),
            graph=not by_marker,
            notes=tuple(self.notes),
        )

    def _files(self, entry: Fields, whole: Fields | None, at: str) -> tuple[ForeignFile, ...]:
        """The files of a package; up to version 1.1 they stand together at the end."""
        values: object = entry.values.get("files")
        place = f"{at}.files"
        if values is None and whole is not None:
            values, place = whole.values.get(entry.text("name"), []), f"metadata.files.{entry.text('name')}"
        if values is None:
            values = []
        if not isinstance(values, list):
            raise InputError(f"{describe(values)} where a list is needed", at=place)
        found = [_file(value, f"{place}[{index}]") for index, value in enumerate(values)]
        return tuple(file for file in found if file is not None)

    def _package(self, entry: Fields, files: tuple[ForeignFile, ...], at: str) -> ForeignPypi:
        source = _open(entry.values.get("source", {}), f"{at}.source")
        kind = source.text("type") if "type" in source else ""
        origin = {"git": "a repository", "directory": "a directory", "file": "a directory"}.get(kind)
        if kind == "url":
            url = source.text("url").partition("#")[0]
            files = tuple(ForeignFile(filename=f.filename, url=url, sha256=f.sha256) for f in files[:1])
            files = files or (ForeignFile(filename=None, url=url),)
        return ForeignPypi(
            name=canonical_name(entry.text("name")),
            version=entry.text("version"),
            files=files,
            marker=entry.text("marker") if "marker" in entry else None,  # of Poetry 1.0
            groups=None,
            needs=tuple(self._needs(entry, at)),
            source=origin,
            at=f"{self.source}: {at}",
        )

    def _needs(self, entry: Fields, at: str) -> Iterator[Edge]:
        table = _open(entry.values.get("dependencies", {}), f"{at}.dependencies")
        for name, value in table.values.items():
            if canonical_name(name) not in self.names:
                continue
            for one in value if isinstance(value, list) else [value]:
                yield _edge(name, one, f"{at}.dependencies.{name}")

    def _grouped(self, one: ForeignPypi, entry: Fields, at: str) -> Iterator[ForeignPypi]:
        """Version 2.1: a package counts in its groups, in each under its marker."""
        from dataclasses import replace

        groups = entry.texts("groups") if "groups" in entry else ("main",)
        markers = entry.values.get("markers")
        for group in groups:
            text = markers.get(group) if isinstance(markers, dict) else markers
            if text is not None and not isinstance(text, str):
                raise InputError(f"{describe(text)} where a marker is needed", at=f"{at}.markers")
            # Only what is in main can hang on the project's extras.
            yield replace(one, marker=text, groups=None if group == "main" else (group,))

    def _extras(self) -> tuple[Choice, ...]:
        table = _open(self.document.get("extras", {}), "extras")
        return (
            Choice(name="main"),
            *(Choice(name=extra, extras=(canonical_name(extra),)) for extra in table.values),
        )

    def _guessed(self, entries: Sequence[Fields], read: Sequence[ForeignPypi]) -> tuple[Choice, ...]:
        """Versions before 2.1: what no other package of its group needs is what was asked for."""
        groups: dict[str, list[ForeignPypi]] = {}
        optional = set()
        for entry, one in zip(entries, read, strict=True):
            if entry.values.get("optional") is True:
                optional.add(one.name)
                continue
            group = entry.text("category") if "category" in entry else "main"
            groups.setdefault(group, []).append(one)
        if not any("category" in entry for entry in entries):
            self.notes.append(_NO_GROUPS)
        choices = [
            Choice(name=group, roots=tuple(Edge(name=name) for name in _roots(groups[group])))
            for group in dict.fromkeys(["main", *sorted(groups)])
            if group in groups
        ]
        table = _open(self.document.get("extras", {}), "extras")
        for extra, names in table.values.items():
            lines = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
            roots = tuple(edge for edge in edges_of(map(_bare, lines)) if edge.name in optional)
            choices.append(Choice(name=extra, roots=roots))
        return tuple(choices)

    def _indexes(self, entries: Sequence[Fields]) -> tuple[str, ...]:
        """Where the packages were found; PyPI first if some were found there."""
        found: dict[str, None] = {}
        for index, entry in enumerate(entries):
            source = _open(entry.values.get("source", {}), f"package[{index}].source")
            if not source.values:
                found[PYPI] = None
            elif source.values.get("type") == "legacy":
                found[source.text("url")] = None
        return tuple(sorted(found, key=lambda url: url != PYPI))


def _bare(text: str) -> str:
    """The name of a requirement that Poetry may have written in its own way."""
    match = re.match(r"[A-Za-z0-9._-]+", text)
    return match[0] if match else text


def _roots(packages: Sequence[ForeignPypi]) -> list[str]:
    needs = {one.name: {edge.name for edge in one.needs or ()} for one in packages}
    needed = {other for name, others in needs.items() for other in others if other != name}
    found = [name for name in sorted(needs) if name not in needed]
    reached: set[str] = set()
    for name in [*found, *sorted(needs)]:
        if name not in reached and name not in found:  # a circle that nothing else needs
            found.append(name)
        todo = [name]
        while todo:
            current = todo.pop()
            if current not in reached:
                reached.add(current)
                todo += needs.get(current, ())
    return found


def _edge(name: str, value: object, at: str) -> Edge:
    if isinstance(value, str):
        return Edge(name=canonical_name(name), specifier=poetry_range(value) or "")
    entry = _open(value, at)
    text = entry.text("version") if "version" in entry else "*"
    markers = [entry.text("markers")] if "markers" in entry else []
    # Nothing says which extras were asked for; a package that is locked was needed.
    markers = [_EXTRA.sub(_ALWAYS, marker) for marker in markers]
    if "python" in entry:
        markers += list(python_marker(entry.text("python")))
    return Edge(
        name=canonical_name(name),
        extras=tuple(canonical_name(extra) for extra in entry.texts("extras")) if "extras" in entry else (),
        marker=" and ".join(f"({marker})" for marker in markers) or None,
        specifier=poetry_range(text) or "",
    )


def _file(value: object, at: str) -> ForeignFile | None:
    entry = _open(value, at)
    match = _HASH.fullmatch(entry.text("hash"))
    kind = (match["kind"] if match else None) or "sha256"
    if match is None or len(match["digest"]) != _LENGTHS.get(kind):
        raise entry.wrong("hash", "sha256:HEX")
    if kind != "sha256":
        return None
    return ForeignFile(filename=entry.text("file"), sha256=match["digest"].lower())
