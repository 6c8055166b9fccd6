"""The verb: write the one file that is carried."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import envforge
from envforge.bundle.file import Member, places, write_bundle
from envforge.bundle.parts import CarriedRuntime, Locate, Part, Parts, collect
from envforge.edges.scratch import replacing, sweep_beside
from envforge.layout.plan import LockfileInput, check_no_secrets, lock_name
from envforge.model.bundle import Header
from envforge.node.fitness import needed_version
from envforge.node.sources.bundles import MANIFEST, RUNTIME
from envforge.node.sources.source import lock_packages
from envforge.node.using.activate import label
from envforge.reporting import Reporter

__all__ = ["BundleOptions", "BundleResult", "bundle"]


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What goes into a bundle.

    ``omitted`` are the sha256 of artifacts that the other side has, ``since`` the sha256 of what lists them.
    """

    platform: str
    groups: tuple[str, ...] = ("main",)
    omitted: frozenset[str] = frozenset()
    since: str | None = None
    jobs: int = 4


@dataclass(frozen=True, kw_only=True)
class BundleResult:
    """What was written: a file of ``size`` bytes; how many packages it is for, and how many it leaves out."""

    path: Path
    sha256: str
    size: int
    packages: int
    omitted: int
    name: str
    platform: str
    lock: str
    manifest: str
    runtime: str | None


def bundle(
    given: LockfileInput,
    locate: Locate,
    out: Callable[[str], Path],
    *,
    runtime: CarriedRuntime | None,
    options: BundleOptions,
    reporter: Reporter,
) -> BundleResult:
    """Write a bundle: beside its place first, and renamed to it when all of it is there.

    :param given: the lockfile, which is carried as it is.
    :param locate: where the artifact of a row lies; it is hashed while it is copied.
    :param runtime: what the environment is given to look after itself.
    :param out: where to write, from the name that it has if nobody says another.
    :raises InputError: if the lock cannot be carried.
    :raises CouldNotError: if an artifact is not the locked one, or the disk refuses; nothing is left then.
    """
    part = _part(given, options)
    reporter.step(f"reading {len(part.carried)} packages")
    parts = collect(part, locate, runtime, jobs=options.jobs)
    manifest = hashlib.sha256(parts.manifest).hexdigest()
    path = out(f"{part.name}-{part.platform}-{manifest[:8]}.sh")
    carried = None if runtime is None or runtime.there else runtime
    members = _members(parts, carried, manifest, locate)
    sweep_beside(path)
    total = sum(size for _, size, _, _ in members)
    with replacing(path, 0o755) as beside, reporter.task("writing", total) as progress:
        header = _header(part, parts, carried, members)
        sha256, size = write_bundle(beside, header, members, progress.advance)
    return BundleResult(
        path=path,
        sha256=sha256,
        size=size,
        packages=len(part.rows),
        omitted=len(part.rows) - len(part.carried),
        name=part.name,
        platform=part.platform,
        lock=given.lockfile.digest(),
        manifest=manifest,
        runtime=parts.contents.runtime,
    )


def _part(given: LockfileInput, options: BundleOptions) -> Part:
    name = lock_name(given)
    check_no_secrets(name, given)
    asked = given.lockfile.rows(options.platform, options.groups)
    # Wheels alone are carried, too; the interpreter is named where they are installed.
    python = None if any(row.manager == "conda" for row in asked) else "PYTHON"
    rows = lock_packages(given.lockfile, options.platform, options.groups, python=python)
    return Part(
        name=name,
        given=given,
        platform=options.platform,
        groups=options.groups,
        rows=rows,
        carried=tuple(row for row in rows if row.sha256 not in options.omitted),
        since=options.since,
    )


def _members(parts: Parts, runtime: CarriedRuntime | None, manifest: str, locate: Locate) -> list[Member]:
    """The members in their order: what the header checks comes first."""
    members: list[Member] = []
    if runtime is not None:
        members.append((RUNTIME, runtime.size, runtime.sha256, runtime.path))
    members.append((MANIFEST, len(parts.manifest), manifest, parts.manifest))
    for entry in parts.entries:
        found = parts.artifacts.get(entry.path)
        content = parts.files[entry.path] if found is None else locate(found.row)
        members.append((entry.path, entry.size, entry.sha256, content))
    return members


def _header(part: Part, parts: Parts, runtime: CarriedRuntime | None, members: list[Member]) -> Header:
    first = [(name, size) for name, size, _, _ in members[:2]]
    at = places(first)
    sizes = dict(first)
    digests = {name: sha256 for name, _, sha256, _ in members[:2]}
    return Header(
        version=envforge.__version__,
        platform=part.platform,
        name=label(part.name),
        lock=parts.contents.lock,
        glibc=_glibc(part, runtime),
        kib=-(-parts.contents.bytes // 1024),
        files=parts.contents.files,
        runtime="" if runtime is None else runtime.sha256,
        runtime_at=0 if runtime is None else at[RUNTIME],
        runtime_size=0 if runtime is None else runtime.size,
        manifest=digests[MANIFEST],
        manifest_at=at[MANIFEST],
        manifest_size=sizes[MANIFEST],
    )


def _glibc(part: Part, runtime: CarriedRuntime | None) -> str:
    """The lowest glibc with which runtime and packages work; what the lock assumes ``install`` looks at."""
    asked = needed_version(part.rows, "__glibc")
    found = [
        runtime.glibc if runtime is not None else None,
        asked[0] if asked is not None else None,
    ]
    versions = [version for version in found if version]
    return max(versions, key=lambda version: [int(number) for number in version.split(".")], default="")
