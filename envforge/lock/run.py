"""Locking: every target at once, and one lockfile of what came out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.fetch import Fetcher
from envforge.errors import InputError
from envforge.formats.conda_lock import custom_format
from envforge.lock.options import LockOptions, settings_text
from envforge.lock.part import Job
from envforge.model.built import built_key
from envforge.model.groups import MAIN
from envforge.model.lockfile import LockedChannel, Lockfile, canonical_name
from envforge.model.platforms import Target
from envforge.model.runtime import runtime_key, runtime_text
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets
from envforge.reporting import Reporter
from envforge.resolvers import conda

__all__ = ["lock", "spec_digest"]


def lock(
    spec: EnvironmentSpec,
    targets: Sequence[Target],
    *,
    options: LockOptions,
    previous: Lockfile | None,
    base: Path,
    sources: Sequence[str],
    cache: Path,
    fetcher: Fetcher,
    reporter: Reporter,
    place: Path | None = None,
) -> Lockfile:
    """Resolve ``spec`` for every target.

    :param previous: the lock that is renewed; its versions are kept where they still fit.
    :param base: the directory that relative paths of channels and projects are relative to.
    :param place: the directory that the lockfile will lie in, if it is another one.
    :param sources: the specification's files as the lockfile should name them.
    :param cache: where repodata and metadata are cached.
    :raises InputError: for a specification that cannot be used.
    :raises UnsatisfiableError: if nothing satisfies it on one of the targets.
    :raises CouldNotError: if a channel or an index cannot be read.
    """
    conda.cutoff(options.exclude_newer)  # refuses what is no date before anything is fetched
    channels = _channels(spec, options, base)
    indexes = tuple(options.indexes) or spec.indexes
    job = Job(spec, channels, indexes, options, previous, cache, fetcher, reporter, base, place or base)
    with ThreadPoolExecutor(max(1, len(targets))) as pool:
        parts = list(pool.map(job.lock_platform, targets))
    rows = {canonical_name(row.name) for part in parts for row in part.rows}
    for name in sorted({*options.no_binary, *spec.no_binary} - rows):
        reporter.note(f"nothing needs {name}, which --no-binary names")
    custom = {"envforge.settings": settings_text(options)}
    if spec.name:
        custom["envforge.name"] = spec.name
    groups = {line.group for line in spec.conda + spec.pip} - {MAIN}
    if groups:
        custom["envforge.groups"] = " ".join(sorted(groups))
    for target, part in zip(targets, parts, strict=True):
        custom[f"envforge.target.{target.platform}"] = str(target)
        if part.provided:
            custom[f"envforge.provided.{target.platform}"] = part.provided
        if part.runtime:
            custom[runtime_key(target.platform)] = runtime_text(part.runtime)
        custom.update((built_key(target.platform, one.name), one.text()) for one in part.built)
    custom["envforge.format"] = custom_format(custom)
    return Lockfile(
        packages=tuple(row for part in parts for row in part.rows),
        channels=tuple(LockedChannel(url=without_secrets(url, tokens=True)) for url in channels),
        platforms=tuple(sorted(target.platform for target in targets)),
        sources=tuple(sources),
        content_hash={
            target.platform: spec_digest(spec, target, channels, indexes)
            for target in sorted(targets, key=lambda target: target.platform)
        },
        custom=dict(sorted(custom.items())),
    )


def _channels(spec: EnvironmentSpec, options: LockOptions, base: Path) -> tuple[str, ...]:
    written = options.channels or spec.channels
    urls = tuple(dict.fromkeys(url for name in written for url in conda.channel_url(name, base)))
    if not urls and (spec.conda or spec.pip):
        raise InputError(
            "the specification names no channel",
            at=", ".join(spec.sources) or "channels",
            do="add a line such as: channels: [conda-forge]   # or envforge lock -c conda-forge",
        )
    return urls


def spec_digest(
    spec: EnvironmentSpec, target: Target, channels: Sequence[str], indexes: Sequence[str]
) -> str:
    """sha256 in hex over what decides the lock of one platform: the same whatever the order of the lines."""
    content: dict[str, object] = {
        "channels": [without_secrets(url, tokens=True) for url in channels],
        "conda": sorted(line.text for line in spec.conda_for(target.platform)),
        "pip": sorted(line.text for line in spec.pip_for(target.platform)),
        "indexes": [without_secrets(url, tokens=False) for url in indexes],
        "target": str(target),
    }
    if spec.no_binary:
        content["no-binary"] = sorted(spec.no_binary)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
