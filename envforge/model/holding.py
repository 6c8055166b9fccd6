"""What a lockfile, mirror, bundle or environment holds: packages, and what was asked for to get them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from envforge.model.graph import Asked
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["ENVIRONMENTS", "Holding", "build_of", "origin_of"]

ENVIRONMENTS = ("prefix", "conda", "venv")
"""The kinds that are installed: by envforge, a conda environment by another tool, a virtual environment."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """The packages of one thing that was named.

    ``kind`` is ``lockfile``, ``mirror``, ``bundle`` or one of :data:`ENVIRONMENTS`.  The lockfile of an
    environment has the packages that are installed, on one platform.  ``groups`` are those that it holds,
    ``None`` for all of its lockfile's.  ``asked`` are the lines of the specification, ``None`` where that is
    not at hand.  ``sizes`` are bytes by manager, name and platform: of artifacts, or of what is installed.
    """

    source: str
    kind: str
    lockfile: Lockfile
    groups: tuple[str, ...] | None = None
    asked: tuple[Asked, ...] | None = None
    sizes: Mapping[tuple[str, str, str], int] = field(default_factory=dict)

    def size(self, row: LockedPackage) -> int | None:
        """The bytes of one package, ``None`` where they are not known."""
        return self.sizes.get((row.manager, row.name, row.platform))


def origin_of(row: LockedPackage) -> str:
    """Where a package comes from: its channel, ``PyPI``, the host of another index, the directory of a file.

    Empty where that is not known.
    """
    if row.manager == "conda":
        return row.channel
    parts = urlsplit(row.url)
    if parts.netloc in ("files.pythonhosted.org", "pypi.org"):
        return "PyPI"
    if parts.scheme in ("http", "https"):
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return row.url.rpartition("/")[0] if parts.scheme == "file" else parts.scheme


def build_of(row: LockedPackage) -> str:
    """A conda package's build string; of a PyPI project nothing."""
    return row.build_string if row.manager == "conda" else ""
