"""A node's profile, which ``envforge probe`` or its shell program wrote, version 1.

Goals: a shell can write it (one fact a line, texts of plain ASCII); standard library only, because a node
reads it; facts that this version does not know are passed over: a profile of a newer probe still serves.
"""

from __future__ import annotations

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._fields import Fields
from envforge.model.profile import ClusterProfile

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.1.0"
_REMEDY = "make it again, on the node: envforge probe, or the program that envforge probe --script prints"
_FACTS = ("glibc", "kernel", "macos", "microarchitecture", "driver", "cuda", "mpi", "distribution")
"""In the order in which they are written."""


def write(profile: ClusterProfile) -> str:
    """The text of ``profile``: a fact a line, ``null`` for what is not known."""
    facts = {name: getattr(profile, name) for name in _FACTS}
    return _json.render(
        {"envforge_profile": VERSION, _json.NEEDS: _NEEDS, "platform": profile.platform, **facts}, {}
    )


def read(text: str, *, source: str) -> ClusterProfile:
    """The profile in ``text``.

    :param source: the file's name, for errors.
    :raises InputError: if it is none, one of a newer version, or holds what is no fact.
    """
    try:
        _, value = _json.parse(text, kind="profile", newest=VERSION, remedy=_REMEDY)
        fields = Fields(value, frozenset(value))
        facts = {name: fields.text(name) for name in _FACTS if name in fields}
        return ClusterProfile(platform=fields.text("platform"), **facts)
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error.inside(source) from None
