"""TOML, with the line of every key and every item of a list: tomli reads it, this module says where.

TOML 1.1, which pixi's manifests use: tomli reads it on every Python.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tomli
import tomli_w

from envforge.errors import InputError
from envforge.formats._fields import check_size, describe, redacted, suggestion
from envforge.formats._merges import check_merged

__all__ = ["Node", "parse", "read_toml", "render"]

_LIMIT = 10_000_000
_ANOTHER_FILE = "name the right file"
_SIMPLE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BARE_VALUE = re.compile(r"[^,\]}#\n]*")
_BASIC = re.compile(r'"""(?:\\.|[^\\])*?"""+|"(?:\\.|[^"\\])*"', re.DOTALL)
_LITERAL = re.compile(r"'''.*?'''+|'[^']*'", re.DOTALL)

Path = tuple["str | int", ...]


def read_toml(text: str, *, source: str) -> Node:
    """The root of the document.

    :param source: the file's name, for errors.
    :raises InputError: if it is no TOML, too large, or nested too deeply, with the line where there is one.
    """
    check_size(text, _LIMIT, source=source)
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        value = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        check_merged(text, source=source)
        line = getattr(error, "lineno", None)
        raise InputError(
            f"not valid TOML: {_sentence(error)}",
            at=f"{source}:{line}" if line else source,
            do="correct this line, or the one before it",
        ) from None
    except RecursionError:
        raise InputError("nested too deeply", at=source, do=_ANOTHER_FILE) from None
    except ValueError:  # a number of thousands of digits, a surrogate
        raise InputError("not valid TOML", at=source, do=_ANOTHER_FILE) from None
    return Node(value=value, path=(), places=_Places(text, source))


def parse(text: str, *, source: str) -> dict[str, Any]:
    """The document as plain values; errors as :func:`read_toml` has them."""
    value: dict[str, Any] = read_toml(text, source=source).value
    return value


def render(document: dict[str, Any]) -> str:
    """``document`` as TOML, in the order of its keys."""
    text: str = tomli_w.dumps(document)
    return text


def _sentence(error: tomli.TOMLDecodeError) -> str:
    said = str(getattr(error, "msg", error)).partition(" (at ")[0]
    return redacted(said) if said.isprintable() else "something in it cannot be read"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value of the document and where it stands; the readers walk from node to node."""

    value: Any
    path: Path
    places: _Places = field(repr=False)

    @property
    def at(self) -> str:
        """``file:line`` of the key, or of the item of a list."""
        return self.places.at(self.path)

    @property
    def key(self) -> str:
        """The last part of the path, for people."""
        return dotted(self.path[-1:])

    def error(self, what: str, *, do: str) -> InputError:
        """An error that is placed here; to be raised by the caller."""
        return InputError(what, at=self.at, do=do)

    def wrong(self, needed: str, *, do: str) -> InputError:
        """The error for a value that is not what is needed; to be raised by the caller."""
        where = f"{dotted(self.path)}: " if self.path else ""
        return self.error(f"{where}{describe(self.value)} where {needed} is needed", do=do)

    def get(self, *keys: str) -> Node | None:
        """The value below ``keys``; ``None`` if it is not there.

        :raises InputError: if something on the way is no table.
        """
        node = self
        for key in keys:
            table = node.table()
            if key not in table:
                return None
            node = table[key]
        return node

    def table(self) -> dict[str, Node]:
        """What stands below each key, in the order of the file.

        :raises InputError: if this is no table.
        """
        if not isinstance(self.value, dict):
            raise self.wrong("a table", do=f"write [{dotted(self.path)}]" if self.path else _ANOTHER_FILE)
        return {key: self._inner(key, value) for key, value in self.value.items()}

    def known(self, keys: frozenset[str]) -> dict[str, Node]:
        """As :meth:`table`, if it has no key but those.

        :raises InputError: else, with the key that was probably meant.
        """
        table = self.table()
        for key, node in table.items():
            if key not in keys:
                raise node.error(
                    f"unknown key {redacted(key)!r} in {dotted(self.path)}", do=suggestion(key, keys)
                )
        return table

    def items(self) -> list[Node]:
        """The items of a list.

        :raises InputError: if this is no list.
        """
        if not isinstance(self.value, list):
            raise self.wrong("a list", do=f"write {self.key} = [ … ]")
        return [self._inner(index, value) for index, value in enumerate(self.value)]

    def each(self, *keys: str) -> list[Node]:
        """The items of the list below ``keys``; none where there is no such key.

        :raises InputError: if it is no list.
        """
        node = self.get(*keys)
        return node.items() if node is not None else []

    def text(self, needed: str = "a text", *, do: str = "put it in quotes") -> str:
        """A text of one line that is not empty, without blanks around it.

        :raises InputError: if this is something else.
        """
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong(needed, do=do)
        text = self.value.strip()
        if not text.isprintable():
            raise self.wrong(f"{needed} of one line", do="write it in one line")
        return text

    def texts(self, needed: str = "a text") -> list[str]:
        """A list of such texts.

        :raises InputError: if this is something else.
        """
        return [item.text(needed) for item in self.items()]

    def boolean(self) -> bool:
        """True or false.

        :raises InputError: if this is something else.
        """
        if not isinstance(self.value, bool):
            raise self.wrong("true or false", do=f"write {self.key} = true, or false")
        return self.value

    def _inner(self, key: str | int, value: object) -> Node:
        return Node(value=value, path=(*self.path, key), places=self.places)


