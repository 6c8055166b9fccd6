"""From uv's ``pylock.toml`` to one wheel a package."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.pylock import Package, Pylock, PylockValidationError
from packaging.tags import Tag
from packaging.utils import parse_wheel_filename

from envforge.errors import CouldNotError, UnsatisfiableError
from envforge.model.lockfile import canonical_name
from envforge.model.urls import redacted
from envforge.resolvers.pypi.hashes import Hashing
from envforge.resolvers.pypi.places import Places
from envforge.resolvers.pypi.request import PypiRequest
from envforge.resolvers.pypi.target import wheel_rank, wheel_tags

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Chosen", "choose", "read_pylock", "sdists"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The one wheel of a package, or the sdist to build it from.

    ``url`` is without fragment and credentials, ``sha256`` there where it is known.
    """

    name: str
    version: str
    url: str
    sha256: str | None


def read_pylock(text: str) -> Pylock:
    """Read what uv wrote.

    :raises CouldNotError: if that is not a ``pylock.toml`` of the standard.
    """
    try:
        return Pylock.from_dict(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise CouldNotError(
            "uv wrote a pylock.toml that does not follow the standard",
            do="python -m pip install 'uv>=0.13,<0.14'",
            story=f"{error}\n\n{redacted(text)}",
        ) from error


def choose(pylock: Pylock, request: PypiRequest, hashing: Hashing) -> tuple[Chosen, ...]:
    """One wheel for each package, the one that pip would take on the target; sorted by name.

    :raises UnsatisfiableError: for a package of which no wheel fits, or none with a hash that was asked for.
    """
    ranks = {tag: rank for rank, tag in enumerate(wheel_tags(request.target, request.python_version))}
    chosen = (_one(package, ranks, request, hashing) for package in pylock.packages)
    return tuple(sorted(chosen, key=lambda one: one.name))


def sdists(
    pylock: Pylock, names: Collection[str], request: PypiRequest, hashing: Hashing
) -> tuple[Chosen, ...]:
    """The sdist of each of the packages ``names`` that is to be built, sorted by name.

    :raises UnsatisfiableError: for one that does not have a hash that was asked for.
    """
    found = []
    for package in pylock.packages:
        if package.sdist is None or canonical_name(package.name) not in names:
            continue
        one = Chosen(
            name=canonical_name(package.name),
            version=str(package.version or ""),
            url=request.places.origin(package.sdist.url or Path(package.sdist.path or "").as_uri()),
            sha256=package.sdist.hashes.get("sha256"),
        )
        if not hashing.accepts(one.name, one.url, package.sdist.hashes):
            raise hashing.refused(one.name, one.version, [one.sha256], request.assumed)
        found.append(one)
    return tuple(sorted(found, key=lambda one: one.name))


def _one(package: Package, ranks: Mapping[Tag, int], request: PypiRequest, hashing: Hashing) -> Chosen:
    fitting = sorted(
        (
            (rank, url, hashes)
            for url, hashes in _files(package, request.places)
            if (rank := wheel_rank(_filename(url), ranks)) is not None
        ),
        key=lambda found: (found[0], found[1]),
    )
    if not fitting:
        raise UnsatisfiableError(
            f"no wheel of {package.name} {package.version or ''} fits {request.assumed}",
            do=f"take {package.name} from conda: write it outside pip:",
        )
    name = canonical_name(package.name)
    best = next(((u, h) for _, u, h in fitting if hashing.accepts(name, u, h)), None)
    if best is None:
        there = [hashes.get("sha256") for _, _, hashes in fitting]
        raise hashing.refused(name, str(package.version or ""), there, request.assumed)
    url, hashes = best
    _, version, _, _ = parse_wheel_filename(_filename(url))
    return Chosen(
        name=name,
        version=str(package.version or version),
        url=url,
        sha256=hashes.get("sha256"),
    )


def _files(package: Package, places: Places) -> list[tuple[str, Mapping[str, str]]]:
    """URL and hashes of what may be a wheel; of an sdist, nothing."""
    files = [(wheel.url, wheel.path, wheel.hashes) for wheel in package.wheels or ()]
    if package.archive is not None:
        files.append((package.archive.url, package.archive.path, package.archive.hashes))
    return [(places.origin(url or Path(path or "").as_uri()), hashes) for url, path, hashes in files]


def _filename(url: str) -> str:
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])
