"""``conda list --export``: a line ``NAME=VERSION=BUILD`` a package, as conda, mamba and micromamba write it.

It is read and not written.  It names no channel, so that whoever imports it must; what pip installed has the
build ``pypi_0``.
"""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats._fields import check_size, redacted
from envforge.model.foreign import ForeignConda, ForeignLock, ForeignPypi

__all__ = ["PIN", "read"]

PIN = re.compile(
    r"(?:(?P<channel>[^\s=<>]+)::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"=(?P<version>[^\s=<>!~,|*]+)=(?P<build>[^\s=<>!~,|*]+)"
)
"""One line."""
_LIMIT = 10_000_000
_PLATFORM = re.compile(r"#\s*platform:\s*([a-z0-9]+-[a-z0-9_]+)\s*")
_OF_PIP = "pypi_0"


def read(text: str, *, source: str) -> ForeignLock:
    """The packages that the list names.

    :raises InputError: for a line that names no build.
    """
    check_size(text, _LIMIT, source=source)
    conda: list[ForeignConda] = []
    pypi: list[ForeignPypi] = []
    platform = None
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        at, line = f"{source}:{number}", line.strip()
        said = _PLATFORM.fullmatch(line)
        platform = said[1] if said is not None else platform
        if not line or line.startswith("#"):
            continue
        match = PIN.fullmatch(line)
        if match is None or not line.isprintable():
            raise InputError(
                f"{redacted(ascii(line)[1:-1])!r} is no NAME=VERSION=BUILD",
                at=at,
                do="write it as conda list --export does",
            )
        if match["build"] == _OF_PIP:
            pypi.append(ForeignPypi(name=match["name"], version=match["version"], at=at))
        else:
            conda.append(
                ForeignConda(
                    name=match["name"].lower(),
                    version=match["version"],
                    build=match["build"],
                    channel=match["channel"],
                    platform=platform or "",
                    at=at,
                )
            )
    return ForeignLock(
        kind="conda list --export",
        conda=tuple(conda),
        pypi=tuple(pypi),
        platforms=(platform,) if platform else (),
    )
