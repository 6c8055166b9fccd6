"""``[tool.poetry]`` of a pyproject.toml: what a project needs in Poetry's words.

Follows Poetry's documentation of the file.  Where there is a ``[project]`` with dependencies, those count,
and what Poetry says beside them of the same projects tells where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from envforge.errors import InputError
from envforge.formats._draft import PYPI, Around, Draft, Place, check_group
from envforge.formats._fields import redacted
from envforge.formats._poetry_ranges import poetry_range, python_marker
from envforge.formats._requirement import check_index
from envforge.formats._tables import direct_reference, requirement_of
from envforge.formats._toml import Node
from envforge.model.lockfile import canonical_name

__all__ = ["PoetryTables"]

_KEYS = frozenset(
    ("version", "extras", "markers", "python", "platform", "optional", "allow-prereleases", "source")
    + ("git", "branch", "tag", "rev", "subdirectory", "path", "file", "url", "develop")
)


@dataclass(kw_only=True)
class PoetryTables:
    """Reads what Poetry's tables say into ``draft``."""

    root: Node
    draft: Draft
    around: Around
    indexes: dict[str, str] = field(default_factory=dict)

    def read(self, *, main: bool) -> None:
        """Add the dependencies and the sources.

        :param main: whether the project's own dependencies are written here, and not in ``[project]``.
        :raises InputError: if something cannot be used, with the line.
        """
        table = self.root.get("tool", "poetry")
        if table is None:
            return
        self.read_sources(table)
        own = table.get("name")
        if self.draft.name is None and own is not None and own.value:
            self.draft.name = own.text("a name")
        if main:
            self.read_main(table)
        else:
            self.read_beside(table)
        groups = table.get("group")
        for group, inner in groups.table().items() if groups is not None else ():
            for name, node in self.table(inner, "dependencies"):
                self.add(name, node, check_group(group, at=node.at))
        for name, node in self.table(table, "dev-dependencies"):
            self.add(name, node, "dev")

    def read_main(self, table: Node) -> None:
        extras = self.extras(table)
        for name, node in self.table(table, "dependencies"):
            if canonical_name(name) != "python":
                self.add_main(name, node, extras)
            elif specifier := self.specifier(name, node):
                self.draft.requires_python.append((specifier, node.at))

    def read_beside(self, table: Node) -> None:
        """What is said of dependencies that [project] has: where they come from."""
        for name, node in self.table(table, "dependencies"):
            inner = node.table() if isinstance(node.value, dict) else {}
            if "source" in inner:
                self.name_index(name, inner["source"])
            if direct_reference(inner):
                self.around.note(
                    f"{node.at}: where {redacted(name)} comes from is not followed: "
                    "write it in [project], as NAME @ URL"
                )

    @staticmethod
    def table(node: Node, key: str) -> Iterator[tuple[str, Node]]:
        inner = node.get(key)
        yield from inner.table().items() if inner is not None else ()

    def extras(self, table: Node) -> dict[str, list[str]]:
        """The extras that each optional dependency is in."""
        found: dict[str, list[str]] = {}
        for extra, node in self.table(table, "extras"):
            for item in node.items():
                name = canonical_name(item.text("the name of a dependency"))
                found.setdefault(name, []).append(check_group(extra, at=item.at))
        return found

    def read_sources(self, table: Node) -> None:
        """``[[tool.poetry.source]]``: one of them being the main one, PyPI is none unless it is named."""
        primary: list[tuple[str, str]] = []
        for node in table.each("source"):
            inner = node.table()
            name = inner["name"].text("a name") if "name" in inner else ""
            url = PYPI if name.lower() == "pypi" and "url" not in inner else self.url(inner.get("url", node))
            self.indexes[name] = url
            priority = inner["priority"].value if "priority" in inner else None
            if "default" in inner and inner["default"].boolean():
                priority = "default"
            if priority in ("secondary", "supplemental") or (
                priority is None and "secondary" in inner and inner["secondary"].boolean()
            ):
                self.draft.pip.extra.append(url)
            elif priority != "explicit":
                primary.insert(0 if priority == "default" else len(primary), (url, node.at))
        if primary:
            (first, at), *others = primary
            self.draft.pip.set_main(first, at)
            self.draft.pip.extra += [url for url, _ in others]

    def add_main(self, name: str, node: Node, extras: dict[str, list[str]]) -> None:
        entries = node.items() if isinstance(node.value, list) else [node]
        optional = any(
            isinstance(one.value, dict) and "optional" in one.value and one.table()["optional"].boolean()
            for one in entries
        )
        for group in extras.get(canonical_name(name), []) if optional else ["main"]:
            self.add(name, node, group)

    def add(self, name: str, node: Node, group: str) -> None:
        """A dependency; one that is a list has another version for each of several markers."""
        for one in node.items() if isinstance(node.value, list) else [node]:
            place = Place(source=self.draft.source, at=one.at, group=group)
            self.draft.pip.lines.append(place.line(self.requirement(name, one, place)))

    def requirement(self, name: str, node: Node, place: Place) -> str:
        table = node.known(_KEYS) if isinstance(node.value, dict) else {"version": node}
        if "source" in table:
            self.name_index(name, table["source"])
        if "develop" in table and table["develop"].boolean():
            self.around.note(f"{node.at}: what is editable is locked as it is now: {redacted(name)}")
        markers = [table["markers"].text("a marker")] if "markers" in table else []
        if "python" in table:
            markers += python_marker(table["python"].text("versions of Python"))
        if "platform" in table:
            markers.append(f"sys_platform == '{table['platform'].text('a platform')}'")
        marker = " and ".join(f"({one})" for one in markers) if len(markers) > 1 else "".join(markers)
        if not direct_reference(table):
            version = table.get("version", node)
            table = table | {"version": replace(version, value=self.specifier(name, version))}
        return requirement_of(name, node, table, place, marker)

    def specifier(self, name: str, node: Node) -> str:
        text = node.text("a version", do=f'write {name} = "*"') if node.value != "" else "*"
        found = poetry_range(text)
        if found is None:
            raise node.error(
                f"{redacted(text)!r} of {redacted(name)} is no single range of versions",
                do='write it as "^1.2", or ">=1.2,<2"',
            )
        return found

    def name_index(self, name: str, node: Node) -> None:
        wanted = node.text("the name of a source")
        # conda-lock's word for "not from conda", which is where nothing of this table is from.
        if wanted.lower() == "pypi" and wanted not in self.indexes:
            return
        if wanted not in self.indexes:
            raise node.error(
                f"there is no source {redacted(wanted)!r}", do="write it as [[tool.poetry.source]]"
            )
        self.draft.pip.set_index_of(canonical_name(name), self.indexes[wanted], node.at)

    @staticmethod
    def url(node: Node) -> str:
        if isinstance(node.value, dict):
            raise node.error("a source without a URL", do='write url = "https://HOST/simple"')
        try:
            return check_index(node.text("the URL of an index"))
        except InputError as error:
            error.at = error.at or node.at
            raise
