"""The verb: make a mirror serve some more lockfiles."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.fetch import Downloaded, Fetcher
from envforge.errors import InputError
from envforge.formats import conda_lock, lock_json, manifest_json
from envforge.layout.pages import derive, make_manifest
from envforge.layout.plan import Artifact, LockfileInput, Plan, check_no_secrets, lock_name, make_plan
from envforge.mirror.artifacts import Held, Work, examine, fetch_missing
from envforge.mirror.publish import artifact_paths, settle_mode, tidy, write_files
from envforge.mirror.writer import MARKER, sole_writer
from envforge.model.lockfile import Lockfile
from envforge.model.manifest import Manifest
from envforge.node.sources.mirrors import MANIFEST, read_manifest
from envforge.reporting import Reporter

__all__ = ["MirrorOptions", "MirrorResult", "mirror"]

_SUFFIX = ".conda-lock.yml"


@dataclass(frozen=True, kw_only=True)
class MirrorOptions:
    """How to mirror.

    ``platforms`` restricts what is fetched of the given lockfiles (empty: all they have); ``wait`` is for
    how many seconds another writer is waited for.
    """

    platforms: tuple[str, ...] = ()
    prune: bool = False
    jobs: int = 8
    dry_run: bool = False
    wait: float = 600.0


@dataclass(frozen=True, kw_only=True)
class MirrorResult:
    """What was done.

    ``downloaded`` and ``kept`` count artifacts, ``bytes`` are those that were downloaded now (a lockfile has
    no sizes, so a dry run says 0), ``altered`` are the paths that were fetched again because they held
    something else, ``missing`` what a dry run would fetch.
    ``digest`` is the sha256 of ``manifest.json``, empty where there is none.
    """

    directory: Path
    downloaded: int
    kept: int
    bytes: int
    removed: tuple[str, ...]
    locks: tuple[str, ...]
    digest: str
    altered: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _State:
    """What a mirror is before: its manifest, and its locks by name, as bytes and as what they say."""

    manifest: Manifest
    contents: Mapping[str, bytes]
    locks: Mapping[str, Lockfile]


def mirror(
    lockfiles: Sequence[LockfileInput],
    directory: Path,
    *,
    fetcher: Fetcher,
    options: MirrorOptions,
    reporter: Reporter,
) -> MirrorResult:
    """Add what ``lockfiles`` need to the mirror at ``directory``, and keep what is there.

    A lock replaces an older one of the same name.  Every file of the mirror that a lock needs is hashed,
    those of other locks in it, too.

    :raises InputError: if a lockfile cannot be mirrored, or the directory is something else.
    :raises CouldNotError: if a download or a write fails; indexes and manifest are then as they were.
    :raises BusyError: if another writer is not done in time.
    """
    given = _named(lockfiles)
    requested = {name: _platforms(name, one.lockfile, options) for name, one in given.items()}
    make_plan({name: one.lockfile for name, one in given.items()}, requested, ())  # refuses what it must
    _check_directory(directory)
    if options.dry_run:
        return _dry_run(given, requested, directory, options, reporter)
    with sole_writer(directory, reporter=reporter, wait=options.wait) as scratch:
        state = _state(directory, given)
        plan = _plan(state, requested)
        held = _examine(directory, plan, options, reporter)
        work = Work(
            directory=directory, scratch=scratch, fetcher=fetcher, jobs=options.jobs, reporter=reporter
        )
        downloaded, elsewhere = _fetch(work, plan, state, _missing(plan, held))
        hashes = {**held.right, **downloaded, **elsewhere}
        reporter.step("writing the indexes")
        manifest, text = _publish(work, plan, state, hashes)
        removed = tidy(directory, state.manifest, manifest, prune=options.prune)
        return MirrorResult(
            directory=directory,
            downloaded=len(downloaded),
            kept=len(held.right) + len(elsewhere),
            bytes=sum(file.size - file.resumed for file in downloaded.values()),
            removed=removed,
            locks=manifest.locks,
            digest=hashlib.sha256(text).hexdigest(),
            altered=held.altered,
        )


def _named(lockfiles: Sequence[LockfileInput]) -> dict[str, LockfileInput]:
    given: dict[str, LockfileInput] = {}
    for one in lockfiles:
        name = lock_name(one)
        if name in given and given[name].content != one.content:
            raise InputError(
                f"two lockfiles are both called {name!r}",
                at=f"{given[name].filename}, {one.filename}",
                do="name them apart: ONE.conda-lock.yml, OTHER.conda-lock.yml",
            )
        check_no_secrets(name, one)
        given[name] = one
    return given


def _platforms(name: str, lockfile: Lockfile, options: MirrorOptions) -> tuple[str, ...]:
    if not options.platforms:
        return lockfile.platforms
    found = tuple(platform for platform in lockfile.platforms if platform in options.platforms)
    if not found:
        raise InputError(
            f"the lockfile has no packages for {' or '.join(options.platforms)}",
            at=f"lock {name}: platforms: {', '.join(lockfile.platforms)}",
            do=f"envforge lock -p {options.platforms[0]}   # then mirror again",
        )
    return found


def _check_directory(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(
            "the mirror must be a directory, and this is a file", at=str(directory), do="name another place"
        )
    if not directory.is_dir() or (directory / MARKER).exists():
        return
    if (directory / MANIFEST).exists():
        read_manifest(directory)  # of a newer version, or somebody else's file of that name
    elif any(directory.iterdir()):
        raise InputError(
            "the directory is not empty and holds no mirror",
            at=str(directory),
            do=f"name a new one: envforge mirror conda-lock.yml '{directory / 'mirror'}'",
        )


def _state(directory: Path, given: Mapping[str, LockfileInput]) -> _State:
    """What the mirror holds, with the given lockfiles in place of older ones of their names."""
    manifest = Manifest(locks=(), channels=(), files=())
    if (directory / MANIFEST).exists():
        manifest = read_manifest(directory)
    contents = {name: one.content for name, one in given.items()}
    locks = {name: one.lockfile for name, one in given.items()}
    for path in sorted((directory / "locks").glob(f"*{_SUFFIX}")):
        name = path.name.removesuffix(_SUFFIX)
        if name not in given:
            contents[name], locks[name] = _read_lock(path)
    if not locks:
        raise InputError("no lockfile was named, and there is none in the mirror", at=str(directory))
    return _State(manifest=manifest, contents=contents, locks=locks)


def _read_lock(path: Path) -> tuple[bytes, Lockfile]:
    """A lock that is in the mirror: from its JSON, or from its YAML if that does not belong to it."""
    try:
        content = path.read_bytes()
        try:
            text = path.with_name(path.name.removesuffix(_SUFFIX) + ".json").read_text(encoding="utf-8")
            lockfile, digest = lock_json.read(text)
            if digest == hashlib.sha256(content).hexdigest():
                return content, lockfile
        except (FileNotFoundError, UnicodeDecodeError, InputError):
            pass
        return content, conda_lock.read(content.decode(), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"a lock in the mirror cannot be read: {error}",
            at=str(path),
            do=f"rm '{path}'   # or mirror that lockfile again",
        ) from error


def _plan(state: _State, requested: Mapping[str, Sequence[str]]) -> Plan:
    present = {sha256 for _, sha256 in artifact_paths(state.manifest)}
    return make_plan(state.locks, requested, present)


def _examine(directory: Path, plan: Plan, options: MirrorOptions, reporter: Reporter) -> Held:
    held = examine(directory, plan, jobs=options.jobs, reporter=reporter)
    for path in held.altered:
        reporter.note(f"{path} was altered: it is not the file that was locked, and is fetched again")
    return held


def _missing(plan: Plan, held: Held) -> list[Artifact]:
    return [artifact for path, artifact in plan.artifacts.items() if path not in held.right]


def _fetch(
    work: Work, plan: Plan, state: _State, missing: Sequence[Artifact]
) -> tuple[dict[str, Downloaded], dict[str, Downloaded]]:
    known: dict[str, list[str]] = defaultdict(list)
    for path, sha256 in artifact_paths(state.manifest):
        known[sha256].append(path)
    if missing:
        work.reporter.step(f"downloading {len(missing)} files")
    return fetch_missing(work, plan, missing, known)


def _publish(
    work: Work, plan: Plan, state: _State, hashes: Mapping[str, Downloaded]
) -> tuple[Manifest, bytes]:
    """Write what is derived: files that indexes name, then the indexes, then the manifest."""
    derived = derive(
        lambda artifact: work.directory / artifact.path, plan, state.contents, hashes, jobs=work.jobs
    )
    manifest = make_manifest(plan, derived.items(), hashes)
    text = manifest_json.write(manifest).encode()
    for path in plan.artifacts:
        settle_mode(work.directory / path)
    write_files(work.directory, work.scratch, derived)
    write_files(work.directory, work.scratch, {MANIFEST: text})
    return manifest, text


def _dry_run(
    given: Mapping[str, LockfileInput],
    requested: Mapping[str, Sequence[str]],
    directory: Path,
    options: MirrorOptions,
    reporter: Reporter,
) -> MirrorResult:
    state = _state(directory, given)
    plan = _plan(state, requested)
    held = _examine(directory, plan, options, reporter)
    missing = _missing(plan, held)
    manifest = directory / MANIFEST
    return MirrorResult(
        directory=directory,
        downloaded=len(missing),
        kept=len(held.right),
        bytes=0,
        removed=(),
        locks=tuple(sorted(state.locks)),
        digest=hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.exists() else "",
        altered=held.altered,
        missing=tuple(artifact.path for artifact in missing),
    )
