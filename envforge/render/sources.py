"""What a recipe installs: a bundle, a mirror, a lockfile, or a prefix that is there already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.errors import EnvforgeError, InputError
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.mpi import Mpi, mpi_of
from envforge.model.urls import redacted
from envforge.node.proving.receipts import read_receipt
from envforge.node.sources.bundles import Bundle
from envforge.node.sources.source import MirrorSource, lock_packages, read_lock_json

__all__ = ["RecipeSource", "from_bundle", "from_lockfile", "from_mirror", "from_prefix"]


@dataclass(frozen=True, kw_only=True)
class RecipeSource:
    """What a recipe installs, at the path that was typed.

    ``kind`` is ``bundle``, ``mirror``, ``lockfile`` or ``prefix``; ``sha256`` that of the lockfile that is
    shared, ``digest`` that of what it locks, ``file_sha256`` that of a bundle.  ``platforms`` says for each
    Linux platform that can be installed what was assumed of it; ``has_python`` is whether each of them has a
    conda python.  ``cuda`` is the CUDA that was assumed of the driver, ``mpi`` the MPI in it.
    ``prefix`` and ``generation`` are the paths of a prefix that is there, ``verifies`` whether an envforge is
    in it.
    """

    kind: str
    path: str
    name: str
    sha256: str
    digest: str
    platforms: tuple[str, ...]
    has_python: bool
    cuda: str | None = None
    mpi: Mpi | None = None
    file_sha256: str = ""
    prefix: str = ""
    generation: str = ""
    verifies: bool = False


def from_bundle(path: Path) -> RecipeSource:
    """The bundle at ``path``.

    :raises InputError: if it is damaged, a delta, or has no runtime to install it with.
    """
    bundle = Bundle(path)
    if not bundle.header.runtime or bundle.contents.since:
        what = "is a delta" if bundle.contents.since else "has no runtime"
        raise InputError(
            f"the bundle {what}, and a build starts from nothing",
            at=str(path),
            do="envforge bundle   # without --since and --no-runtime",
        )
    lockfile, sha256 = bundle.lock()
    platform = bundle.contents.platform
    rows = lock_packages(lockfile, platform, bundle.contents.groups)
    return RecipeSource(
        kind="bundle",
        path=path.as_posix(),
        name=bundle.contents.name,
        sha256=sha256,
        digest=lockfile.digest(),
        file_sha256=file_sha256(path),
        platforms=(_assumed(lockfile, platform),),
        has_python=_has_python(rows),
        cuda=_cuda(lockfile, (platform,)),
        mpi=mpi_of(rows),
        verifies=True,
    )


def from_prefix(path: Path) -> RecipeSource:
    """The prefix at ``path``, as it is now.

    :raises InputError: if envforge has not installed it.
    """
    tree, receipt = read_receipt(path)
    lockfile, sha256 = read_lock_json(tree / ".envforge" / "lock.json")
    rows = receipt.packages
    return RecipeSource(
        kind="prefix",
        path=path.as_posix(),
        name=lockfile.name,
        sha256=sha256,
        digest=lockfile.digest(),
        platforms=(_assumed(lockfile, receipt.platform),),
        has_python=_has_python(rows),
        cuda=_cuda(lockfile, (receipt.platform,)),
        mpi=mpi_of(rows),
        prefix=str(receipt.prefix),
        generation=receipt.generation,
        verifies=(tree / ".envforge" / "bin" / "envforge").is_file(),
    )


def from_mirror(path: Path, lock: str | None) -> RecipeSource:
    """The mirror at ``path`` and one of its locks.

    :param lock: its name; may be left out where there is one.
    :raises InputError: if there is no mirror, the lock must be named, or no Linux platform of it can be
        installed.
    :raises CouldNotError: if artifacts are missing.
    """
    source = MirrorSource(path, lock)
    name = lock if lock is not None else source.manifest.locks[0]
    return _source("mirror", path, name, source.lockfile, source.lockfile_sha256, source.artifact)


def from_lockfile(path: Path, lockfile: Lockfile, content: bytes) -> RecipeSource:
    """The lockfile at ``path``; its artifacts are downloaded when the image is built.

    :param content: that of the file.
    :raises InputError: if no Linux platform of it can be installed from inside a build.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    return _source("lockfile", path, lockfile.name, lockfile, sha256, _check_reachable)


def _check_reachable(row: LockedPackage) -> None:
    """Refuse what a build cannot download: it has neither this machine's files nor its secrets."""
    if row.url.startswith(("https://", "http://")) and "$" not in row.url:
        return
    raise InputError(
        f"{row.filename} cannot be downloaded inside a build: its URL needs this machine's files or secrets",
        at=redacted(row.url),
        do="envforge bundle LOCKFILE, then: envforge render singularity BUNDLE",
    )


def _source(
    kind: str,
    path: Path,
    name: str,
    lockfile: Lockfile,
    sha256: str,
    available: Callable[[LockedPackage], object],
) -> RecipeSource:
    linux = [platform for platform in lockfile.platforms if platform.startswith("linux-")]
    if not linux:
        raise InputError(
            "the lockfile has no Linux platform, and images run Linux",
            at=f"{path}: platforms: {', '.join(lockfile.platforms)}",
            do="envforge lock -p linux-64",
        )
    usable: dict[str, tuple[LockedPackage, ...]] = {}
    refused: list[EnvforgeError] = []
    for platform in linux:
        try:
            rows = lock_packages(lockfile, platform, ("main",))
            for row in rows:
                available(row)
        except EnvforgeError as error:  # another platform may do: a mirror need not hold them all
            refused.append(error)
            continue
        usable[platform] = rows
    if not usable:
        raise refused[0]
    return RecipeSource(
        kind=kind,
        path=path.as_posix(),
        name=name,
        sha256=sha256,
        digest=lockfile.digest(),
        platforms=tuple(_assumed(lockfile, platform) for platform in usable),
        has_python=all(map(_has_python, usable.values())),
        cuda=_cuda(lockfile, usable),
        mpi=next(filter(None, map(mpi_of, usable.values())), None),
    )


def _assumed(lockfile: Lockfile, platform: str) -> str:
    return f"{platform}: {lockfile.target(platform) or 'any'}"


def _has_python(rows: Iterable[LockedPackage]) -> bool:
    return any(row.name == "python" and row.manager == "conda" for row in rows)


def _cuda(lockfile: Lockfile, platforms: Iterable[str]) -> str | None:
    targets = filter(None, map(lockfile.target, platforms))
    return next(filter(None, (target.version("__cuda") for target in targets)), None)
