"""Looking locked packages up: what channels and indexes say of a version that is settled already.

Nothing is solved here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from envforge.edges.fetch import Fetcher, NotFoundError, local_path
from envforge.formats.simple_index import read_files
from envforge.model.foreign import ForeignFile
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import Target
from envforge.resolvers.conda import CondaRecord, CondaRequest
from envforge.resolvers.conda.solver import Solver

__all__ = ["channel_records", "indexed_files"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2, */*;q=0.1"
"""JSON is read ten times as fast."""
_LARGEST_PAGE = 64 << 20
"""Bytes of one project's page; the largest on PyPI have some 20 million."""


def channel_records(
    names: Mapping[str, Iterable[str]], target: Target, *, cache: Path, fetcher: Fetcher
) -> dict[str, tuple[CondaRecord, ...]]:
    """All records of some packages, by channel.

    :param names: the packages' names by the channel's URL.
    :param target: whose platform's packages, and those of ``noarch``, are looked at.
    :raises InputError: if a channel does not exist.
    :raises CouldNotError: if one cannot be read.
    """
    solver = Solver(cache=cache, offline=fetcher.offline, fetcher=fetcher, channels=tuple(names))
    return {
        url: solver.known(CondaRequest(channels=(url,), specs=(), target=target), sorted(set(wanted)))
        for url, wanted in names.items()
    }


def indexed_files(
    name: str, version: str, *, indexes: Sequence[str], fetcher: Fetcher
) -> tuple[ForeignFile, ...]:
    """The files of one version on the first index that has any of it; empty if none has.

    :param indexes: URLs of simple indexes (PEP 503, PEP 691), or of directories of files.
    :raises CouldNotError: if an index cannot be read.
    """
    for index in indexes:
        found = [file for file in _listed(name, index, fetcher) if _is_version(file, name, version)]
        if found:
            return tuple(found)
    return ()


def _listed(name: str, index: str, fetcher: Fetcher) -> Sequence[ForeignFile]:
    project = canonical_name(name)
    directory = local_path(index)
    page = f"{index.rstrip('/')}/{project}/"
    if directory is not None:
        if not (directory / project).is_dir():
            return [
                ForeignFile(filename=path.name, url=path.absolute().as_uri())
                for path in sorted(directory.glob("*"))
                if canonical_name(path.name.split("-")[0]) == project
            ]
        page += "index.html"
    try:
        text = fetcher.read(page, limit=_LARGEST_PAGE, accept=_ACCEPT).decode("utf-8", "replace")
    except NotFoundError:
        return []
    return read_files(text, page)


def _is_version(file: ForeignFile, name: str, version: str) -> bool:
    filename = file.filename or ""
    try:
        if filename.endswith(".whl"):
            found = parse_wheel_filename(filename)[1]
        else:
            found = parse_sdist_filename(filename)[1]
        return found == Version(version)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    except InvalidVersion:  # of the kind that PyPI took long ago: 2004d
        return filename.lower().startswith((f"{name}-{version}.".lower(), f"{name}-{version}-".lower()))
