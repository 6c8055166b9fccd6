"""Typed access to what a file says.

Goals: a value of a wrong type, a key that is missing or unknown, ends in an :class:`InputError` that names
the place (``packages[3].hash.sha256``); nothing is guessed or converted; no secret of a URL is repeated in an
error; a place is put together only once something is wrong, so that reading 60,000 records stays cheap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from envforge.errors import InputError
from envforge.model import urls

__all__ = [
    "Fields",
    "check_size",
    "check_url",
    "describe",
    "located",
    "needed_release",
    "printable",
    "redacted",
    "suggestion",
]

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIMPLE = re.compile(r"[\w.-]{1,60}")
_LONGEST = 80
_LARGEST = 1 << 63


def located(error: InputError, place: str) -> InputError:
    """``error`` with its place prefixed: ``hash.sha256`` found in ``package[3]``."""
    inner = error.at or ""
    error.at = f"{place}{'' if not inner or inner.startswith('[') else '.'}{inner}"
    return error


def redacted(text: str) -> str:
    """``text`` for an error: logins and tokens of URLs hidden, cut where it is long."""
    text = urls.redacted(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def describe(value: object) -> str:
    """What a value is, for the beginning of an error."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {redacted(value)!r}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (int, float)):
        return f"the number {value}" if abs(value) < _LARGEST else "a number that is too large"
    return str(value)


def suggestion(wrong: str, known: frozenset[str]) -> str:
    """What helps against an unknown key: the one that was probably meant, else all of them."""
    from difflib import get_close_matches

    close = get_close_matches(wrong, sorted(known), n=1)
    return f"did you mean {close[0]}?" if close else f"the known keys are: {', '.join(sorted(known))}"


def needed_release(needs: object) -> str:
    """What to do about a file of a newer version, from the release that it says it needs, if it does."""
    if isinstance(needs, str) and _SIMPLE.fullmatch(needs):
        return f"use envforge {needs} or newer"
    return "use a newer envforge"


def check_url(url: str, *, conda: bool = False) -> str:
    """Return ``url`` if it is one; a conda package's must name a channel and a subdir, too.

    :raises InputError: else; the place is left to the caller.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{redacted(url)!r} is no URL: {error}") from error
    if not parts.scheme or any(character.isspace() for character in url):
        raise InputError(f"{redacted(url)!r} is no URL")
    if conda and parts.path.count("/") < 2:
        raise InputError(f"{redacted(url)!r} names no channel and subdir")
    return url


class Fields:
    """A mapping of a file, read key by key.

    :param value: what stands in the file.
    :param known: the keys that there may be.
    :param place: where it stands, seen from whoever catches the error.
    :raises InputError: if ``value`` is no mapping, or has another key.
    """

    __slots__ = ("_place", "_values")

    def __init__(self, value: object, known: frozenset[str], place: str = "") -> None:
        if not isinstance(value, dict):
            raise InputError(f"{describe(value)} where a mapping is needed", at=place or None)
        self._values: dict[str, object] = value
        self._place = place
        if not value.keys() <= known:
            unknown = next(key for key in value if key not in known)
            raise self._error(unknown, f"unknown key {unknown!r}", do=suggestion(unknown, known))

    def _at(self, key: str) -> str:
        return f"{self._place}.{_shown_key(key)}" if self._place else _shown_key(key)

    def _error(self, key: str, what: str, do: str | None = None) -> InputError:
        return InputError(what, at=self._at(key), do=do)

    def wrong(self, key: str, needed: str) -> InputError:
        """The error for a value that is not what is needed; to be raised by the caller."""
        if key not in self._values:
            return InputError(f"{key!r} is missing", at=self._place or None)
        return self._error(key, f"{describe(self._values[key])} where {needed} is needed")

    @property
    def values(self) -> Mapping[str, object]:
        """All that is there, unchecked."""
        return self._values

    def __contains__(self, key: str) -> bool:
        """Whether ``key`` is there, and not null."""
        return self._values.get(key) is not None

    def text(self, key: str) -> str:
        """A text that is not empty and has only printable characters.

        :raises InputError: for anything else, as all of these do.
        """
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "a text")
        if not value.isprintable():
            raise self.wrong(key, "a text of printable characters")
        return value

    def raw(self, key: str) -> str:
        """A text as it is, such as a path of a file system, which need not be printable."""
        value = self._values.get(key)
        if not isinstance(value, str):
            raise self.wrong(key, "a text")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], needed: str) -> str:
        """A text that matches the whole of ``pattern``; ``needed`` says it in words."""
        value = self._values.get(key)
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise self.wrong(key, needed)
        return value

    def sha256(self, key: str) -> str:
        """64 lower-case hex digits."""
        return self.matching(key, _SHA256, "a sha256 in lower-case hex")

    def number(self, key: str) -> int:
        """A whole number that is not negative and fits into 63 bits, as a size does."""
        value = self._values.get(key)
        if type(value) is not int or not 0 <= value < _LARGEST:
            raise self.wrong(key, "a whole number")
        return value

    def boolean(self, key: str) -> bool:
        """True or false."""
        value = self._values.get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def each(self, key: str, make: Callable[[object], T]) -> tuple[T, ...]:
        """What ``make`` gives for each item of a list; an error of it is placed at ``key[index]``."""
        values = self._values.get(key)
        if not isinstance(values, list):
            raise self.wrong(key, "a list")
        made: list[T] = []
        try:
            for value in values:
                made.append(make(value))  # noqa: PERF401 - the length says where it went wrong
        except InputError as error:
            raise located(error, f"{self._at(key)}[{len(made)}]") from None
        return tuple(made)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of printable texts."""
        return self.each(key, printable)

    def mapping(self, key: str, *, free: bool = False) -> dict[str, str]:
        """A mapping of texts to texts; ``free`` values may have several lines."""
        values = self._values.get(key)
        if not isinstance(values, dict):
            raise self.wrong(key, "a mapping")
        for name, value in values.items():
            if not name or not name.isprintable():
                raise self._error(key, f"the key {redacted(name)!r} cannot be printed")
            if not isinstance(value, str) or not (_encodable(value) if free else value.isprintable()):
                inner = Fields(values, frozenset(values), self._at(key))
                raise inner.wrong(name, "a text" if free else "a text of one line")
        return values

    def items(self, key: str, make: Callable[[object], T]) -> dict[str, T]:
        """What ``make`` gives for each value of a mapping; an error of it is placed at ``key.name``."""
        values = self._values.get(key)
        if not isinstance(values, dict):
            raise self.wrong(key, "a mapping")
        made: dict[str, T] = {}
        for name, value in values.items():
            try:
                made[name] = make(value)
            except InputError as error:
                raise located(error, f"{self._at(key)}.{_shown_key(name)}") from None
        return made

    def nested(self, key: str, known: frozenset[str]) -> Fields:
        """The mapping below ``key``."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "a mapping")
        return Fields(value, known, self._at(key))


def printable(value: object) -> str:
    """One item of a list of texts.

    :raises InputError: if it is no text, is empty or cannot be printed.
    """
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{describe(value)} where a text is needed")
    return value


def _shown_key(key: str) -> str:
    # A key comes out of the file, too: one that is not simple would make the place unreadable.
    return key if _SIMPLE.fullmatch(key) else repr(redacted(key))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_size(text: str, limit: int, *, source: str) -> None:
    """Refuse a text that no file of its kind is as long as.

    :param limit: how many characters are too many, in whole millions.
    :raises InputError: if there are more.
    """
    if len(text) > limit:
        raise InputError(f"larger than {limit // 1_000_000} MB", at=source, do="name the right file")
