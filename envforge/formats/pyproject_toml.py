"""``pyproject.toml``: what a project needs, as requirements; not the project itself.

Follows PEP 621 and PEP 735, conda-lock for ``[tool.conda-lock]``, pixi for ``[tool.pixi]``, Poetry for
``[tool.poetry]``, and uv for ``[tool.uv.sources]`` and ``[[tool.uv.index]]``.  Each extra and each dependency
group becomes a group.  With ``[tool.pixi]`` it is pixi that says which of them belong into the environment.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envforge.errors import InputError
from envforge.formats._draft import Around, Draft, Place, check_group
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import PipReader, expanded
from envforge.formats._poetry_tables import PoetryTables
from envforge.formats._requirement import check_index, requirement_text
from envforge.formats._tables import conda_text, strings
from envforge.formats._toml import Node, read_toml
from envforge.formats._uv_tables import UvTables
from envforge.formats.pixi_toml import read_manifest
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import check_platform
from envforge.model.spec import Line

__all__ = ["has_dependencies", "read"]

_CONDA_LOCK = frozenset(
    ("channels", "platforms", "dependencies", "pip-repositories", "allow-pypi-requests")
    + ("default-non-conda-source", "skip-non-conda-lock")
)
_DYNAMIC = ("dependencies", "optional-dependencies")
_PLACES = (
    ("project", "dependencies"),
    ("project", "optional-dependencies"),
    ("project", "dynamic"),
    ("dependency-groups",),
    ("tool", "conda-lock"),
    ("tool", "pixi"),
    ("tool", "uv", "dev-dependencies"),
    ("tool", "pdm", "dev-dependencies"),
    ("tool", "poetry", "dependencies"),
    ("tool", "poetry", "group"),
)


def has_dependencies(text: str) -> bool:
    """Whether a pyproject.toml is a specification, and not only the settings of tools."""
    try:
        root = read_toml(text, source="pyproject.toml")
        return any(root.get(*keys) is not None for keys in _PLACES)
    except InputError:
        return True  # the error is for whoever reads it


def read(text: str, *, source: str, around: Around | None = None) -> Draft:
    """What ``text`` says that the project needs.

    :param source: the file's name, for errors, and for what its paths are relative to.
    :raises InputError: if something in it cannot be used, with the line.
    """
    root = read_toml(text, source=source)
    reader = _Reader(root=root, draft=Draft(source=source), around=around or Around())
    reader.read()
    return reader.draft


@dataclass(kw_only=True)
class _Reader:
    """One file while it is read; ``features`` are those of a pixi environment, ``None`` without pixi."""

    root: Node
    draft: Draft
    around: Around
    features: tuple[str, ...] | None = None
    extras: dict[str, list[Node]] = field(default_factory=dict)
    groups: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uv = UvTables(self.root, self.draft, self.around)
        self.pip = PipReader(part=self.draft.pip, around=self.around)

    def read(self) -> None:
        self.extras, self.groups = self.named_extras(), self.named_groups()
        self.read_project()
        self.read_poetry()
        pixi, conda_lock = self.root.get("tool", "pixi"), self.root.get("tool", "conda-lock")
        if pixi is not None:
            self.features = read_manifest(pixi, self.draft, self.around, [*self.extras, *self.groups])
        if conda_lock is not None:
            self.read_conda_lock(conda_lock)
        if conda_lock is None or not self.says(conda_lock, "skip-non-conda-lock"):
            self.uv.read()
            self.read_main()
            for name, items in self.extras.items():
                self.read_list(items, name, ())
            for name in self.groups:
                self.read_group(name, name, ())
        draft = self.draft
        if not (draft.conda or draft.pip.lines):
            self.check_nothing()

    def named_extras(self) -> dict[str, list[Node]]:
        node = self.root.get("project", "optional-dependencies")
        return {name: inner.items() for name, inner in (node.table() if node else {}).items()}

    def named_groups(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for keys in (("dependency-groups",), ("tool", "pdm", "dev-dependencies")):
            node = self.root.get(*keys)
            found |= node.table() if node is not None else {}
        node = self.root.get("tool", "uv", "dev-dependencies")
        if node is not None:
            found.setdefault("dev", node)
        return found

    def read_project(self) -> None:
        name = self.root.get("project", "name")
        self.draft.name = name.text("a name") if name is not None else None
        node = self.root.get("project", "requires-python")
        if node is not None:
            self.draft.requires_python.append((_specifier(node), node.at))

    def read_poetry(self) -> None:
        """``[tool.poetry]``, where nothing says to pass it over; pixi does not look at it."""
        conda_lock = self.root.get("tool", "conda-lock")
        skipped = conda_lock is not None and self.says(conda_lock, "skip-non-conda-lock")
        if not skipped and self.root.get("tool", "pixi") is None:
            own = self.root.get("project", "dependencies")
            PoetryTables(root=self.root, draft=self.draft, around=self.around).read(main=own is None)

    def read_conda_lock(self, table: Node) -> None:
        """``[tool.conda-lock]``."""
        for key, node in table.table().items():
            if key not in _CONDA_LOCK:
                close = get_close_matches(key, sorted(_CONDA_LOCK), n=1, cutoff=0.8)
                if close:
                    raise node.error(f"unknown key {redacted(key)!r}", do=f"did you mean {close[0]}?")
                self.around.note(f"{node.at}: {redacted(key)} is not known and not read")
        draft = self.draft
        draft.channels += [one for one in strings(table.get("channels")) if one != "nodefaults"]
        for item in table.each("platforms"):
            draft.platforms.append(check_platform(item.text("a platform"), at=item.at))
        for item in table.each("pip-repositories"):
            draft.pip.repositories.append(_indexed(item, self.around))
        if table.get("allow-pypi-requests") is not None:
            draft.pip.allow_pypi = self.says(table, "allow-pypi-requests")
        dependencies = table.get("dependencies")
        for name, node in (dependencies.table() if dependencies else {}).items():
            if isinstance(node.value, dict) and node.value.get("source") == "pypi":
                continue  # says where a requirement of [project] is from: that is where it is from
            self.draft.conda.append(Line(text=conda_text(name, node), at=node.at))
        source = table.get("default-non-conda-source")
        if source is None and self.root.get("project", "dependencies") is not None:
            self.around.note(
                f"{table.at}: the dependencies of [project] are requirements of PyPI, "
                "met by conda where it can; conda-lock takes them from conda"
            )

    def says(self, table: Node, key: str) -> bool:
        node = table.get(key)
        return node is not None and node.boolean()

    def read_main(self) -> None:
        unknown = [item for item in self.root.each("project", "dynamic") if item.value in _DYNAMIC]
        for item in unknown:
            if not self.read_dynamic(str(item.value)):
                self.around.note(f"{item.at}: {item.value} that a build computes are not read")
        node = self.root.get("project", "dependencies")
        if node is not None and (self.features is None or "default" in self.features):
            self.read_list(node.items(), "main", ())

    def read_dynamic(self, key: str) -> bool:
        """What setuptools reads from requirements files."""
        node = self.root.get("tool", "setuptools", "dynamic", key)
        if node is None:
            return False
        tables = {"main": node} if key == "dependencies" else node.table()
        for group, table in tables.items():
            group = self.group_of(group) or ""
            for item in strings(table.get("file")) if group else ():
                place = Place(source=self.draft.source, at=table.at, group=group)
                self.pip.read_line(f"-r '{item}'", place)
        return True

    def group_of(self, name: str) -> str | None:
        """The group of what an extra or a dependency group holds; ``None`` if pixi leaves it out."""
        if self.features is None or name == "main":
            return name
        return "main" if name in self.features else None

    def read_list(self, items: list[Node], name: str, through: tuple[str, ...]) -> None:
        """Requirements of [project] or of one of its extras; extras of the project itself are put in."""
        group = self.group_of(name)
        for item in items if group is not None else ():
            text = item.text("a requirement")
            own = self.own_extras(text)
            if own is None:
                self.add(text, item, check_group(str(group), at=item.at))
                continue
            for extra in sorted(own):
                found = {canonical_name(key): inner for key, inner in self.extras.items()}
                wanted = canonical_name(extra)
                if wanted not in found:
                    raise item.error(
                        f"the project has no extra {redacted(extra)!r}", do=f"correct {redacted(text)!r}"
                    )
                if wanted not in through:
                    self.read_list(found[wanted], name, (*through, wanted))

    def own_extras(self, text: str) -> Collection[str] | None:
        """The extras that a requirement of the project itself asks for; ``None`` for any other."""
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            return None
        own = self.root.get("project", "name")
        if own is None or canonical_name(requirement.name) != canonical_name(own.text("a name")):
            return None
        return requirement.extras

    def read_group(self, name: str, into: str, through: tuple[str, ...]) -> None:
        """A dependency group, with those that it includes."""
        group = self.group_of(into)
        if group is None:
            return
        for item in self.groups[name].items():
            if isinstance(item.value, str):
                text = item.text("a requirement")
                own = self.own_extras(text)
                if own is None:
                    self.add(text, item, check_group(group, at=item.at))
                else:
                    self.read_list([item], into, ())
                continue
            included = item.known(frozenset(("include-group",))).get("include-group")
            if included is None:
                raise item.wrong("a requirement", do='write "NAME", or {include-group = "NAME"}')
            self.read_group(self.included(included, (*through, name)), into, (*through, name))

    def included(self, node: Node, through: tuple[str, ...]) -> str:
        wanted = node.text("a group")
        found = next((key for key in self.groups if canonical_name(key) == canonical_name(wanted)), None)
        if found is None:
            raise node.error(
                f"there is no dependency group {redacted(wanted)!r}", do="write it below [dependency-groups]"
            )
        if found in through:
            raise node.error(
                f"the dependency group {redacted(found)} includes itself", do="remove one of the includes"
            )
        return found

    def add(self, text: str, item: Node, group: str) -> None:
        place = Place(source=self.draft.source, at=item.at, group=group)
        try:
            text = self.uv.with_source(requirement_text(text, self.draft.source), place)
        except InputError as error:
            error.at = error.at or item.at
            raise
        line = place.line(text)
        if line not in self.draft.pip.lines:
            self.draft.pip.lines.append(line)

    def check_nothing(self) -> None:
        if not any(self.root.get(*keys) is not None for keys in _PLACES):
            raise InputError(
                "there are no dependencies", at=self.draft.source, do="write [project] dependencies = [ … ]"
            )


def _specifier(node: Node) -> str:
    text = node.text("a version of Python")
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise node.error(
            f"{redacted(text)!r} is no version of Python", do='write requires-python = ">=3.10"'
        ) from None
    return text


def _indexed(node: Node, around: Around) -> str:
    try:
        return check_index(expanded(node.text("the URL of an index"), around.variables))
    except InputError as error:
        error.at = error.at or node.at
        raise
