"""``ID.json`` beside a generation: how it came to be, version 3.

Version 1 had ``time``, ``host``, ``user`` and ``tool``; version 2 did not name the ``stores``.
Standard library only, because a node reads it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._fields import Fields
from envforge.model.installation import Installation

__all__ = ["VERSION", "read", "write"]

VERSION = 3
_NEEDS = "0.1.0"
_REMEDY = "it is only a note: remove it, and history says less"
_TEXTS = ("made", "switched", "host", "user", "job", "tool", "name", "lock", "changes")
_NUMBERS = ("packages", "files", "size")
_KNOWN = frozenset((*_TEXTS, *_NUMBERS, "groups", "stores"))
_FIRST = frozenset(("time", "host", "user", "tool"))


def write(installation: Installation) -> str:
    """The text of ``installation``."""
    value: dict[str, object] = {"envforge_installation": VERSION, _json.NEEDS: _NEEDS}
    value |= {key: getattr(installation, key) for key in _TEXTS}
    value |= {key: getattr(installation, key) for key in _NUMBERS}
    value["groups"] = list(installation.groups)
    value["stores"] = list(installation.stores)
    return json.dumps(value, indent=2) + "\n"


def read(text: str) -> Installation:
    """The installation in ``text``.

    :raises InputError: if it is none, or one of a newer version.
    """
    version, value = _json.parse(text, kind="installation", newest=VERSION, remedy=_REMEDY)
    try:
        if version == 1:
            first = Fields(value, _FIRST)
            made = first.text("time")
            return Installation(made=made, switched=made, **_texts(first, ("host", "user", "tool")))
        return _read_newer(Fields(value, _KNOWN))
    except InputError as error:
        error.do = error.do or _REMEDY
        raise


def _read_newer(record: Fields) -> Installation:
    record.text("made")
    numbers: dict[str, Any] = {key: record.number(key) for key in _NUMBERS}
    stores = record.texts("stores") if "stores" in record else ()
    return Installation(groups=record.texts("groups"), stores=stores, **_texts(record, _TEXTS), **numbers)


def _texts(record: Fields, keys: Sequence[str]) -> dict[str, Any]:
    """Those that are there and not empty."""
    return {key: record.text(key) for key in keys if key in record and record.raw(key)}
