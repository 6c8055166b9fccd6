"""What a bundle holds: the part of a mirror that one environment needs, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from envforge.edges.fetch import Downloaded
from envforge.edges.licenses import read_facts
from envforge.edges.parallel import in_parallel
from envforge.edges.peek import artifact_contents
from envforge.formats import bundle_json, cyclonedx_json, licenses_txt, manifest_json
from envforge.layout.pages import derive, make_manifest
from envforge.layout.plan import Artifact, LockfileInput, make_plan
from envforge.model.bundle import BundleContents
from envforge.model.lockfile import LockedPackage
from envforge.model.manifest import MirrorFile
from envforge.model.runtime import MadeRuntime
from envforge.node.needs import Amount, first_needs
from envforge.node.sources.bundles import BILL, BUNDLE_JSON, LICENSES

__all__ = ["CarriedRuntime", "Part", "Parts", "collect"]

Locate = Callable[[LockedPackage], Path]


@dataclass(frozen=True, kw_only=True)
class CarriedRuntime(MadeRuntime):
    """A runtime for a bundle; with ``there`` it is left out, because the other side has it."""

    there: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    """The environment that is asked for: of one lock, the rows, and those whose artifacts are carried."""

    name: str
    given: LockfileInput
    platform: str
    groups: tuple[str, ...]
    rows: tuple[LockedPackage, ...]
    carried: tuple[LockedPackage, ...]
    since: str | None = None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that goes into the file but the runtime.

    ``files`` are small ones by path, ``artifacts`` the others; ``entries`` is what the manifest lists of
    both, sorted by path.
    """

    files: Mapping[str, bytes]
    artifacts: Mapping[str, Artifact]
    manifest: bytes
    entries: Sequence[MirrorFile]
    contents: BundleContents


def collect(part: Part, locate: Locate, runtime: CarriedRuntime | None, *, jobs: int) -> Parts:
    """Work out everything that goes into the bundle.

    :param locate: where the artifact of a row lies; nothing is hashed yet.
    :raises InputError: for a package that is not what its row says.
    """
    digests = {row.sha256 for row in part.carried}
    plan = make_plan({part.name: part.given.lockfile}, {part.name: (part.platform,)}, ())
    chosen = {path: one for path, one in plan.artifacts.items() if one.sha256 in digests}
    used = {path.split("/")[1] for path, one in chosen.items() if one.md5 is not None}
    channels = tuple(channel for channel in plan.channels if channel.name in used)
    plan = replace(plan, artifacts=chosen, channels=channels, platforms=(part.platform,))
    hashes = {path: _claimed(one, locate(one.row)) for path, one in chosen.items()}
    contents = {part.name: part.given.content}
    files = derive(lambda one: locate(one.row), plan, contents, hashes, jobs=jobs)
    about = _about(part, locate, runtime, jobs=jobs)
    files |= _said(part, locate, about, jobs=jobs)
    manifest = make_manifest(plan, files.items(), hashes)
    return Parts(
        files=files,
        artifacts=chosen,
        manifest=manifest_json.write(manifest).encode(),
        entries=manifest.files,
        contents=about,
    )


def _claimed(artifact: Artifact, path: Path) -> Downloaded:
    """What the lock says of an artifact, and its size; whether it is that is seen when it is copied."""
    return Downloaded(sha256=artifact.sha256, md5=artifact.md5 or "", size=path.stat().st_size)


def _said(part: Part, locate: Locate, about: BundleContents, *, jobs: int) -> dict[str, bytes]:
    """``bundle.json``, the bill of materials and the licences."""
    read = [partial(read_facts, locate(row), row.filename) for row in part.carried]
    facts = {row.sha256 or "": fact for row, fact in zip(part.carried, in_parallel(read, jobs), strict=True)}
    lockfile = part.given.lockfile
    return {
        BUNDLE_JSON: bundle_json.write(about).encode(),
        BILL: cyclonedx_json.write(lockfile, part.platform, part.rows, facts).encode(),
        LICENSES: licenses_txt.write(part.rows, facts).encode(),
    }


def _about(part: Part, locate: Locate, runtime: CarriedRuntime | None, *, jobs: int) -> BundleContents:
    needs = _needs(part.carried, locate, jobs=jobs)
    if runtime is not None:
        times = 1 if runtime.there else 2  # to install with, and to keep
        needs += Amount(bytes=times * 1024 * runtime.kib, files=times * runtime.files)
    return BundleContents(
        name=part.name,
        lock=part.given.lockfile.digest(),
        platform=part.platform,
        groups=part.groups,
        runtime=None if runtime is None else runtime.sha256,
        since=part.since,
        bytes=needs.bytes,
        files=needs.files,
    )


def _needs(rows: Sequence[LockedPackage], locate: Locate, *, jobs: int) -> Amount:
    """About what installing the rows that are carried writes."""
    found = in_parallel([partial(artifact_contents, locate(row), row.filename) for row in rows], jobs)
    return first_needs(zip((locate(row).stat().st_size for row in rows), found, strict=True))
