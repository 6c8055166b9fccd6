"""The Python of an environment that brings none of its own: the one that the cluster has.

A person says 3.11, or 3.11.9.  Of 3.11 nobody knows the patch, so that what is locked must work with each of
them: 3.11.0 is assumed, because a wheel that a later patch is needed for says so, and one that an earlier is
needed for hardly exists.
"""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.model.lockfile import Lockfile

__all__ = ["assumed_python", "check_python", "locked_python", "python_key"]

_WANTED = re.compile(r"3\.(?:0|[1-9]\d?)(?:\.(?:0|[1-9]\d?))?")


def python_key(platform: str) -> str:
    """The key of a lockfile's ``custom`` that holds the Python that ``platform`` was locked for."""
    return f"envforge.python.{platform}"


def check_python(text: str, *, at: str | None = None) -> str:
    """Return ``text`` if it is a version of Python as a person says it: ``3.11`` or ``3.11.9``.

    :raises InputError: for anything else.
    """
    if not _WANTED.fullmatch(text):
        raise InputError(f"{text!r} is not a version of Python", at=at, do="write 3.11, or in full: 3.11.9")
    return text


def assumed_python(text: str) -> str:
    """The full version that is resolved for."""
    return text if text.count(".") > 1 else f"{text}.0"


def locked_python(lockfile: Lockfile, platform: str) -> str | None:
    """The full version that ``platform`` was locked for, where no conda package brings the Python.

    :raises InputError: if the lockfile says something that is no version.
    """
    text = lockfile.custom.get(python_key(platform))
    if text is None:
        return None
    return assumed_python(check_python(text, at=f"metadata: custom_metadata: {python_key(platform)}"))
