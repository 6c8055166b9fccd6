"""``[tool.uv]`` of a pyproject.toml: where requirements come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from packaging.markers import InvalidMarker, Marker
from packaging.requirements import InvalidRequirement, Requirement

from envforge.errors import InputError
from envforge.formats._draft import Around, Draft, Place
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import find_links
from envforge.formats._requirement import check_index, check_project_name, requirement_text
from envforge.formats._tables import checked_cutoff, requirement_of, strings
from envforge.formats._toml import Node
from envforge.model.lockfile import canonical_name

__all__ = ["UvTables"]

_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}


@dataclass
class UvTables:
    """Sources and indexes, by name."""

    root: Node
    draft: Draft
    around: Around
    indexes: dict[str, str] = field(default_factory=dict)
    sources: dict[str, Node] = field(default_factory=dict)

    def read(self) -> None:
        """Add what counts for all requirements.

        :raises InputError: if something cannot be used, with the line.
        """
        table = self.root.get("tool", "uv")
        if table is None:
            return
        for item in table.each("index"):
            self.read_index(item)
        sources = table.get("sources")
        if sources is not None:
            self.sources = {canonical_name(name): node for name, node in sources.table().items()}
        pip = self.draft.pip
        place = Place(source=self.draft.source, at=table.at)
        for url in strings(table.get("index-url")):
            pip.set_main(_checked(url, table), table.at)
        pip.extra += [_checked(url, table) for url in strings(table.get("extra-index-url"))]
        pip.find_links += [find_links(one, place.source) for one in strings(table.get("find-links"))]
        pip.no_binary += [
            check_project_name(name, at=table.at) for name in strings(table.get("no-binary-package"))
        ]
        newer = table.get("exclude-newer")
        if newer is not None:
            self.draft.exclude_newer = (checked_cutoff(newer), newer.at)
        prerelease = table.get("prerelease")
        pip.prerelease = pip.prerelease or (prerelease is not None and prerelease.value == "allow")
        for item in table.each("constraint-dependencies"):
            text = _placed(item)
            pip.constraints.append(place.moved(item.at).line(text))
        overrides = table.get("override-dependencies")
        if overrides is not None:
            self.around.note(f"{overrides.at}: override-dependencies are not followed")

    def read_index(self, node: Node) -> None:
        table = node.table()
        if "url" not in table:
            raise node.error("an index without a URL", do='write url = "https://HOST/simple"')
        url = _checked(table["url"].text("a URL"), table["url"])
        if "name" in table:
            self.indexes[table["name"].text("a name")] = url
        if "explicit" in table and table["explicit"].boolean():
            return
        if "default" in table and table["default"].boolean():
            self.draft.pip.set_main(url, node.at)
        else:
            self.draft.pip.extra.append(url)

    def with_source(self, text: str, place: Place) -> str:
        """``text``, from the source that is named for its project.

        :raises InputError: for a source that cannot be used.
        """
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # a path, a repository
            return text
        name = canonical_name(requirement.name)
        node = self.sources.get(name)
        if node is None or requirement.url is not None:
            return text
        node = self.one_of(node) if isinstance(node.value, list) else node
        if node is None:
            return text
        table = node.table()
        if "index" in table:
            self.draft.pip.set_index_of(name, self.index(table["index"]), table["index"].at)
            return text
        if "workspace" in table:
            raise node.error(
                f"{name} is a member of a workspace, and its directory is not looked for",
                do=f'write {name} = {{ path = "./DIRECTORY" }}',
            )
        source = {key: inner for key, inner in table.items() if key not in ("version", "extras")}
        extras = Node(value=sorted(requirement.extras), path=node.path, places=node.places)
        marker = str(requirement.marker) if requirement.marker is not None else ""
        return requirement_of(requirement.name, node, source | {"extras": extras}, place, marker)

    def index(self, node: Node) -> str:
        name = node.text("the name of an index")
        if name in self.indexes:
            return self.indexes[name]
        raise node.error(f"there is no index {redacted(name)!r}", do="write it as [[tool.uv.index]]")

    def one_of(self, node: Node) -> Node | None:
        """Of the sources of several platforms the one for Linux: a lock has one index for a project."""
        for item in node.items():
            marker = item.get("marker")
            if marker is None or self.on_linux(marker):
                if len(node.items()) > 1:
                    self.around.note(f"{item.at}: of several sources of {node.key}, the one for Linux counts")
                return item
        return None

    def on_linux(self, node: Node) -> bool:
        try:
            return Marker(node.text("a marker")).evaluate(_LINUX | {"extra": ""})
        except InvalidMarker:
            raise node.error(
                f"{redacted(node.text())!r} is no marker", do="write marker = \"sys_platform == 'linux'\""
            ) from None


def _checked(url: str, node: Node) -> str:
    try:
        return check_index(url)
    except InputError as error:
        error.at = error.at or node.at
        raise


def _placed(node: Node) -> str:
    try:
        return requirement_text(node.text("a requirement"), node.places.source)
    except InputError as error:
        error.at = error.at or node.at
        raise
