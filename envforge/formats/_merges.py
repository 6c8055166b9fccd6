"""What a merge that was given up leaves in a text file."""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats._fields import redacted

__all__ = ["check_merged"]

_MARKER = re.compile(r"^(?:<{7}|\|{7}|>{7})(?= |$|\r).*", re.MULTILINE)


def check_merged(text: str, *, source: str) -> None:
    """Refuse a file in which git's markers of a conflict are left.

    :param source: the file's name, for the error.
    :raises InputError: with the line of the first one.
    """
    marker = _MARKER.search(text)
    if marker is not None:
        line = len(re.findall(r"\r\n|\r|\n", text[: marker.start()])) + 1
        raise InputError(
            f"a conflict of a merge was left in the file: {redacted(marker[0].strip())}",
            at=f"{source}:{line}",
            do="choose one of the sides, and delete the lines that begin with <<<<<<<, ======= or >>>>>>>",
        )
