"""TOML 1.0 from outside and to outside.

Goals: what is no TOML is an error with its line; a key that is there twice is one of these.  The parser is
the standard library's, which neither runs code nor expands anything.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import tomli_w

from envforge.errors import InputError
from envforge.formats._fields import redacted

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["parse", "render"]

_LIMIT = 64_000_000
_PLACE = re.compile(r"(?P<what>.*?) \(at (?:line (?P<line>\d+), column \d+|end of document)\)", re.DOTALL)
_ANOTHER_FILE = "name the right file"


def parse(text: str, *, source: str) -> dict[str, Any]:
    """The document in ``text``.

    :param source: the file's name, for errors.
    :raises InputError: if it is no TOML, too large or nested too deeply.
    """
    if len(text) > _LIMIT:
        raise InputError(f"larger than {_LIMIT // 1_000_000} MB", at=source, do=_ANOTHER_FILE)
    try:
        document: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
        return document
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.fullmatch(str(error))
        what = redacted(match["what"] if match else str(error))
        at = f"{source}:{match['line']}" if match and match["line"] else source
        shown = what if what.isprintable() else ascii(what)[1:-1]
        raise InputError(
            f"not valid TOML: {shown[:1].lower()}{shown[1:]}", at=at, do="take the file as its tool wrote it"
        ) from None
    except RecursionError:
        raise InputError("nested too deeply", at=source, do=_ANOTHER_FILE) from None
    except ValueError as error:  # a date that is none, a number of a million digits
        raise InputError(f"not valid TOML: {error}", at=source, do=_ANOTHER_FILE) from None


def render(document: dict[str, Any]) -> str:
    """``document`` as TOML, in the order of its keys."""
    return tomli_w.dumps(document)
