"""``bundle.json`` in a bundle: which part of a mirror it holds, version 1.

Standard library only, because a node reads it; deterministic.
"""

from __future__ import annotations

import json

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._fields import Fields
from envforge.formats._rows import PLATFORM
from envforge.model.bundle import BundleContents

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.1.0"
_REMEDY = "carry the bundle again: it was damaged"
_TOP = frozenset(("name", "lock", "platform", "groups", "runtime", "since", "bytes", "files"))


def write(contents: BundleContents) -> str:
    """The text of ``contents``."""
    document = {
        "envforge_bundle": VERSION,
        _json.NEEDS: _NEEDS,
        "name": contents.name,
        "lock": contents.lock,
        "platform": contents.platform,
        "groups": list(contents.groups),
        "runtime": contents.runtime,
        "since": contents.since,
        "bytes": contents.bytes,
        "files": contents.files,
    }
    return json.dumps(document, indent=2) + "\n"


def read(text: str) -> BundleContents:
    """The contents in ``text``.

    :raises InputError: if it is none, one of a newer version, or a damaged one.
    """
    _, value = _json.parse(text, kind="bundle", newest=VERSION, remedy=_REMEDY)
    try:
        top = Fields(value, _TOP)
        return BundleContents(
            name=top.text("name"),
            lock=top.sha256("lock"),
            platform=top.matching("platform", PLATFORM, "a platform"),
            groups=top.texts("groups"),
            runtime=top.sha256("runtime") if "runtime" in top else None,
            since=top.sha256("since") if "since" in top else None,
            bytes=top.number("bytes"),
            files=top.number("files"),
        )
    except InputError as error:
        error.do = error.do or _REMEDY
        raise
