"""What is made, where and with what, and what came of it: the nouns of :mod:`envforge.node.linking.build`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envforge.edges.store import Store
from envforge.model.lockfile import LockedPackage
from envforge.model.receipt import FileRecord
from envforge.node.linking.interpreter import Interpreter
from envforge.node.sources.source import ArtifactSource
from envforge.reporting import Reporter

__all__ = ["Blueprint", "BuiltTree", "Workshop"]


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """What is to be made: the rows, for which platform, and the path that it will be used at.

    ``interpreter`` is the Python of a virtual environment, ``None`` where conda packages bring one;
    ``scripts`` names the packages whose post-link scripts are run.  With ``foreign`` the programs of the
    platform do not run here: bytecode is made by a Python of this machine, if it has the right one.
    """

    source: ArtifactSource
    rows: tuple[LockedPackage, ...]
    platform: str
    final: Path
    interpreter: Interpreter | None = None
    scripts: tuple[str, ...] = ()
    foreign: bool = False

    def of(self, manager: str) -> list[LockedPackage]:
        """The rows of conda or of pip."""
        return [row for row in self.rows if row.manager == manager]


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where and with what a tree is made.

    :param work: an empty directory; the tree is moved out of it by the caller.
    :param mend: where the store's copy of a package was altered, unpack another one in ``work``; believe no
        bytecode of the store.
    """

    work: Path
    store: Store
    jobs: int
    reporter: Reporter
    mend: bool = False


@dataclass(frozen=True, kw_only=True)
class BuiltTree:
    """A finished tree: where it lies, what it holds, and what somebody should hear about.

    ``unrun_scripts`` names the packages whose post-link scripts were not run, ``not_compiled`` the sources
    without bytecode, ``clobbered`` the paths that two packages bring, ``copied`` why files were copied where
    they could have been linked, empty if none was.  ``foreign`` is the version of this machine's Python that
    made the bytecode of a foreign environment, empty if there is none for it, and ``None`` for another one.
    """

    path: Path
    files: dict[str, FileRecord]
    unrun_scripts: tuple[str, ...]
    not_compiled: tuple[str, ...]
    clobbered: tuple[str, ...]
    copied: str
    foreign: str | None = None
