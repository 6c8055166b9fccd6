"""Which Python the wheels of an import are chosen for: the one that is said, or the one that they fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envforge.errors import InputError
from envforge.formats._fields import redacted
from envforge.importing.selecting import best_file, filename_of
from envforge.model.foreign import ForeignConda, ForeignLock, ForeignPypi
from envforge.model.platforms import Target
from envforge.resolvers.pypi.target import wheel_tags

__all__ = ["is_settled", "lowest_python", "python_of_wheels", "said_python"]

_VERSION = re.compile(r"\d{1,2}\.\d{1,3}(\.\d{1,3})?\w{0,8}")
_OLDEST_MINOR, _NEWEST_MINOR, _LAST_PATCH = 6, 30, 40


def said_python(lock: ForeignLock, given: str | None, conda: Iterable[ForeignConda]) -> str | None:
    """The Python that the user, the conda packages or the file names; ``None`` where none of them does.

    :raises InputError: for what is no version, and for one that the file does not allow.
    """
    own = next((one.version for one in conda if one.name == "python"), None)
    python = given or own or lock.python
    if python is not None and not _VERSION.fullmatch(python):
        raise InputError(f"{redacted(python)!r} is no version of Python", at="--python", do="write 3.12")
    if given is not None and not _allows(lock, given):
        raise InputError(
            f"the file is for Python {lock.requires_python}",
            at=f"--python {given}",
            do="name a version in that range, in full: --python X.Y.Z",
        )
    return python


def _allows(lock: ForeignLock, python: str) -> bool:
    try:
        return SpecifierSet(lock.requires_python or "").contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def lowest_python(requires: str) -> str:
    """The lowest Python 3 that the specifier ``requires`` allows.

    :raises InputError: if it is no specifier, or there is none.
    """
    try:
        allowed = SpecifierSet(requires)
    except InvalidSpecifier:
        raise InputError(
            f"{redacted(requires)!r} is no range of versions", at="requires-python", do="--python X.Y"
        ) from None
    for minor in range(_NEWEST_MINOR):
        for patch in range(_LAST_PATCH):
            if allowed.contains(f"3.{minor}.{patch}"):
                return f"3.{minor}.{patch}" if patch else f"3.{minor}"
    raise InputError(f"no Python 3 is in {redacted(requires)!r}", at="requires-python", do="--python X.Y")


def is_settled(package: ForeignPypi) -> bool:
    """Whether whoever wrote the file chose the one file of ``package`` for its platform."""
    return package.platforms is not None and len(package.files) == 1


def python_of_wheels(packages: Sequence[ForeignPypi], target: Target) -> str | None:
    """The only Python for which each package has a file; any such one where that changes no choice.

    ``None`` where several would do, and each would lead to another lock.
    """
    named = [
        one.files for one in packages if one.marker is None and one.files and all(map(filename_of, one.files))
    ]
    fits = []
    for minor in range(_OLDEST_MINOR, _NEWEST_MINOR):
        python = f"3.{minor}"
        tags = wheel_tags(target, python)
        if all(best_file(files, target, python, tags=lambda tags=tags: tags) for files in named):  # type: ignore[misc]
            fits.append(python)
    alike = all(one.marker is None and len(one.files) == 1 for one in packages) and bool(named)
    return fits[0] if len(fits) == 1 or (fits and alike) else None
