"""Getting the artifacts: what is there is hashed, what is missing is fetched, in parallel."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envforge.edges.fetch import Downloaded, Fetcher
from envforge.edges.parallel import Stop, in_parallel
from envforge.edges.partial import drop_partials
from envforge.edges.store import make_directory
from envforge.errors import CouldNotError, InputError
from envforge.layout.plan import Artifact, Plan, expanded
from envforge.reporting import Reporter

__all__ = ["Held", "Work", "cannot_write", "examine", "fetch_missing", "place"]

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a mirror has of what it needs: hashes and sizes by path, and the paths of altered files."""

    right: Mapping[str, Downloaded]
    altered: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where artifacts are put, beside what they are written first, what fetches them, and who is told."""

    directory: Path
    scratch: Path
    fetcher: Fetcher
    jobs: int
    reporter: Reporter


def examine(directory: Path, plan: Plan, *, jobs: int, reporter: Reporter) -> Held:
    """Hash every artifact that lies at its place."""
    present = [a for a in plan.artifacts.values() if os.path.lexists(directory / a.path)]
    if not present:
        return Held(right={}, altered=())
    with reporter.task("checking what is there", len(present), "files") as progress:

        def check(artifact: Artifact) -> Downloaded | None:
            found = _matching(directory / artifact.path, artifact)
            progress.advance(1)
            return found

        found = in_parallel([partial(check, artifact) for artifact in present], jobs)
    right = {a.path: hashes for a, hashes in zip(present, found, strict=True) if hashes is not None}
    altered = tuple(a.path for a in present if a.path not in right)
    return Held(right=right, altered=altered)


def _matching(path: Path, artifact: Artifact) -> Downloaded | None:
    """Hashes and size of a file if it is the artifact."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                sha256.update(chunk)
                if artifact.md5 is not None:
                    md5.update(chunk)
                size += len(chunk)
    except OSError:
        return None
    if sha256.hexdigest() != artifact.sha256:
        return None
    found = Downloaded(sha256=artifact.sha256, md5=md5.hexdigest(), size=size)
    if artifact.md5 not in (None, found.md5):
        raise InputError(
            f"the lockfile's md5 of {artifact.row.filename} is not that of the file with its sha256",
            at=f"lock {artifact.rows[0][0]}: package {artifact.row.name}: hash.md5",
            do=f"envforge lock -P {artifact.row.name}   # writes the row anew",
        )
    return found


def fetch_missing(
    work: Work, plan: Plan, missing: Sequence[Artifact], known: Mapping[str, Collection[str]]
) -> tuple[dict[str, Downloaded], dict[str, Downloaded]]:
    """Put every missing artifact in its place, each by one rename; halves of others are removed.

    :param known: paths at which the mirror has a file so far, by sha256: a channel's directory may have
        got another name.
    :returns: what was downloaded and what was found elsewhere in the mirror, by path.
    """
    stop = Stop()
    sources = {a.path: _source(a, plan) for a in missing}  # a variable that is not set: before any download
    alike: dict[str, list[Artifact]] = defaultdict(list)  # one file may have to lie at several places
    for artifact in missing:
        alike[artifact.sha256].append(artifact)
    drop_partials(work.scratch, alike.__contains__)
    with work.reporter.task("downloading", None) as progress:

        def advance(amount: int) -> None:
            stop.check()
            progress.advance(amount)

        def get(artifact: Artifact, beside: Sequence[Artifact]) -> tuple[bool, Downloaded]:
            stop.check()
            target = work.scratch / f"copy-{artifact.sha256}"
            places = (*known.get(artifact.sha256, ()), *(other.path for other in beside))
            found = _from_elsewhere((work.directory / path for path in places), target, artifact)
            if found is None:
                target = work.scratch / f"part-{artifact.sha256}"
                got = work.fetcher.download(
                    sources[artifact.path], target, sha256=artifact.sha256, md5=artifact.md5,
                    with_md5=False, resume=True, advance=advance,
                )  # fmt: skip
            place(target, work.directory / artifact.path)
            return found is None, found or got

        def get_all(artifacts: Sequence[Artifact]) -> list[tuple[bool, Downloaded]]:
            return [get(artifact, artifacts[:number]) for number, artifact in enumerate(artifacts)]

        tasks = [partial(get_all, artifacts) for artifacts in alike.values()]
        found = in_parallel(tasks, work.jobs, stop.event.set)
    missing = [artifact for artifacts in alike.values() for artifact in artifacts]
    got = [one for some in found for one in some]
    for artifact, (new, _) in zip(missing, got, strict=True):
        work.reporter.detail(f"{'downloaded' if new else 'had elsewhere'} {artifact.path}")
    downloaded = {a.path: hashes for a, (new, hashes) in zip(missing, got, strict=True) if new}
    elsewhere = {a.path: hashes for a, (new, hashes) in zip(missing, got, strict=True) if not new}
    return downloaded, elsewhere


def _source(artifact: Artifact, plan: Plan) -> str:
    variables = {
        name
        for lock, row in artifact.rows
        if row.url == artifact.source
        for channel in plan.locks[lock].channels
        for name in channel.used_env_vars
    }
    return expanded(artifact.source, variables, os.environ)


def _from_elsewhere(candidates: Iterable[Path], target: Path, artifact: Artifact) -> Downloaded | None:
    for path in candidates:
        found = _matching(path, artifact)
        if found is None:
            continue
        try:
            os.link(path, target)
        except OSError:
            try:
                shutil.copyfile(path, target)
            except OSError as error:
                raise cannot_write(target, error) from error
            if _matching(target, artifact) is None:
                target.unlink(missing_ok=True)
                continue
        return found
    return None


def place(target: Path, final: Path) -> None:
    """Give a finished file the mode that every file of a mirror has, and rename it to where it belongs.

    :raises CouldNotError: if that is not possible.
    """
    make_directory(final.parent)
    try:
        target.chmod(0o644)
        target.replace(final)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise cannot_write(final, error) from error


def cannot_write(path: Path, error: OSError) -> CouldNotError:
    """The error for a file that cannot be written."""
    full = error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
    return CouldNotError(
        f"cannot write: {error.strerror or error}",
        at=str(path),
        do="make room on that disk, then the same command again: it goes on where it stopped"
        if full
        else "check who may write there",
    )
