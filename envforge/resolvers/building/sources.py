"""What a wheel is built from, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envforge.edges.building import OLDEST, copy_project, unpack_sdist
from envforge.edges.fetch import Fetcher
from envforge.edges.repository import Repository, commit_time, take_commit
from envforge.errors import InputError
from envforge.model.built import BuiltWheel
from envforge.model.urls import redacted

__all__ = ["Checkout", "Project", "Sdist", "Source", "checkout_of", "source_of", "unpacked"]

_PROJECT_TIME = OLDEST
"""A project has no time of its own: that of its files is when they were checked out."""


@dataclass(frozen=True, kw_only=True)
class Sdist:
    """An sdist to build: ``url`` without secrets, ``fetch`` the same with the login that it needs.

    ``name`` and ``version`` are what the wheel must come out as; ``None`` where nobody knows it before.
    """

    url: str
    sha256: str
    fetch: str
    name: str | None = None
    version: str | None = None

    @property
    def source(self) -> str:
        """As the lockfile names it."""
        return self.url

    @property
    def label(self) -> str:
        """What a person calls it."""
        known = f"{self.name} {self.version or ''}".strip() if self.name else ""
        return known or redacted(self.url.rpartition("/")[2])


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project's directory, or an sdist on this machine; ``source`` is its path as the lockfile names it."""

    path: Path
    source: str
    at: str

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.source


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A commit of a repository; ``source`` is its URL as the lockfile names it, with the commit."""

    repository: Repository
    commit: str
    subdirectory: str
    source: str

    @property
    def label(self) -> str:
        """What a person calls it."""
        return redacted(self.source)


Source = Sdist | Project | Checkout


def source_of(built: BuiltWheel, base: Path) -> Source:
    """What a wheel that was locked was built from.

    :param base: the lockfile's directory, which a project's path is relative to.
    """
    if built.is_of_repository:
        return checkout_of(built.source)
    if built.source_sha256 is None:
        return Project(path=base / built.source, source=built.source, at=built.source)
    return Sdist(
        name=built.name,
        version=built.version,
        url=built.source,
        sha256=built.source_sha256,
        fetch=built.source,
    )


def checkout_of(source: str) -> Checkout:
    """The commit that ``git+URL@COMMIT#subdirectory=…`` names.

    :raises InputError: for anything else.
    """
    url, _, fragment = source.removeprefix("git+").partition("#")
    url, _, commit = url.rpartition("@")
    return Checkout(
        repository=Repository(url=url, revision=commit),
        commit=commit,
        subdirectory=fragment.partition("subdirectory=")[2],
        source=source,
    )


def unpacked(source: Source, work: Path, name: str, fetcher: Fetcher) -> tuple[Path, int]:
    """The files of ``source`` in the new directory ``name`` of ``work``, and their time since 1970.

    What is fetched is fetched once a ``work``.

    :raises InputError: if it is not what it is said to be.
    :raises CouldNotError: if it cannot be had.
    """
    place = work / name
    if isinstance(source, Checkout):
        return _checked_out(source, work, place)
    if isinstance(source, Project) and source.path.is_dir():
        copy_project(source.path.resolve(), place)
        return place, _PROJECT_TIME
    if isinstance(source, Project) and not source.path.is_file():
        raise InputError(
            f"{source.source} is not the directory of a project",
            at=source.at,
            do="name a directory with a pyproject.toml, relative to the specification",
        )
    archive = source.path if isinstance(source, Project) else work / "sdist.tar.gz"
    filename = (str(source.path) if isinstance(source, Project) else source.url).rpartition("/")[2]
    if not filename.endswith((".tar.gz", ".tgz")):
        raise InputError(
            f"{filename} is not a .tar.gz, and no other sdist can be built",
            at=redacted(source.source),
            do=f"take {source.label} from conda: write it outside pip:",
        )
    if isinstance(source, Sdist) and not archive.exists():
        fetcher.download(source.fetch, archive, sha256=source.sha256)
    place.mkdir()
    return unpack_sdist(archive, place, filename)


def _checked_out(source: Checkout, work: Path, place: Path) -> tuple[Path, int]:
    clone = work / "repository"
    if not clone.exists():
        take_commit(source.repository, source.commit, clone)
    copy_project(clone, place)
    tree = place / source.subdirectory
    if not tree.is_dir() or not tree.resolve().is_relative_to(place.resolve()):
        raise InputError(f"the commit has no directory {source.subdirectory!r}", at=redacted(source.source))
    return tree, max(commit_time(clone), OLDEST)
