"""Platform selectors: ``- foo  # [linux64]`` of conda-lock, ``- sel(linux): foo`` of micromamba.

The words are conda-lock's (which conda-build coined); ``and``, ``or``, ``not`` are conda-build's.
"""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats._fields import redacted
from envforge.model.platforms import PLATFORMS

__all__ = ["WORDS", "in_comment", "in_key", "select"]

_OF = {
    "linux-64": ("unix", "linux", "linux64"),
    "linux-aarch64": ("unix", "linux", "aarch64"),
    "linux-ppc64le": ("unix", "linux", "ppc64le"),
    "osx-64": ("unix", "osx", "osx64"),
    "osx-arm64": ("unix", "osx", "arm64"),
    "win-64": ("win", "win64"),
    "win-arm64": ("win", "arm64"),
}
WORDS = frozenset(word for words in _OF.values() for word in words)
"""Every word that a selector may be made of."""

_FIRST = re.compile(r"#\s*\[([^\[\]]*)\]")
_LATER = re.compile(r"\[([^\[\]]*)\]")
_KEY = re.compile(r"sel\((.*)\)")


def in_comment(comment: str) -> str | None:
    """The selector in a comment that begins with ``#``; ``None`` if there is none.

    Brackets at the beginning are a selector.  Further on in prose (``# see [1]``) they are one only if their
    words are a selector's, because conda-lock takes them for one as well.
    """
    first = _FIRST.match(comment)
    if first is not None and any(character.isalpha() for character in first[1]):
        return first[1]
    found: list[str] = _LATER.findall(comment)
    return next((text for text in reversed(found) if _is_selector(text)), None)


def in_key(key: str) -> str | None:
    """The selector in a key such as ``sel(linux)``; ``None`` for any other key."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def _is_selector(text: str) -> bool:
    words = text.split()
    return bool(words) and all(word in WORDS or word in ("and", "or", "not") for word in words)


def select(expression: str) -> tuple[str, ...]:
    """The platforms that a selector keeps: words joined by ``and``, ``or`` and ``not``.

    :raises InputError: for an unknown word, a sentence that is none, or one that keeps no platform; the place
        is left to the caller.
    """
    kept = tuple(platform for platform in PLATFORMS if _holds(expression, platform))
    if not kept:
        raise InputError(
            f"the selector {expression!r} keeps no platform", do="remove the line, or correct it"
        )
    return kept


def _holds(expression: str, platform: str) -> bool:
    # `not` binds closest, then `and`, then `or`, as in Python.
    alternatives = _split(expression.split(), "or")
    results = [[_term(term, expression, platform) for term in _split(words, "and")] for words in alternatives]
    return any(all(terms) for terms in results)


def _split(words: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _term(words: list[str], expression: str, platform: str) -> bool:
    negated = len(words) == 2 and words[0] == "not"
    if len(words) != 1 + negated:
        raise InputError(
            f"{redacted(expression)!r} is no selector",
            do="write words joined by and, or, not: # [linux and not aarch64]",
        )
    word = words[-1]
    if word not in WORDS:
        raise InputError(
            f"unknown word {redacted(word)!r} in a selector", do=f"use one of: {', '.join(sorted(WORDS))}"
        )
    return (word in _OF[platform]) is not negated
