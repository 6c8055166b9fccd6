"""``lock --check``: does the lockfile still satisfy the specification?  Nothing is resolved, or fetched.

Satisfied means that ``envforge lock`` has no reason to change anything: the lockfile was made for the same
channels, targets and choices; each line is met by a row of its group; whatever a row needs is there, too; and
nothing is there that no line needs.  Rows that were changed by hand are looked at like any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from envforge.edges.channels import channel_urls
from envforge.lock.asked import Place
from envforge.lock.channels import asked_channels
from envforge.lock.check_rows import unmet_on
from envforge.lock.choices import WORDS, choices, locked_choices
from envforge.lock.options import LockOptions, applied
from envforge.lock.unmet import Unmet, is_ours
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import Target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["Unmet", "first_unmet"]


def first_unmet(
    spec: EnvironmentSpec,
    lockfile: Lockfile,
    targets: Sequence[Target],
    *,
    options: LockOptions,
    base: Path,
    place: Path | None = None,
) -> Unmet | None:
    """The first requirement of ``spec`` that ``lockfile`` does not satisfy, or ``None``.

    Of another tool's lockfile less is known, and what is not known is taken to be as it should be.

    :param targets: what the lockfile would be made for now.
    :param options: what the command line says, or the lockfile says to lock with again.
    :param base: the directory that relative paths of channels and projects are relative to.
    :param place: the directory that the lockfile lies in, if it is another one.
    :raises InputError: for a specification that cannot be used.
    """
    spec = applied(spec, options)
    where = Place(base=base, lockfile=place or base)
    return next(_unmet(spec, lockfile, targets, options, where), None)


def _unmet(
    spec: EnvironmentSpec, lockfile: Lockfile, targets: Sequence[Target], options: LockOptions, place: Place
) -> Iterator[Unmet]:
    at = ", ".join(spec.sources) or "the specification"
    listed = channel_urls(options.channels or spec.channels, place.base)
    # Another tool may not write down the channels that only lines name.
    asked = asked_channels(spec, options, place.base) if is_ours(lockfile) else listed
    yield from _unmet_channels(asked, lockfile, place.base, at)
    if is_ours(lockfile):
        yield from _unmet_choices(spec, lockfile, at)
    for target in targets:
        if target.platform not in lockfile.platforms:
            yield Unmet(f"the lockfile has no packages for {target.platform}", at)
            continue
        assumed = lockfile.target(target.platform)
        if assumed is not None and assumed != target:
            yield Unmet(f"{target.platform} was locked for {assumed}, now it is {target}", at)
        yield from unmet_on(target, spec, lockfile, place)
    if spec.platforms and not (options.platforms or options.targets):
        for platform in lockfile.platforms:
            if platform not in spec.platforms:
                yield Unmet(f"{platform} is locked, and not asked for any more", at)


def _unmet_channels(asked: Sequence[str], lockfile: Lockfile, base: Path, at: str) -> Iterator[Unmet]:
    """Whether the channels are the same in the same order, which is their priority."""
    declared = _without_secrets(asked)
    # Another tool writes bare names.
    locked = _without_secrets(channel_urls((channel.url for channel in lockfile.channels), base))
    for url in declared:
        if url not in locked:
            yield Unmet(f"the lockfile was made without the channel {url}", at)
    for url in locked:
        if url not in declared:
            yield Unmet(f"the lockfile was made with the channel {url}, which is not asked for", at)
    if declared != locked:
        yield Unmet(
            f"the lockfile was made with the channels in another order: {', '.join(locked)}",
            at,
        )


def _without_secrets(urls: Sequence[str]) -> list[str]:
    return [without_secrets(url, tokens=True).rstrip("/") for url in urls]


def _unmet_choices(spec: EnvironmentSpec, lockfile: Lockfile, at: str) -> Iterator[Unmet]:
    before, now = locked_choices(lockfile), choices(spec)
    for key in WORDS:
        if before.get(key) != now.get(key):
            old, new = (_shown(found.get(key)) for found in (before, now))
            yield Unmet(f"the lockfile was made with {WORDS[key]} {old}, now it is {new}", at)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "as usual" if value is None else str(value)
