"""What one file of a specification says, before several are joined.

The readers fill a :class:`Draft`; ``envforge.lock.specification`` makes the
:class:`~envforge.model.spec.EnvironmentSpec` of one or several.  Paths in a draft are relative to the working
directory, and begin with ``./``, ``../`` or ``/``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from envforge.errors import InputError
from envforge.formats._fields import redacted
from envforge.model.spec import Assumption, Line

__all__ = ["PYPI", "Around", "Draft", "PipPart", "Place", "beside", "check_group", "check_name"]

PYPI = "https://pypi.org/simple"

_NAME = re.compile(r"[^\s/\\:#\[\]]{1,200}")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def _no_file(path: str) -> str:
    raise InputError("another file is named, and none can be read here", at=path, do="copy its lines here")


def _unheard(_text: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a file of a specification may refer to, and who hears what was left out of it.

    ``read`` gives the text of a file that is named by another one, by its path from the working directory.
    ``environment`` is the choice among the environments of a pixi manifest.
    """

    read: Callable[[str], str] = _no_file
    variables: Mapping[str, str] = field(default_factory=dict)
    note: Callable[[str], None] = _unheard
    environment: str | None = None


@dataclass(kw_only=True)
class PipPart:
    """The PyPI half of a file: requirements, limits, and where to look for what.

    ``main`` is what ``--index-url`` names, with the place where it does; ``repositories`` are what adds to
    PyPI unless ``allow_pypi`` takes that away, ``extra`` what adds to either.
    """

    lines: list[Line] = field(default_factory=list)
    constraints: list[Line] = field(default_factory=list)
    main: tuple[str, str] | None = None
    extra: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    index_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    no_binary: list[str] = field(default_factory=list)
    prerelease: bool = False
    no_index: bool = False
    allow_pypi: bool = True

    def set_main(self, url: str, at: str) -> None:
        """Name the default index.

        :raises InputError: if there is another one.
        """
        if self.main is not None and self.main[0] != url:
            raise InputError(
                f"there are two index URLs; the first is in {self.main[1]}",
                at=at,
                do="write --extra-index-url for the second one",
            )
        self.main = self.main or (url, at)

    def set_index_of(self, name: str, url: str, at: str) -> None:
        """Name the index that the project ``name`` (canonical) is taken from.

        :raises InputError: if there is another one.
        """
        known = self.index_of.setdefault(name, (url, at))
        if known[0] != url:
            raise InputError(
                f"two indexes are named for {name}; the first in {known[1]}",
                at=at,
                do="name the same one in both places",
            )

    def indexes(self) -> tuple[str, ...]:
        """The default index first; empty for PyPI alone.

        ``--index-url`` replaces PyPI, ``--extra-index-url`` and ``pip-repositories`` add to it, and
        ``allow-pypi-requests: false`` and ``--no-index`` take it away.
        """
        more = self.repositories + self.extra
        if self.main is not None:
            more = [self.main[0], *more]
        elif more and self.allow_pypi:
            more = [PYPI, *more]
        return () if self.no_index else tuple(dict.fromkeys(more))


@dataclass(kw_only=True)
class Draft:
    """One file: its name, its conda half, its PyPI half, and the Python that it is for.

    ``requires_python`` are PEP 440 specifiers, each with the place where it is written; so are
    ``channel_priority`` and ``exclude_newer``, where the file says them.
    """

    source: str
    name: str | None = None
    channels: list[str] = field(default_factory=list)
    platforms: list[str] = field(default_factory=list)
    conda: list[Line] = field(default_factory=list)
    pip: PipPart = field(default_factory=PipPart)
    requires_python: list[tuple[str, str]] = field(default_factory=list)
    assumed: list[Assumption] = field(default_factory=list)
    conda_constraints: list[Line] = field(default_factory=list)
    channel_priority: tuple[str, str] | None = None
    exclude_newer: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a line of the PyPI half stands and whom it is for: what a :class:`Line` has beside its text.

    ``source`` is the file that paths in the line are relative to, ``through`` the files that led to it.
    """

    source: str
    at: str
    group: str = "main"
    platforms: tuple[str, ...] | None = None
    through: tuple[str, ...] = ()

    def line(self, text: str, hashes: tuple[str, ...] = ()) -> Line:
        """``text`` as a line that stands here."""
        return Line(text=text, at=self.at, platforms=self.platforms, group=self.group, hashes=hashes)

    def moved(self, at: str) -> Place:
        """Another place of the same file."""
        return replace(self, at=at)


def beside(source: str, path: str) -> str:
    """``path``, as it is written in the file ``source``, from where ``source`` itself is seen."""
    joined = posixpath.join(PurePath(source).parent.as_posix(), path.replace("\\", "/"))
    shown = posixpath.normpath(joined)
    return shown if shown == "." or shown.startswith(("/", "../")) or shown == ".." else f"./{shown}"


def check_name(name: str, *, at: str) -> str:
    """Return ``name`` if it can be an environment's.

    :raises InputError: else.
    """
    if not _NAME.fullmatch(name) or not name.isprintable() or name in (".", ".."):
        raise InputError(
            f"{redacted(name)!r} cannot be an environment's name",
            at=at,
            do="use letters, digits, -, _ and .",
        )
    return name


def check_group(name: str, *, at: str) -> str:
    """Return ``name`` if it can be a group's.

    :raises InputError: else.
    """
    if not _GROUP.fullmatch(name):
        raise InputError(
            f"{redacted(name)!r} cannot be a group's name", at=at, do="use letters, digits, -, _ and ."
        )
    return name
