"""``environment.yml``: conda's specification, with the additions of conda-lock and micromamba.

Follows ``conda env create``, and conda-lock for ``platforms``, ``category``, ``pip-repositories``,
``allow-pypi-requests`` and ``# [linux]``; micromamba for ``sel(linux):``; pip for what stands below ``pip:``.
Goals: a file that conda takes is taken; a mistake that conda or YAML would pass in silence (a key twice,
``python: 3.10``, a misspelt key) is an error with its line and what to write; a key that no tool knows is
said; the text of a dependency is handed on as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import yaml

from envforge.errors import InputError
from envforge.formats._draft import Around, Draft, Place, check_group, check_name
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import expanded
from envforge.formats._requirement import check_index
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
_DEPENDENCY = re.compile(
    r"(?:(?P<channel>[^\s\[\]=<>!]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)(?P<rest>\s*(?:[\s=<>!~\[].*)?)"
)
_ONE_COLON = re.compile(r"[\w./-]+:[A-Za-z_]")
_REST_OF_LINE = re.compile(r"[ \t]*,?[ \t]*(#[^\r\n\x85\u2028\u2029]*)")


def read(text: str, *, source: str, around: Around | None = None) -> Draft:
    """What ``text`` says, and what the requirements files say that it names.

    :param source: the file's name, for errors, for :attr:`Line.at`, and for what its paths are relative to.
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
    draft = Draft(source=source)
    _Reader(text=text, source=source, draft=draft, around=around or Around()).read(root)
    return draft


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
    draft: Draft
    around: Around
    group: str = "main"
    pip_node: yaml.Node | None = None

    def read(self, root: yaml.MappingNode) -> None:
        keys = {}
        for key, value in root.value:
            if key.value not in _KEYS:
                self.unknown(key)
            elif not _is_null(value):  # a key whose whole value is commented out
                keys[key.value] = value
        if "dependencies" not in keys:
            raise InputError(
                "there are no dependencies", at=self.source, do="add them: dependencies: [python=3.12]"
            )
        if "name" in keys:
            name = self.string(keys["name"], "a name", "put it in quotes")
            self.draft.name = check_name(name, at=self.at(keys["name"]))
        if "channels" in keys:
            self.draft.channels = self.channels(keys["channels"])
        if "platforms" in keys:
            self.draft.platforms = self.platforms(keys["platforms"])
        self.read_choices(keys)
        self.read_dependencies(keys["dependencies"])
        self.check_indexes(keys)

    def unknown(self, key: yaml.Node) -> None:
        """Refuse a key that is misspelt, or misplaced; one that no tool knows is said, as conda says it."""
        what = f"unknown key {redacted(key.value)!r}"
        if key.value == "pip":
            raise self.error(key, what, do="write it as one of the dependencies: - pip: [einops>=0.8]")
        close = get_close_matches(key.value, sorted(_KEYS), n=1)
        if close:
            raise self.error(key, what, do=f"did you mean {close[0]}?")
        self.around.note(f"{self.at(key)}: {redacted(key.value)} is not known and not read")

    def channels(self, node: yaml.Node) -> list[str]:
        found = []
        for item in self.items(node, "channels"):
            channel = self.string(item, "a channel", "write its name or URL")
            if any(character.isspace() for character in channel) or not channel.isprintable():
                raise self.error(
                    item, f"{redacted(channel)!r} is no channel", do="write one name or URL a line"
                )
            found.append(channel)
        # conda-only: "add no channel of the user's own configuration", which is never done here.
        return [channel for channel in found if channel != "nodefaults"]

    def platforms(self, node: yaml.Node) -> list[str]:
        names = []
        for item in self.items(node, "platforms"):
            name = self.string(item, "a platform", "write a platform such as linux-64")
            names.append(check_platform(name, at=self.at(item)))
        return list(dict.fromkeys(names))

    def read_choices(self, keys: dict[str, yaml.Node]) -> None:
        """The keys that only conda-lock knows."""
        if "category" in keys:
            group = self.string(keys["category"], "the name of a group", "put it in quotes")
            self.group = check_group(group, at=self.at(keys["category"]))
        if "pip-repositories" in keys:
            for item in self.items(keys["pip-repositories"], "pip-repositories"):
                url = self.string(item, "the URL of an index", "write it as https://HOST/simple")
                with _Placed(self, item):
                    url = expanded(url, self.around.variables)
                    self.draft.pip.repositories.append(check_index(url))
        if "allow-pypi-requests" in keys:
            node = keys["allow-pypi-requests"]
            value = plain(node, source=self.source)
            if not isinstance(value, bool):
                raise self.error(
                    node, f"{_shown(node)} where true or false is needed", do="write true or false"
                )
            self.draft.pip.allow_pypi = value

    def check_indexes(self, keys: dict[str, yaml.Node]) -> None:
        pip = self.draft.pip
        if pip.lines and not pip.indexes() and not pip.allow_pypi:
            raise self.error(
                keys["allow-pypi-requests"],
                "PyPI is not allowed, and no other index is named",
                do="add one: pip-repositories: [https://HOST/simple]",
            )

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
            do = "write it as NAME, NAME>=VERSION, NAME=VERSION=BUILD or CHANNEL::NAME"
            if _ONE_COLON.match(text):
                do = f"write - {redacted(text.replace(':', '::', 1))}"
            raise self.error(node, f"{redacted(text)!r} is no conda dependency", do=do)
        self.draft.conda.append(Line(text=text, at=self.at(node), platforms=platforms, group=self.group))

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
        from envforge.formats._pip_lines import PipReader

        pip = PipReader(part=self.draft.pip, around=self.around)
        for item in self.items(node, "pip"):
            text = self.string(item, "a requirement", "write one requirement a line, such as - einops>=0.8")
            place = Place(
                source=self.source, at=self.at(item), group=self.group, platforms=self.selected(item)
            )
            pip.read_line(text, place)

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
