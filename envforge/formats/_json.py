"""What envforge's own JSON files have in common.

Goals: standard library only, because a node reads them; deterministic; one record a line, so that ``diff``
and ``grep`` work on them; ASCII, so that file names that are not UTF-8 survive; a version that is looked at
first.  RFC 8259, and stricter: no key twice, no NaN.

A file says by itself which envforge can read it (``needs``): an older one cannot know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from envforge import __version__
from envforge.errors import InputError
from envforge.formats._fields import describe, needed_release, redacted

__all__ = ["NEEDS", "check_unique", "parse", "render", "strict"]

NEEDS = "needs"
"""The key that names the first release that reads this version of the format."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


def render(head: Mapping[str, object], lists: Mapping[str, Iterable[object]]) -> str:
    """A document: the keys of ``head``, a line each, then those of ``lists``, a line each item."""
    parts = [f"{_encode(key)}:{_encode(value)}" for key, value in head.items()]
    for key, items in lists.items():
        body = ",\n".join(map(_encode, items))
        parts.append(f"{_encode(key)}:[\n{body}\n]" if body else f"{_encode(key)}:[]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def strict(text: str) -> Any:
    """The value that ``text`` is, which says no key twice and no NaN.

    :raises ValueError: if it is no JSON.
    :raises RecursionError: if it is nested too deeply.
    :raises InputError: for a key that is there twice, and for what only some readers take for a number.
    """
    return json.loads(text, parse_int=_integer, parse_constant=_constant, object_pairs_hook=_unique)


def parse(text: str, *, kind: str, newest: int, remedy: str) -> tuple[int, dict[str, object]]:
    """The version of a document and its other keys.

    :param kind: ``lock`` for a file whose version stands under ``envforge_lock``.
    :param newest: the newest version that is known.
    :param remedy: what helps against a damaged file.
    :raises InputError: if it is no such document, or a newer one.
    """
    try:
        value = strict(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", at=f"line {error.lineno}", do=remedy) from None
    except RecursionError:
        raise InputError("not usable JSON: nested too deeply", do=remedy) from None
    except InputError as error:
        error.do = remedy
        raise
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a mapping is needed", do=remedy)
    key = f"envforge_{kind}"
    version = value.pop(key, None)
    if type(version) is not int or version < 1:
        what = (
            f"not a {kind} of envforge: {key!r} is missing" if version is None else "no version of a format"
        )
        raise InputError(what, at=None if version is None else key, do=remedy)
    if version > newest:
        raise InputError(
            f"the {kind} has format version {version}, and envforge {__version__} reads up to {newest}",
            at=key,
            do=needed_release(value.get(NEEDS)),
        )
    value.pop(NEEDS, None)
    return version, value


def _integer(text: str) -> int | float:
    # Converting thousands of digits takes quadratic time; as a float the number is refused at its place.
    return int(text) if len(text) < 20 else float(text)


def _constant(text: str) -> NoReturn:
    raise InputError(f"not valid JSON: {text}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the key {redacted(twice)!r} is there twice")
    return made


def check_unique(key: str, paths: Sequence[str]) -> None:
    """Whether the records below ``key`` are of one path each.

    :raises InputError: if one is there twice: readers would not agree on which counts.
    """
    if len(set(paths)) == len(paths):
        return
    seen: set[str] = set()
    for index, path in enumerate(paths):
        if path in seen:
            raise InputError(f"the path {path!r} is there twice", at=f"{key}[{index}]")
        seen.add(path)
