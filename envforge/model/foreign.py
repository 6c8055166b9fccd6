"""Other tools' files: what they say, as far as they go, and what they cannot hold.

A file of another tool seldom says all that a row of a lockfile needs.  A reader hands on what is there, and
completes nothing: ``None`` and an empty tuple mean that the file does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "NOT_IMPORTED",
    "Choice",
    "Edge",
    "ForeignConda",
    "ForeignFile",
    "ForeignLock",
    "ForeignPypi",
    "Loss",
    "Written",
]

NOT_IMPORTED = "not imported"
"""How a note begins that says what of a file was left out."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Something that a format cannot hold: ``what``, as its page names it, and of which packages."""

    what: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file of another tool: the name that the tool looks for, the text, what is lost in it.

    ``platform`` is ``None`` if it is for all of them.
    """

    filename: str
    text: str
    platform: str | None = None
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ForeignConda:
    """A conda package.  ``url`` or ``channel`` may be missing; then name, version and build are there.

    ``depends`` are MatchSpecs; ``groups`` the groups that it is locked in.
    """

    name: str
    version: str
    build: str
    platform: str
    url: str | None = None
    channel: str | None = None
    sha256: str | None = None
    md5: str | None = None
    depends: tuple[str, ...] | None = None
    groups: tuple[str, ...] = ("main",)
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class ForeignFile:
    """A wheel or an sdist; where its URL is not said, its hash and its name may find it on an index."""

    filename: str | None
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Edge:
    """What a package needs: another one, of ``version`` where there are several, while ``marker`` holds."""

    name: str
    version: str | None = None
    extras: tuple[str, ...] = ()
    marker: str | None = None
    specifier: str = ""


@dataclass(frozen=True, kw_only=True)
class ForeignPypi:
    """A version of a PyPI package and the files that there are of it, for any number of platforms.

    ``platforms`` is ``None`` where ``marker`` and the tags of the files decide.  ``groups`` is ``None`` where
    the marker, or the way from the roots, decides.  ``needs`` is ``None`` where the file does not say it;
    ``extras`` are what an extra needs beside that.  ``source`` says where it comes from if that is no file
    that can be locked: ``a directory``, ``a repository``.  ``seen`` is true for what was found installed: an
    index need not have it.
    """

    name: str
    version: str
    files: tuple[ForeignFile, ...] = ()
    platforms: tuple[str, ...] | None = None
    marker: str | None = None
    groups: tuple[str, ...] | None = ("main",)
    needs: tuple[Edge, ...] | None = None
    extras: Mapping[str, tuple[Edge, ...]] = field(default_factory=dict)
    index: str | None = None
    source: str | None = None
    seen: bool = False
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A group of an import: what of a file belongs to it.

    ``extras`` and ``groups`` are what a marker of a ``pylock.toml`` sees; ``roots`` where the way through a
    graph begins.
    """

    name: str
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    roots: tuple[Edge, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ForeignLock:
    """A file of another tool, read.

    ``kind`` names the format and its version, for people.  ``platforms`` are those that the file is for, none
    where it does not say; ``targets`` what it says to assume of them, as a lockfile writes it.  ``python`` is
    a version, ``requires_python`` a specifier.  ``choices`` are the groups of what has no ``groups`` itself.
    ``graph`` is true if packages count that can be reached from the roots, and no others.  ``asked`` is what
    was asked for, as far as it is known: MatchSpecs and requirements.  ``notes`` are for the user.
    """

    kind: str
    conda: tuple[ForeignConda, ...] = ()
    pypi: tuple[ForeignPypi, ...] = ()
    name: str | None = None
    channels: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    requires_python: str | None = None
    choices: tuple[Choice, ...] = (Choice(name="main"),)
    graph: bool = False
    asked_conda: tuple[str, ...] = ()
    asked_pip: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
