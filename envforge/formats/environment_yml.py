"""``environment.yml``: conda's specification, with the additions of conda-lock and micromamba.

Follows ``conda env create``, and conda-lock for ``platforms``, ``category``, ``pip-repositories``,
``allow-pypi-requests`` and ``# [linux]``; micromamba for ``sel(linux):``.  Goals: a file that conda takes is
taken; a mistake that conda or YAML would pass in silence (a key twice, ``python: 3.10``, a misspelt key) is
an error with its line and what to write; the text of a dependency is handed on as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from envforge.errors import InputError
from envforge.formats._fields import redacted, suggestion
from envforge.formats._pip_lines import Indexes, check_index, requirement
from envforge.formats._selectors import in_comment, in_key, select
from envforge.formats._yaml import compose, line_of, plain, render
from envforge.model.platforms import check_platform
from envforge.model.spec import EnvironmentSpec, Line

__all__ = ["read", "write"]

_LIMIT = 10_000_000
_KEYS = frozenset(
    ("name", "channels", "dependencies", "platforms", "category", "pip-repositories", "allow-pypi-requests")
    + ("prefix", "variables")
)
_KINDS = {"int": "the number", "float": "the number", "timestamp": "the date"}
_NAME = re.compile(r"[^\s/\\:#\[\]]{1,200}")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_DEPENDENCY = re.compile(
    r"(?:(?P<channel>[^\s\[\]=<>!]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<rest>\s*(?:[\s=<>!~\[].*)?)"
)
_REST_OF_LINE = re.compile(r"[ \t]*,?[ \t]*(#[^\r\n\x85\u2028\u2029]*)")


def read(text: str, *, source: str) -> EnvironmentSpec:
    """The specification in ``text``.

    :param source: the file's name, for errors and for :attr:`Line.at`.
    :raises InputError: if something in it cannot be used, with the line.
    """
    text = text.removeprefix("\ufeff")
    root = compose(text, source=source, limit=_LIMIT)
    value = plain(root, source=source)  # for its checks: keys twice, aliases, tags
    if not isinstance(value, dict) or not isinstance(root, yaml.MappingNode):
        raise InputError(
            f"{_shown(root)} where an environment.yml is needed",
            at=f"{source}:{line_of(root)}",
            do="begin it with: dependencies:",
        )
    return _Reader(text=text, source=source).specification(root)


def write(spec: EnvironmentSpec, *, comment: str) -> str:
    """The text of a specification whose lines count on all platforms.

    :param comment: what stands above it, without ``#``.
    """
    dependencies: list[object] = [line.text for line in spec.conda]
    options = [f"--index-url {url}" for url in spec.indexes[:1]]
    options += [f"--extra-index-url {url}" for url in spec.indexes[1:]]
    options += [f"--no-binary {name}" for name in spec.no_binary]
    if spec.pip:
        dependencies.append({"pip": options + [line.text for line in spec.pip]})
    document: dict[str, object] = {} if spec.name is None else {"name": spec.name}
    document |= {"channels": list(spec.channels), "dependencies": dependencies}
    if spec.platforms:
        document["platforms"] = list(spec.platforms)
    return "".join(f"# {line}\n" for line in comment.splitlines()) + render(document)


@dataclass(kw_only=True)
class _Reader:
    """One file while it is read; ``group`` and the rest are known before the dependencies are."""

    text: str
    source: str
    group: str = "main"
    conda: list[Line] = field(default_factory=list)
    pip: list[Line] = field(default_factory=list)
    indexes: Indexes = field(default_factory=Indexes)
    pip_node: yaml.Node | None = None

    def specification(self, root: yaml.MappingNode) -> EnvironmentSpec:
        keys = {}
        for key, value in root.value:
            if key.value not in _KEYS:
                raise self.error(key, f"unknown key {redacted(key.value)!r}", do=suggestion(key.value, _KEYS))
            if not _is_null(value):  # a key whose whole value is commented out
                keys[key.value] = value
        if "dependencies" not in keys:
            raise InputError(
                "there are no dependencies", at=self.source, do="add them: dependencies: [python=3.12]"
            )
        name = self.name(keys["name"]) if "name" in keys else None
        channels = self.channels(keys["channels"]) if "channels" in keys else ()
        platforms = self.platforms(keys["platforms"]) if "platforms" in keys else ()
        self.read_choices(keys)
        self.read_dependencies(keys["dependencies"])
        return EnvironmentSpec(
            name=name,
            channels=channels,
            platforms=platforms,
            conda=tuple(self.conda),
            pip=tuple(self.pip),
            indexes=self.resolved_indexes(keys),
            no_binary=tuple(dict.fromkeys(self.indexes.no_binary)),
            sources=(self.source,),
        )

    def name(self, node: yaml.Node) -> str:
        name = self.string(node, "a name", "put it in quotes")
        if not _NAME.fullmatch(name) or not name.isprintable() or name in (".", ".."):
            raise self.error(
                node,
                f"{redacted(name)!r} cannot be an environment's name",
                do="use letters, digits, -, _ and .",
            )
        return name

    def channels(self, node: yaml.Node) -> tuple[str, ...]:
        found = []
        for item in self.items(node, "channels"):
            channel = self.string(item, "a channel", "write its name or URL")
            if any(character.isspace() for character in channel) or not channel.isprintable():
                raise self.error(
                    item, f"{redacted(channel)!r} is no channel", do="write one name or URL a line"
                )
            found.append(channel)
        # conda-only: "add no channel of the user's own configuration", which is never done here.
        return tuple(channel for channel in found if channel != "nodefaults")

    def platforms(self, node: yaml.Node) -> tuple[str, ...]:
        names = []
        for item in self.items(node, "platforms"):
            name = self.string(item, "a platform", "write a platform such as linux-64")
            names.append(check_platform(name, at=self.at(item)))
        return tuple(dict.fromkeys(names))

    def read_choices(self, keys: dict[str, yaml.Node]) -> None:
        """The keys that only conda-lock knows."""
        if "category" in keys:
            self.group = self.string(keys["category"], "the name of a group", "put it in quotes")
            if not _GROUP.fullmatch(self.group):
                raise self.error(
                    keys["category"],
                    f"{redacted(self.group)!r} cannot be a group's name",
                    do="use letters, digits, -, _ and .",
                )
        if "pip-repositories" in keys:
            for item in self.items(keys["pip-repositories"], "pip-repositories"):
                url = self.string(item, "the URL of an index", "write it as https://HOST/simple")
                with _Placed(self, item):
                    self.indexes.repositories.append(check_index(url))
        if "allow-pypi-requests" in keys:
            node = keys["allow-pypi-requests"]
            value = plain(node, source=self.source)
            if not isinstance(value, bool):
                raise self.error(
                    node, f"{_shown(node)} where true or false is needed", do="write true or false"
                )
            self.indexes.allow_pypi = value

    def resolved_indexes(self, keys: dict[str, yaml.Node]) -> tuple[str, ...]:
        found = self.indexes.resolved()
        if self.pip and not found and not self.indexes.allow_pypi:
            raise self.error(
                keys["allow-pypi-requests"],
                "PyPI is not allowed, and no other index is named",
                do="add one: pip-repositories: [https://HOST/simple]",
            )
        return found

    def read_dependencies(self, node: yaml.Node) -> None:
        for item in self.items(node, "dependencies"):
            if isinstance(item, yaml.MappingNode):
                self.read_mapping(item)
            else:
                text = self.string(item, "a dependency", _dependency_remedy(item))
                self.add_conda(item, text, self.selected(item))

    def read_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            selector = in_key(key.value)
            if key.value == "pip":
                self.read_pip(key, value)
            elif selector is not None:
                with _Placed(self, key):
                    platforms = select(selector)
                text = self.string(value, "a dependency", f"write {key.value}: PACKAGE")
                self.add_conda(value, text, platforms)
            else:
                raise self.error(
                    key,
                    f"a mapping with the key {redacted(key.value)!r} where a dependency is needed",
                    do=_entry(key, value),
                )

    def add_conda(self, node: yaml.Node, text: str, platforms: tuple[str, ...] | None) -> None:
        if not _DEPENDENCY.fullmatch(text) or not text.isprintable() or "#" in text:
            raise self.error(
                node,
                f"{redacted(text)!r} is no conda dependency",
                do="write it as NAME, NAME>=VERSION, NAME=VERSION=BUILD or CHANNEL::NAME",
            )
        self.conda.append(Line(text=text, at=self.at(node), platforms=platforms, group=self.group))

    def read_pip(self, key: yaml.Node, node: yaml.Node) -> None:
        if self.pip_node is not None:
            raise self.error(
                key,
                f"a second pip: part; the first is in line {line_of(self.pip_node)}",
                do="make one of the two",
            )
        self.pip_node = key
        if _is_null(node):
            return
        for item in self.items(node, "pip"):
            text = self.string(item, "a requirement", "write one requirement a line, such as - einops>=0.8")
            platforms = self.selected(item)
            with _Placed(self, item):
                kept = requirement(text, self.indexes)
            if kept is not None:
                self.pip.append(Line(text=kept, at=self.at(item), platforms=platforms, group=self.group))

    def selected(self, node: yaml.Node) -> tuple[str, ...] | None:
        """The platforms that a selector in the comment behind ``node`` keeps."""
        rest = _REST_OF_LINE.match(self.text, node.end_mark.index)
        selector = in_comment(rest[1]) if rest else None
        if selector is None:
            return None
        with _Placed(self, node):
            return select(selector)

    def items(self, node: yaml.Node, key: str) -> Iterator[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            do = "begin each line with a dash"
            if isinstance(node, yaml.ScalarNode) and node.value.isprintable():
                do = f"write {key}: [{redacted(node.value)}]"
            raise self.error(node, f"{_shown(node)} where a list is needed", do=do)
        yield from node.value

    def string(self, node: yaml.Node, needed: str, do: str) -> str:
        text = plain(node, source=self.source) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(text, str) or not text.strip():
            raise self.error(node, f"{_shown(node)} where {needed} is needed", do=do)
        return text.strip()

    def at(self, node: yaml.Node) -> str:
        return f"{self.source}:{line_of(node)}"

    def error(self, node: yaml.Node, what: str, *, do: str) -> InputError:
        return InputError(what, at=self.at(node), do=do)


class _Placed:
    """Gives the line of a node to an error of somebody who knows only its text."""

    def __init__(self, reader: _Reader, node: yaml.Node) -> None:
        self.at = reader.at(node)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            error.at = self.at


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    kind = node.tag.rpartition(":")[2]
    if kind == "null" or not str(node.value).strip():
        return "an empty entry" if kind != "str" else "an empty text"
    shown = redacted(str(node.value))
    return f"the text {shown!r}" if kind == "str" else f"{_KINDS.get(kind, 'the value')} {shown}"


def _dependency_remedy(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "write one dependency a line, without a second dash"
    if not str(node.value).strip() or _is_null(node):
        return "remove the dash, or write a dependency behind it"
    if node.tag.endswith(":bool"):
        return "put it in quotes, if a package has that name"
    return f"name the package, too: - NAME={redacted(str(node.value))}"


def _entry(key: yaml.Node, value: yaml.Node) -> str:
    """How ``- python: 3.10`` was probably meant."""
    if not isinstance(value, yaml.ScalarNode):
        return "a list below a key is for pip: only"
    text = str(value.value).strip()
    if not (text + key.value).isprintable():
        return "write NAME, NAME>=VERSION or NAME=VERSION=BUILD"
    glue = "" if not text or text[0] in "=<>!~" else "="
    return f"write - {redacted(str(key.value) + glue + text)}"
