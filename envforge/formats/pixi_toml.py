"""``pixi.toml``: one environment of a pixi manifest; ``[tool.pixi]`` of a pyproject.toml is the same.

Follows pixi's reference of the manifest.  What only pixi does (tasks, activation, packages that it builds) is
left out; what would change the answer and cannot be followed is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from envforge.errors import InputError
from envforge.formats._draft import Around, Draft, Place, check_name
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import find_links
from envforge.formats._pixi_platforms import Workspace, is_a_part, read_platforms
from envforge.formats._requirement import check_index, check_project_name
from envforge.formats._tables import checked_cutoff, conda_text, requirement_of
from envforge.formats._toml import Node, read_toml
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import PLATFORMS
from envforge.model.spec import CHANNEL_PRIORITIES, Line

__all__ = ["read", "read_manifest"]

_DEFAULT = "default"
_CONDA = ("dependencies", "host-dependencies", "build-dependencies")
_PYPI = "pypi-dependencies"
_FEATURE = frozenset(
    (*_CONDA, _PYPI, "pypi-options", "system-requirements", "platforms", "channels", "channel-priority")
    + ("solve-strategy", "target", "tasks", "activation", "constraints", "dev")
)
_ENVIRONMENT = frozenset(("features", "solve-group", "no-default-feature"))
_ROOT = _FEATURE | {"workspace", "project", "feature", "environments", "package", "exclude-newer"} | {
    "pypi-exclude-newer", "tool", "$schema"
}  # fmt: skip
_PYPI_KEYS = frozenset(
    ("version", "extras", "index", "git", "rev", "tag", "branch", "subdirectory", "path", "editable", "url")
    + ("env-markers", "no-build-isolation")
)
_DATES = ("exclude-newer", "pypi-exclude-newer")
_SAID = {
    "dev": "what the packages of this table need is not read; write it as dependencies",
    "activation": "a lockfile holds no variables and scripts of an activation",
    "solve-strategy": "the newest versions are locked",
}


def read(text: str, *, source: str, around: Around | None = None) -> Draft:
    """What ``text`` says about one environment: ``around.environment``, else the default one.

    :param source: the file's name, for errors, and for what its paths are relative to.
    :raises InputError: if something in it cannot be used, with the line.
    """
    draft = Draft(source=source)
    read_manifest(read_toml(text, source=source), draft, around or Around())
    return draft


def read_manifest(root: Node, draft: Draft, around: Around, also: Collection[str] = ()) -> tuple[str, ...]:
    """Add to ``draft`` what a manifest says; return the names of the features that are in the environment.

    :param also: the features that a pyproject.toml has beside those of the manifest.
    :raises InputError: if something in it cannot be used, with the line.
    """
    workspace = root.get("workspace") or root.get("project")
    if workspace is None:
        raise root.error(
            "there is no [workspace]: this manifest is a part of another one",
            do="name the pixi.toml that has it",
        )
    _check_keys(root, _ROOT, around)
    features = _features(root, around, also)
    name = workspace.get("name")
    if name is not None:
        draft.name = check_name(re.sub(r"\s+", "-", name.text("a name")), at=name.at)
    reader = _Reader(draft=draft, around=around)
    inline = root.get("environments", around.environment or _DEFAULT)
    if inline is not None and isinstance(inline.value, dict):
        _check_keys(inline, _FEATURE | _ENVIRONMENT, around)
        reader.parts.append(inline)
    for feature in features:
        if feature == _DEFAULT:
            reader.parts.append(root)
        elif (found := root.get("feature", feature)) is not None:
            _check_keys(found, _FEATURE, around)
            reader.parts.append(found)
    reader.read(workspace)
    return features


def _features(root: Node, around: Around, also: Collection[str]) -> tuple[str, ...]:
    """The names of the features of the environment that is asked for."""
    wanted = around.environment or _DEFAULT
    table = root.get("environments")
    environments = table.table() if table is not None else {}
    chosen = environments.get(wanted)
    if chosen is None:
        if wanted != _DEFAULT:
            known = ", ".join(dict.fromkeys([_DEFAULT, *environments]))
            raise (table or root).error(
                f"there is no environment {redacted(wanted)!r}", do=f"name one of: --environment {known}"
            )
        return (_DEFAULT,)
    named: Node | None = chosen
    without_default = False
    if isinstance(chosen.value, dict):
        keys = chosen.table()
        named = keys.get("features")
        without_default = "no-default-feature" in keys and keys["no-default-feature"].boolean()
        if "solve-group" in keys:
            around.note(f"{chosen.at}: the solve-group of {wanted} is not followed; it is locked by itself")
    defined = root.get("feature")
    known_features = {_DEFAULT, *also, *(defined.table() if defined is not None else ())}
    names = []
    for item in named.items() if named is not None else ():
        name = item.text("a feature")
        if name not in known_features:
            raise item.error(
                f"there is no feature {redacted(name)!r}", do=f"write [feature.{redacted(name)}]"
            )
        names.append(name)
    return tuple(dict.fromkeys([*names, *([] if without_default else [_DEFAULT])]))


def _check_keys(node: Node, known: frozenset[str], around: Around) -> None:
    """Refuse a misspelt table; say which one of a newer pixi is not read; say what is not followed."""
    for key, value in node.table().items():
        if key in _SAID and value.value:
            if (key, value.value) != ("solve-strategy", "highest"):
                around.note(f"{value.at}: {key}: {_SAID[key]}")
        elif key in _DATES and isinstance(value.value, dict):
            around.note(f"{value.at}: {key}: a date for a single package is not followed")
        elif key not in known:
            close = get_close_matches(key, sorted(known), n=1, cutoff=0.8)
            if close:
                raise value.error(f"unknown key {redacted(key)!r}", do=f"did you mean {close[0]}?")
            around.note(f"{value.at}: {redacted(key)} is not known and not read")


@dataclass(kw_only=True)
class _Reader:
    """The features of one environment, the first the most important, while they are read."""

    draft: Draft
    around: Around
    parts: list[Node] = field(default_factory=list)
    space: Workspace = field(default_factory=Workspace)

    def read(self, workspace: Node) -> None:
        self.space = read_platforms(workspace, self.parts, self.around)
        self.draft.platforms = list(self.space.subdirs)
        self.draft.assumed = list(self.space.assumed)
        _check_keys(workspace, frozenset(workspace.table()), self.around)
        self.draft.channels = list(self.channels(workspace))
        self.read_choices(workspace)
        for part in self.parts:
            self.draft.conda += self.conda_lines(part, _CONDA, workspace)
            self.draft.conda_constraints += self.conda_lines(part, ("constraints",), workspace)
            for name, node, platforms in self.chosen(part, (_PYPI,)):
                self.read_requirement(name, node, platforms)
        for part in (workspace, *self.parts):
            options = part.get("pypi-options")
            if options is not None:
                self.read_options(options)

    def read_choices(self, workspace: Node) -> None:
        """How channels count: what the first feature says that says it; and until when, for all of them."""
        places = (part.get("channel-priority") for part in (*self.parts, workspace))
        node = next((node for node in places if node is not None), None)
        if node is not None:
            priority = node.text("a channel priority")
            if priority not in CHANNEL_PRIORITIES:
                raise node.error(
                    f"{redacted(priority)!r} is no channel priority",
                    do=f"write one of: {', '.join(CHANNEL_PRIORITIES)}",
                )
            self.draft.channel_priority = (priority, node.at)
        node = workspace.get("exclude-newer")
        if node is not None:
            self.draft.exclude_newer = (checked_cutoff(node), node.at)

    @staticmethod
    def inherited(name: str, node: Node, workspace: Node) -> Node:
        """What ``{ workspace = true }`` stands for: the version of that name in [workspace.dependencies]."""
        if not isinstance(node.value, dict) or node.value.get("workspace") is not True:
            return node
        found = workspace.get("dependencies", name)
        if found is None:
            raise node.error(
                f"{redacted(name)} is not in [workspace.dependencies]", do="write its version there, or here"
            )
        return found

    def channels(self, workspace: Node) -> Iterator[str]:
        """The channels of all features, the most important first."""
        found: list[tuple[int, str]] = []
        for part in self.parts:
            node = part.get("channels") if is_a_part(part) else None
            if node is None and "environments" not in part.path:
                node = workspace.get("channels")
            for item in node.items() if node is not None else []:
                url, priority = item, None
                if isinstance(item.value, dict):
                    table = item.known(frozenset(("channel", "priority", "exclude-newer")))
                    url, priority = table.get("channel", item), table.get("priority")
                weight = priority.value if priority is not None else 0
                if not isinstance(weight, int):
                    raise item.wrong("a whole number as the priority", do="write priority = 1")
                found.append((weight, url.text("a channel")))
        found.sort(key=lambda one: -one[0])
        yield from dict.fromkeys(url for _, url in found)

    def conda_lines(self, part: Node, tables: Iterable[str], workspace: Node) -> Iterator[Line]:
        for name, node, platforms in self.chosen(part, tables):
            text = conda_text(name, self.inherited(name, node, workspace))
            yield Line(text=text, at=node.at, platforms=platforms)

    def chosen(self, part: Node, tables: Iterable[str]) -> Iterator[tuple[str, Node, tuple[str, ...] | None]]:
        """Each dependency of a feature with its platforms: a target's stands in for the general one."""
        target = part.get("target")
        targets = target.table() if target is not None else {}
        for selector, node in targets.items():
            _check_keys(node, _FEATURE, Around())
            self.space.check_selector(selector, node)
        effective: dict[tuple[str, str], tuple[str, Node, list[str]]] = {}
        for subdir in PLATFORMS:
            winners: dict[str, tuple[str, Node]] = {}
            matching = [node for selector, node in targets.items() if self.space.matches(selector, subdir)]
            for place in (part, *matching):
                for key in tables:
                    table = place.get(key)
                    for name, node in (table.table() if table is not None else {}).items():
                        winners[canonical_name(name)] = (name, node)
            for name, node in winners.values():
                effective.setdefault((name, node.at + str(node.path)), (name, node, []))[2].append(subdir)
        for name, node, subdirs in effective.values():
            yield name, node, None if len(subdirs) == len(PLATFORMS) else tuple(subdirs)

    def read_requirement(self, name: str, node: Node, platforms: tuple[str, ...] | None) -> None:
        place = Place(source=self.draft.source, at=node.at, platforms=platforms)
        table = node.known(_PYPI_KEYS) if isinstance(node.value, dict) else {"version": node}
        marker = table["env-markers"].text("a marker") if "env-markers" in table else ""
        text = requirement_of(name, node, table, place, marker)
        self.draft.pip.lines.append(place.line(text))
        if "editable" in table and table["editable"].boolean():
            self.around.note(f"{node.at}: what is editable is locked as it is now: {redacted(text)}")
        if "index" in table:
            url = _index(table["index"])
            self.draft.pip.set_index_of(canonical_name(name), url, table["index"].at)

    def read_options(self, node: Node) -> None:
        """``[pypi-options]``."""
        pip, options = self.draft.pip, node.table()
        if "index-url" in options:
            pip.set_main(_index(options["index-url"]), options["index-url"].at)
        for item in options["extra-index-urls"].items() if "extra-index-urls" in options else ():
            pip.extra.append(_index(item.get("url") or item if isinstance(item.value, dict) else item))
        for item in options["find-links"].items() if "find-links" in options else ():
            place = item.get("path") or item.get("url") or item
            pip.find_links.append(_placed(place, lambda text: find_links(text, self.draft.source)))
        if "no-binary" in options and options["no-binary"].value is not False:
            pip.no_binary += self.names(options["no-binary"])
        if "prerelease-mode" in options:
            pip.prerelease = pip.prerelease or options["prerelease-mode"].value == "allow"
        for key in ("no-build-isolation", "dependency-overrides"):
            if options.get(key, node).value and key in options:
                self.around.note(f"{options[key].at}: {key} is not followed")
        if "index-strategy" in options and options["index-strategy"].value != "first-index":
            self.around.note(
                f"{options['index-strategy'].at}: a project is taken from the first index that has it"
            )

    def names(self, node: Node) -> list[str]:
        if not isinstance(node.value, list):
            raise node.error(
                "no-binary for every package would run the code of whatever is needed",
                do='name each package that may be built: no-binary = ["NAME"]',
            )
        return [_placed(item, check_project_name) for item in node.items()]


def _index(node: Node) -> str:
    return _placed(node, check_index)


def _placed(node: Node, check: Callable[[str], str]) -> str:
    """What ``check`` makes of the text of ``node``; its error is placed there."""
    try:
        return check(node.text())
    except InputError as error:
        error.at = error.at or node.at
        raise
