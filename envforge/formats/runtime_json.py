"""What a store notes about a runtime that was made: one line of JSON, version 1.

Goals: to be read in an instant; of use only together with the runtime, an artifact, whose sha256 it has.
"""

from __future__ import annotations

import re

from envforge.formats import _json
from envforge.formats._fields import Fields
from envforge.model.runtime import RuntimeFacts

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.2.0"
_KEYS = frozenset(("sha256", "size", "glibc", "python", "files", "kib"))
_NUMBERS = re.compile(r"\d{1,4}(\.\d{1,4}){1,2}")


def write(facts: RuntimeFacts) -> str:
    """The text, with its last newline."""
    return _json.render(
        {
            "envforge_runtime": VERSION,
            _json.NEEDS: _NEEDS,
            **{name: getattr(facts, name) for name in sorted(_KEYS)},
        },
        {},
    )


def read(text: str) -> RuntimeFacts:
    """What a note says.

    :raises InputError: if it is none, or of a newer version.
    """
    _, value = _json.parse(text, kind="runtime", newest=VERSION, remedy="envforge store prune")
    fields = Fields(value, _KEYS)
    return RuntimeFacts(
        sha256=fields.sha256("sha256"),
        size=fields.number("size"),
        glibc=fields.matching("glibc", _NUMBERS, "a version"),
        python=fields.matching("python", _NUMBERS, "a version"),
        files=fields.number("files"),
        kib=fields.number("kib"),
    )
