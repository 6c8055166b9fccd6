"""What a SquashFS of envforge's says behind its end: one line of JSON, version 1.

Goals: standard library only; read without unpacking anything; a function of the image alone.
"""

from __future__ import annotations

import re
from dataclasses import asdict

from envforge.formats import _json
from envforge.formats._fields import Fields
from envforge.formats._rows import PLATFORM
from envforge.model.image import ImageFacts

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.2.0"
_KEYS = frozenset(("kind", "prefix", "platform", "name", "lock", "receipt", "version"))
_KIND = re.compile(r"environment|root")
_ABSOLUTE = re.compile(r"/[^\0]*")


def write(facts: ImageFacts) -> str:
    """The line, without its end."""
    document = {"envforge_image": VERSION, _json.NEEDS: _NEEDS, **asdict(facts)}
    return " ".join(_json.render(document, {}).split("\n")).strip()


def read(text: str) -> ImageFacts:
    """What a line says.

    :raises InputError: if it is none, or of a newer version.
    """
    _, value = _json.parse(text, kind="image", newest=VERSION, remedy="make or carry the image again")
    fields = Fields(value, _KEYS)
    return ImageFacts(
        kind=fields.matching("kind", _KIND, "environment or root"),
        prefix=fields.matching("prefix", _ABSOLUTE, "an absolute path"),
        platform=fields.matching("platform", PLATFORM, "a platform"),
        name=fields.text("name"),
        lock=fields.sha256("lock"),
        receipt=fields.sha256("receipt"),
        version=fields.text("version"),
    )
