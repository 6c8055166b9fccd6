"""``requirements.in`` and ``requirements.txt``: pip's own specification.

Follows pip's documentation of the format; :mod:`envforge.formats._pip_lines` has the grammar.
"""

from __future__ import annotations

from envforge.formats._draft import Around, Draft, Place
from envforge.formats._fields import check_size
from envforge.formats._pip_lines import PipReader

__all__ = ["read"]

_LIMIT = 10_000_000


def read(text: str, *, source: str, around: Around | None = None) -> Draft:
    """What ``text`` says, and what the files say that it names.

    :param source: the file's name, for errors, and for what its paths are relative to.
    :raises InputError: if something in it cannot be used, with the line.
    """
    check_size(text, _LIMIT, source=source)
    draft = Draft(source=source)
    reader = PipReader(part=draft.pip, around=around or Around())
    reader.read_file(text, Place(source=source, at=source))
    return draft
