"""YAML as far as envforge uses it: mappings, lists, texts, and little else.  YAML 1.1, by libyaml.

Goals: a hostile file ends in an error, and neither in code that runs, nor in memory that fills, nor in a
crash; a key that is there twice is an error and not the last one; every error has a line.

Left out on purpose: tags, anchors and aliases, merge keys, several documents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from envforge.errors import InputError
from envforge.formats._fields import check_size, redacted
from envforge.formats._merges import check_merged
from envforge.formats._plain_yaml import NUMBER, plainly

__all__ = ["LINE_BREAK", "Unquoted", "compose", "line_of", "line_of_place", "plain", "render"]

LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line in YAML 1.1."""

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PREFIX = "tag:yaml.org,2002:"
_STR = _PREFIX + "str"
_SCALARS = {
    _PREFIX + "float": "the number",
    _PREFIX + "int": "the number",
    _PREFIX + "timestamp": "the date",
    _PREFIX + "value": "the sign",
    _PREFIX + "merge": "the sign",
}
_TRUE = ("true", "yes", "on")
_ANOTHER_FILE = "name the right file"
"""What git leaves where two branches changed the same lines."""
_CHARACTERS_A_NODE = 100
"""So many at the least a limit of characters allows to each node, which takes a kilobyte and more."""
_DEEPEST = 100
_HARMLESS = 1000
_FEW = 10_000


