"""The YAML that a lockfile is made of, written directly: the same bytes as libyaml's, at a tenth of the cost.

PyYAML makes a node of each value, and an event of each node.  Here are mappings, lists, texts of one line in
printable ASCII, whole numbers and truth values; a document in which there is anything else is left to PyYAML.
"""

from __future__ import annotations

import re

import yaml

__all__ = ["NUMBER", "plainly"]

NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0[ox][0-9a-fA-F]+")
"""A number to YAML 1.2, whatever it is to YAML 1.1: 71e52."""

_LONGEST_KEY = 100
_ONE_LINE = re.compile(r"[!-~]([ -~]*[!-~])?")
# What needs no quotes outside of [] and {}, as libyaml sees it.
_UNQUOTED = re.compile(
    r"""(?!---|\.\.\.)(?:[^?:#,\[\]{}&*!|>'"%@`-]|[?:-](?=[^ ]))(?:[^:#]|:(?=[^ ])|(?<=[^ ])\#)*"""
)
_RESOLVERS = yaml.SafeDumper.yaml_implicit_resolvers


class _Other(Exception):
    """There is something that is not written here."""


def plainly(document: object) -> str | None:
    """``document`` as YAML in the order of its keys; ``None`` if PyYAML has to write it."""
    if not isinstance(document, dict) or not document:
        return None
    lines: list[str] = []
    try:
        _mapping(document, "", lines, {})
    except (_Other, RecursionError):
        return None
    return "".join(lines)


def _mapping(value: dict[object, object], indent: str, lines: list[str], known: dict[str, str]) -> None:
    """Add the lines of a mapping, the first without its indentation; ``known`` are texts as written."""
    before = ""
    for key, item in value.items():
        if type(key) is not str or len(key) > _LONGEST_KEY:
            raise _Other
        head = f"{before}{known.get(key) or _text(key, known)}:"
        before = indent
        if type(item) is str:
            lines.append(f"{head} {known.get(item) or _text(item, known)}\n")
        elif type(item) is dict and item:
            lines.append(f"{head}\n{indent}  ")
            _mapping(item, f"{indent}  ", lines, known)
        elif type(item) is list and item:
            lines.append(f"{head}\n{indent}")
            _list(item, indent, lines, known)
        else:
            lines.append(f"{head} {_scalar(item)}\n")


def _list(value: list[object], indent: str, lines: list[str], known: dict[str, str]) -> None:
    before = ""
    for item in value:
        head = f"{before}- "
        before = indent
        if type(item) is str:
            lines.append(f"{head}{known.get(item) or _text(item, known)}\n")
        elif type(item) is dict and item:
            lines.append(head)
            _mapping(item, f"{indent}  ", lines, known)
        elif type(item) is list and item:
            lines.append(head)
            _list(item, f"{indent}  ", lines, known)
        else:
            lines.append(f"{head}{_scalar(item)}\n")


def _scalar(value: object) -> str:
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if value == {} and type(value) is dict:
        return "{}"
    if value == [] and type(value) is list:
        return "[]"
    raise _Other


def _text(text: str, known: dict[str, str]) -> str:
    if not _ONE_LINE.fullmatch(text):
        raise _Other
    bare = _UNQUOTED.fullmatch(text) and not _is_another(text)
    known[text] = text if bare else "'" + text.replace("'", "''") + "'"
    return known[text]


def _is_another(text: str) -> bool:
    """Whether a reader would take ``text`` for a number, a date or a truth value."""
    first = text[0]
    return any(pattern.match(text) for _, pattern in _RESOLVERS.get(first, ())) or (
        first in "0123456789.+-" and NUMBER.fullmatch(text) is not None
    )
