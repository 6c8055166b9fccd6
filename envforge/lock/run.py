"""Locking: every target at once, and one lockfile of what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from envforge.edges.fetch import Fetcher
from envforge.errors import InputError, UnsatisfiableError
from envforge.formats.conda_lock import custom_format
from envforge.lock.channels import asked_channels, channels_to_ask, named_alone
from envforge.lock.choices import ASKED, asked_text, choices, spec_digest
from envforge.lock.options import LockOptions, applied, settings_text
from envforge.lock.part import Job, Part
from envforge.lock.upgrades import check_upgrades
from envforge.model.access import Access
from envforge.model.built import built_key
from envforge.model.groups import MAIN
from envforge.model.lockfile import LockedChannel, Lockfile, canonical_name
from envforge.model.moments import settled
from envforge.model.platforms import Target
from envforge.model.runtime import runtime_key, runtime_text
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import redacted, without_secrets
from envforge.reporting import Reporter
from envforge.resolvers import conda
from envforge.resolvers.pypi.places import Places

__all__ = ["lock"]


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
    lesser: Callable[[str, tuple[conda.LesserVariant, ...]], None] | None = None,
) -> Lockfile:
    """Resolve ``spec`` for every target.

    :param previous: the lock that is renewed; its versions are kept where they still fit.
    :param base: the directory that relative paths of channels and projects are relative to.
    :param place: the directory that the lockfile will lie in, if it is another one.
    :param sources: the specification's files as the lockfile should name them.
    :param cache: where repodata and metadata are cached.
    :param lesser: is told, for each platform, which packages would be others if more were assumed of it; that
        is looked for only if somebody wants to know.
    :raises InputError: for a specification that cannot be used.
    :raises UnsatisfiableError: if nothing satisfies it on one of the targets.
    :raises CouldNotError: if a channel or an index cannot be read.
    """
    spec = applied(spec, options)
    # What is no date is refused before anything is fetched, and now is the same moment everywhere.
    until = None if spec.exclude_newer is None else settled(spec.exclude_newer)
    check_upgrades(options.upgrade, previous, spec)
    channels = _channels(spec, options, base, reporter)
    places = _places(spec, base, fetcher.access)
    job = Job(
        replace(spec, exclude_newer=until), channels_to_ask(channels), places, options, previous, cache,
        fetcher, reporter, base, place or base, compare=lesser is not None,
    )  # fmt: skip
    parts = _parts(job, targets)
    rows = {canonical_name(row.name) for part in parts for row in part.rows}
    for name in sorted(set(spec.no_binary) - rows):
        reporter.note(f"nothing needs {name}, which --no-binary names")
    chosen = choices(spec)
    for target, part in zip(targets, parts, strict=True):
        if lesser is not None:
            lesser(target.platform, part.lesser)
    return Lockfile(
        packages=tuple(row for part in parts for row in part.rows),
        channels=tuple(LockedChannel(url=without_secrets(url, tokens=True)) for url in channels),
        platforms=tuple(sorted(target.platform for target in targets)),
        sources=tuple(sources),
        content_hash={
            target.platform: spec_digest(spec, target, channels, chosen)
            for target in sorted(targets, key=lambda target: target.platform)
        },
        custom=_custom(spec, options, dict(zip(targets, parts, strict=True))),
    )


def _custom(spec: EnvironmentSpec, options: LockOptions, parts: Mapping[Target, Part]) -> dict[str, str]:
    """What the lockfile says beside its rows."""
    custom = {"envforge.settings": settings_text(options)}
    asked = asked_text(spec)
    if asked:
        custom[ASKED] = asked
    if spec.name:
        custom["envforge.name"] = spec.name
    groups = {line.group for line in spec.conda + spec.pip} - {MAIN}
    if groups:
        custom["envforge.groups"] = " ".join(sorted(groups))
    for target, part in parts.items():
        custom[f"envforge.target.{target.platform}"] = str(target)
        if part.provided:
            custom[f"envforge.provided.{target.platform}"] = part.provided
        if part.by_extra:
            custom[f"envforge.by-extra.{target.platform}"] = part.by_extra
        if part.runtime:
            custom[runtime_key(target.platform)] = runtime_text(part.runtime)
        custom.update(part.custom)
        custom.update((built_key(target.platform, one.name), one.text()) for one in part.built)
    custom["envforge.format"] = custom_format(custom)
    return dict(sorted(custom.items()))


def _parts(job: Job, targets: Sequence[Target]) -> list[Part]:
    """All platforms at once; what cannot be had is said of all of them, too."""
    with ThreadPoolExecutor(max(1, len(targets))) as pool:
        futures = [pool.submit(job.lock_platform, target) for target in targets]
        errors = [error for future in futures if (error := future.exception()) is not None]
    refused = [error for error in errors if isinstance(error, UnsatisfiableError)]
    if len(refused) == len(errors) > 1:
        raise UnsatisfiableError(
            "; ".join(error.what for error in refused),
            at=_once_each((error.at for error in refused), ", "),
            do=_once_each((error.do for error in refused), "; "),
            story="\n\n".join(error.story for error in refused if error.story) or None,
        )
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


def _once_each(said: Iterable[str | None], mark: str) -> str | None:
    """What is said of platforms, with ``mark`` between: the same of several is said once."""
    return mark.join(dict.fromkeys(one for text in said if text for one in text.split(mark))) or None


def _channels(spec: EnvironmentSpec, options: LockOptions, base: Path, reporter: Reporter) -> tuple[str, ...]:
    urls = asked_channels(spec, options, base)
    for name, line in named_alone(spec, options, base):
        reporter.note(
            f"{line.at}: {redacted(name)} is not among the channels, and counts as the last one, "
            f"because of {redacted(line.text)}"
        )
    if not urls and spec.conda:
        raise InputError(
            "the specification names no channel",
            at=", ".join(spec.sources) or "channels",
            do="add a line such as: channels: [conda-forge]   # or envforge lock -c conda-forge",
        )
    return urls


def _places(spec: EnvironmentSpec, base: Path, access: Access) -> Places:
    """Where the PyPI half looks; a directory of artifacts may be a path relative to the specification."""
    links = (
        one if "://" in one else (base / Path(one).expanduser()).resolve().as_uri() for one in spec.find_links
    )
    return Places(
        indexes=spec.indexes, index_of=spec.index_of, find_links=tuple(dict.fromkeys(links)), access=access
    )