def dotted(path: Path) -> str:
    """A path as TOML writes it: ``tool.pixi.feature``, ``package[3]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _SIMPLE.fullmatch(part) else repr(redacted(part))
            text += f".{shown}" if text else shown
    return text


class _Places:
    """Finds lines: the text is scanned once, and only if somebody asks."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self._found: dict[Path, int] | None = None
        self._breaks: list[int] = []

    def at(self, path: Path) -> str:
        if self._found is None:
            scanner = _Scanner(self.text)
            scanner.run()
            self._found = scanner.found
            self._breaks = [match.start() for match in re.finditer("\n", self.text)]
        for length in range(len(path), 0, -1):
            index = self._found.get(path[:length])
            if index is not None:
                return f"{self.source}:{bisect_right(self._breaks, index) + 1}"
        return self.source


class _Scanner:
    """Walks over a text that is known to be TOML, and notes where each key and item begins."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = 0
        self.found: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}

    def run(self) -> None:
        table: Path = ()
        try:
            while self.blank():
                if self.text[self.index] == "[":
                    table = self.header()
                else:
                    self.pair(table)
        except (IndexError, RecursionError):  # what was not found has the line of what it is part of
            pass

    def blank(self) -> bool:
        """Skip blanks, line ends and comments; whether anything is left."""
        match = _BLANK.match(self.text, self.index)
        self.index = match.end() if match else self.index
        return self.index < len(self.text)

    def header(self) -> Path:
        start = self.index
        many = self.text.startswith("[[", start)
        self.index += 2 if many else 1
        *outer, last = self.keys()
        self.index = self.text.index("]", self.index) + (2 if many else 1)
        path = self.through(outer, start)
        path += (last,)
        if many:
            count = self.arrays.get(path, 0)
            self.arrays[path] = count + 1
            self.found.setdefault(path, start)
            path += (count,)
        elif path in self.arrays:
            path += (self.arrays[path] - 1,)
        self.found.setdefault(path, start)
        return path

    def through(self, keys: list[str], start: int) -> Path:
        """The path of ``keys``: below an array of tables, its last one."""
        path: Path = ()
        for key in keys:
            path += (key,)
            self.found.setdefault(path, start)
            if path in self.arrays:
                path += (self.arrays[path] - 1,)
        return path

    def pair(self, table: Path) -> None:
        start = self.index
        keys = self.keys()
        for length in range(1, len(keys) + 1):
            self.found.setdefault((*table, *keys[:length]), start)
        self.index = self.text.index("=", self.index) + 1
        self.value((*table, *keys))

    def keys(self) -> list[str]:
        return list(self.each_key())

    def each_key(self) -> Iterator[str]:
        while True:
            self.blank()
            match = _BASIC.match(self.text, self.index) or _LITERAL.match(self.text, self.index)
            if match is None:
                match = _SIMPLE.match(self.text, self.index)
                if match is None:
                    raise IndexError
                yield match[0]
            else:
                yield str(next(iter(tomli.loads(f"{match[0]}=0"))))
            self.index = match.end()
            self.blank()
            if self.text[self.index] != ".":
                return
            self.index += 1

    def value(self, path: Path) -> None:
        self.blank()
        opening = self.text[self.index]
        if opening in "[{":
            self.index += 1
            self.inside(path, "]" if opening == "[" else "}")
            return
        match = _BASIC.match(self.text, self.index) or _LITERAL.match(self.text, self.index)
        match = match or _BARE_VALUE.match(self.text, self.index)
        self.index = match.end() if match else self.index

    def inside(self, path: Path, closing: str) -> None:
        count = 0
        while self.blank() and self.text[self.index] != closing:
            if self.text[self.index] == ",":
                self.index += 1
            elif closing == "}":
                self.pair(path)
            else:
                self.found.setdefault((*path, count), self.index)
                self.value((*path, count))
                count += 1
        self.index += 1