@dataclass(frozen=True)
class Unquoted:
    """A scalar that YAML does not take for a text, as it is written: ``3.10`` would else become 3.1."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} {redacted(self.text)}"


def compose(text: str, *, source: str, limit: int) -> yaml.Node:
    """The tree of nodes of the one document in ``text``.

    :param source: the file's name, for errors.
    :param limit: how many characters are too many.
    :raises InputError: if it is no YAML, empty, too large, of too many entries, or nested too deeply.
    """
    check_size(text, limit, source=source)
    # As many nodes begin as there are lines, commas and colons, or fewer.
    if len(text) > _FEW and sum(map(text.count, "\n,:")) > limit // _CHARACTERS_A_NODE:
        raise InputError(
            f"more than {limit // _CHARACTERS_A_NODE:,} entries, which no such file has",
            at=source,
            do=_ANOTHER_FILE,
        )
    text = text.removeprefix("\ufeff")
    check_merged(text, source=source)
    try:
        _check_depth(text, source)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.reader.ReaderError as error:
        place = line_at(text, error.position)
        raise InputError(
            "not a text file: there is a control character in it",
            at=f"{source}:{place}",
            do=_ANOTHER_FILE,
        ) from None
    except UnicodeError:
        raise InputError("not a text file (UTF-8)", at=source, do=_ANOTHER_FILE) from None
    except yaml.MarkedYAMLError as error:
        raise _malformed(text, source, error) from None
    except RecursionError:
        raise InputError("nested too deeply", at=source, do=_ANOTHER_FILE) from None
    if node is None:
        raise InputError("the file is empty", at=source, do=_ANOTHER_FILE)
    return node


def _check_depth(text: str, source: str) -> None:
    """Refuse a file whose nesting would overflow the stack of the C code that composes it.

    A level takes an open bracket, or a column before the line's first word, so that a file with few of both
    needs no second look.
    """
    brackets = text.count("[") + text.count("{") - text.count("[]") - text.count("{}")
    # What splits lines here and not in YAML is refused there.
    long = (line for line in text.splitlines() if len(line) >= _HARMLESS)
    if brackets < _HARMLESS and all(len(line) - len(line.lstrip(" \t-?:")) < _HARMLESS for line in long):
        return
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                mark: Any = event.start_mark  # never None for what a parser gives
                raise InputError("nested too deeply", at=f"{source}:{mark.line + 1}", do=_ANOTHER_FILE)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _malformed(text: str, source: str, error: yaml.MarkedYAMLError) -> InputError:
    lines = LINE_BREAK.split(text.rstrip())
    mark: Any = error.problem_mark or error.context_mark
    if mark is not None and mark.line >= len(lines):
        # What is missing at the end is missing where it was begun: an open bracket or quote.
        mark = error.context_mark or mark
    if mark is None:
        return InputError("not valid YAML", at=source, do="correct the file")
    at = f"{source}:{mark.line + 1}"
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return InputError("a tab where YAML needs blanks", at=at, do="indent with blanks")
    if "nesting depth" in (error.problem or ""):  # libyaml's own bound, since 0.2.6
        return InputError("nested too deeply", at=at, do=_ANOTHER_FILE)
    return InputError(f"not valid YAML: {error.problem}", at=at, do="correct this line, or the one before it")


def line_at(text: str, index: int) -> int:
    """The number of the line, from 1, that the character at ``index`` stands in."""
    return len(LINE_BREAK.findall(text, 0, index)) + 1


def line_of_place(node: yaml.Node, place: str) -> int:
    """The number of the line of ``package[3].hash.md5``, or of the last part of that which is there.

    :param place: as :mod:`envforge.formats._fields` puts it together, of what :func:`plain` made of ``node``.
    """
    while place:
        if isinstance(node, yaml.SequenceNode):
            index = re.match(r"\[([0-9]{1,9})\]", place)
            if index is None or int(index[1]) >= len(node.value):
                break
            node, place = node.value[int(index[1])], place[index.end() :].lstrip(".")
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        named = [(key, value) for key, value in pairs if re.match(re.escape(key.value) + r"(?![\w-])", place)]
        if not named:
            break
        key, value = max(named, key=lambda pair: len(pair[0].value))
        place = place[len(key.value) :].lstrip(".: ")
        node = value if place and isinstance(value, yaml.CollectionNode) else key
    return line_of(node)


def line_of(node: yaml.Node) -> int:
    """The number of the line, from 1, that ``node`` begins in."""
    line: int = node.start_mark.line
    return line + 1


def plain(node: yaml.Node, *, source: str) -> object:
    """What ``node`` stands for: dict, list, str, int, bool, ``None``, or :class:`Unquoted`.

    :param source: the file's name, for errors.
    :raises InputError: for a key that is there twice, an alias, a tag, a key that is no text.
    """
    try:
        return _Plain(source).value(node)
    except RecursionError:
        raise InputError("nested too deeply", at=source, do=_ANOTHER_FILE) from None


class _Plain:
    def __init__(self, source: str) -> None:
        self.source = source
        self.seen: set[int] = set()

    def value(self, node: yaml.Node) -> object:
        # An alias is the same node once more: one that is met twice could be met a billion times.
        if id(node) in self.seen:
            raise self.error(node, "anchors and aliases are not supported", "write the value out")
        self.seen.add(id(node))
        tag = node.tag
        if isinstance(node, yaml.ScalarNode):
            return node.value if tag == _STR else self.scalar(node)
        if isinstance(node, yaml.MappingNode) and tag == _PREFIX + "map":
            return self.mapping(node)
        if isinstance(node, yaml.SequenceNode) and tag == _PREFIX + "seq":
            return [self.value(item) for item in node.value]
        raise self.unknown_tag(node)

    def mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        made: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node)
            if not isinstance(key, str):
                raise self.error(key_node, "a key that is no text", "put it in quotes")
            if key in made:
                raise self.error(key_node, f"the key {redacted(key)!r} is there twice", "keep one of the two")
            made[key] = self.value(value_node)
        return made

    def scalar(self, node: yaml.ScalarNode) -> object:
        tag, text = node.tag, node.value
        if tag == _PREFIX + "null":
            return None
        if tag == _PREFIX + "bool":
            return text.lower() in _TRUE
        if (
            tag == _PREFIX + "int"
            and text.isascii()
            and text.isdigit()
            and len(text) < 19
            and str(int(text)) == text
        ):
            return int(text)
        if tag in _SCALARS:
            return Unquoted(_SCALARS[tag], text)
        raise self.unknown_tag(node)

    def unknown_tag(self, node: yaml.Node) -> InputError:
        shown = node.tag.replace(_PREFIX, "!!", 1)
        shown = shown if shown.isprintable() else repr(shown)
        return self.error(node, f"the tag {redacted(shown)} is not supported", "remove it")

    def error(self, node: yaml.Node, what: str, do: str) -> InputError:
        return InputError(what, at=f"{self.source}:{line_of(node)}", do=do)


def render(document: object) -> str:
    """``document`` as YAML in the order of its keys: one line a value, nothing by reference."""
    return plainly(document) or _dumped(document)


def _dumped(document: object) -> str:
    text = yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_NEVER_WRAPPED,
    )
    assert isinstance(text, str)  # noqa: S101 - without a stream and an encoding it is
    return text


_NEVER_WRAPPED = 1 << 30
_BASE: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_BASE):  # type: ignore[misc]
    """Writes what is there twice twice: an alias would tie two rows of a diff together."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class gives it
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    # One md5 in a million looks like 71e52: a text to YAML 1.1, and to PyYAML, but a number to the YAML 1.2
    # of rattler, which then refuses the whole file.
    style = "'" if text[:1] in _NUMERIC and NUMBER.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_NUMERIC = frozenset("0123456789.+-")
_Dumper.add_representer(str, _represent_text)
