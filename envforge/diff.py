"""``diff``: in what two lockfiles differ, as a person would say it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from envforge.model.difference import KINDS, Change, LockDifference, Pair, build_number, needs_of
from envforge.model.graph import Asked, asked_for, graph_of
from envforge.model.groups import MAIN, Key, key_of, with_groups
from envforge.model.holding import Holding
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.urls import without_secrets

__all__ = ["alike", "diff", "newer"]

_OTHER = {"conda": "pip", "pip": "conda"}
_Rows = dict[tuple[str, str, str], LockedPackage]


def diff(
    old: Lockfile,
    new: Lockfile,
    *,
    asked: Iterable[Asked] | None = None,
    platforms: Collection[str] | None = None,
) -> LockDifference:
    """In what ``new`` differs from ``old``; platforms on which a package differs in the same way are joined.

    :param asked: what was asked for, by either specification; ``None`` where that is not at hand: then what
        no other package needs is taken for it.
    :param platforms: those to look at; ``None`` for all.
    """
    before, after = (
        tuple(p for p in lockfile.platforms if platforms is None or p in platforms) for lockfile in (old, new)
    )
    both = tuple(platform for platform in after if platform in before)
    direct = _direct(old, new, None if asked is None else tuple(asked))
    pairs = [pair for platform in both for pair in _pairs(old, new, platform)]
    return LockDifference(
        platforms=both,
        changes=tuple(sorted(_joined(pairs, direct), key=_order)),
        platforms_added=_sizes(new, set(after) - set(both)),
        platforms_removed=_sizes(old, set(before) - set(both)),
        targets=_targets(old, new, both),
        channels=_channels(old, new),
    )


def alike(one: Holding, other: Holding) -> tuple[Lockfile, Lockfile]:
    """The two lockfiles as they can be compared: an environment or bundle has one platform and some groups.

    A platform that only one of two lockfiles has stays, and is a difference.
    """
    return _cut(one, other), _cut(other, one)


def _cut(holding: Holding, other: Holding) -> Lockfile:
    lockfile, platforms, groups = holding.lockfile, holding.lockfile.platforms, holding.groups
    if other.groups is not None:
        platforms = tuple(p for p in platforms if p in other.lockfile.platforms)
        groups = groups or other.groups
    kept = (
        row
        for row in lockfile.packages
        if row.platform in platforms and (groups is None or row.category in groups)
    )
    return replace(lockfile, packages=tuple(kept), platforms=platforms)


def _direct(old: Lockfile, new: Lockfile, asked: tuple[Asked, ...] | None) -> set[Key]:
    found: set[Key] = set()
    for lockfile in (old, new):
        for platform in lockfile.platforms:
            graph = graph_of(lockfile, platform)
            found |= {key for _, key in asked_for(graph, asked)}
    return found


# -- one platform --------------------------------------------------------------------------------------


def _pairs(old: Lockfile, new: Lockfile, platform: str) -> Iterable[Pair]:
    before, after = _rows(old, platform), _rows(new, platform)
    gone = {name: row for name, row in before.items() if name not in after}
    come = {name: row for name, row in after.items() if name not in before}
    for name in before.keys() & after.keys():
        yield Pair(platform=platform, old=before[name], new=after[name])
    # What went from conda to PyPI, or back, is still the same thing to a reader.
    by_project: dict[Key, tuple[str, str, str]] = {}
    for name, row in gone.items():
        by_project.setdefault((row.manager, canonical_name(row.name)), name)
    for row in come.values():
        other = by_project.pop((_OTHER[row.manager], canonical_name(row.name)), None)
        if other is not None:
            yield Pair(platform=platform, old=gone.pop(other), new=row)
        else:
            yield Pair(platform=platform, old=None, new=row)
    for row in gone.values():
        yield Pair(platform=platform, old=row, new=None)


def _rows(lockfile: Lockfile, platform: str) -> _Rows:
    """A row a package, with all of its groups in one: a package of two groups is locked twice.

    Two files for two groups are two packages; the first, of the group ``main`` if it has one, has no group in
    its key.
    """
    found: _Rows = {}
    here = sorted((row for row in lockfile.packages if row.platform == platform), key=_main_first)
    for row, groups in with_groups(here):
        key = key_of(row)
        first = (*key, "")
        found[first if first not in found else (*key, row.category)] = replace(
            row, category=", ".join(groups)
        )
    return found


def _main_first(row: LockedPackage) -> bool:
    return row.category != MAIN


def _kind(pair: Pair) -> str | None:
    """How the two differ, ``None`` if they do not."""
    old, new = pair.old, pair.new
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old.version != new.version:
        order = _compared(old, new)
        return "changed" if order == 0 else "upgraded" if order < 0 else "downgraded"
    if old.manager == new.manager and _another_file(old, new):
        return "rebuilt"
    if old.manager != new.manager or pair.moved:
        return "moved"
    if old.category != new.category:
        return "regrouped"
    return "amended" if needs_of(old) != needs_of(new) else None


def newer(old: LockedPackage, new: LockedPackage) -> bool:
    """Whether ``new`` has the higher version, or the same and the higher build number."""
    order = _compared(old, new) if old.version != new.version else 0
    if order == 0 and old.version == new.version and old.manager == new.manager == "conda":
        numbers = [build_number(row.build_string) for row in (old, new)]
        return all(number.isdigit() for number in numbers) and int(numbers[0]) < int(numbers[1])
    return order < 0


def _compared(old: LockedPackage, new: LockedPackage) -> int:
    """Below zero if ``new`` has the higher version; zero if nothing says which is higher."""
    if old.manager == new.manager == "conda":
        return _conda_order(old.version, new.version)
    from packaging.version import InvalidVersion, Version

    try:
        one, other = Version(old.version), Version(new.version)
    except InvalidVersion:
        return 0
    return -1 if one < other else int(one > other)


def _conda_order(old: str, new: str) -> int:
    from rattler import Version
    from rattler.exceptions import InvalidVersionError

    try:
        one, other = Version(old), Version(new)
    except InvalidVersionError:
        return 0
    return -1 if one < other else int(one > other)


def _another_file(old: LockedPackage, new: LockedPackage) -> bool:
    """Whether the files differ, as far as that is known of both."""
    if old.sha256 and new.sha256:
        return old.sha256 != new.sha256
    if old.md5 and new.md5:
        return old.md5 != new.md5
    return old.manager == "conda" and old.build_string != new.build_string


# -- all platforms -------------------------------------------------------------------------------------


def _joined(pairs: Iterable[Pair], direct: set[Key]) -> Iterable[Change]:
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for pair in pairs:
        kind = _kind(pair)
        if kind is not None:
            groups.setdefault((kind, *_same_way(pair, kind)), []).append(pair)
    for way, joined in groups.items():
        old, new = joined[0].old, joined[0].new
        row = new or old
        assert row is not None  # noqa: S101 - a pair has one at least
        yield Change(
            kind=str(way[0]),
            name=key_of(row)[1],
            manager=row.manager,
            direct=any(key_of(one) in direct for one in (old, new) if one is not None),
            old=old.version if old else None,
            new=new.version if new else None,
            pairs=tuple(joined),
        )


def _same_way(pair: Pair, kind: str) -> tuple[object, ...]:
    """What must be equal on two platforms for their changes to be one."""
    old, new = pair.old, pair.new
    row = new or old
    assert row is not None  # noqa: S101 - a pair has one at least
    way: tuple[object, ...] = (
        key_of(row),
        old and (old.manager, old.version),
        new and (new.manager, new.version),
        pair.moved if row.manager == "conda" else None,
    )
    if kind == "rebuilt":
        way += tuple(build_number(build) for build in pair.builds)
    if kind == "regrouped":
        way += (old and old.category, new and new.category)
    return way


def _order(change: Change) -> tuple[object, ...]:
    return (not change.direct, KINDS.index(change.kind), change.name, change.manager, change.platforms)


def _sizes(lockfile: Lockfile, platforms: Iterable[str]) -> Mapping[str, int]:
    return {platform: len(_rows(lockfile, platform)) for platform in sorted(platforms)}


def _targets(old: Lockfile, new: Lockfile, platforms: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """What was assumed of each platform, where both say it."""
    found = {}
    for platform in platforms:
        before, after = old.target(platform), new.target(platform)
        if before is not None and after is not None and before != after:
            found[platform] = (str(before), str(after))
    return found


def _channels(old: Lockfile, new: Lockfile) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    before, after = (
        tuple(without_secrets(channel.url, tokens=True).rstrip("/") for channel in lockfile.channels)
        for lockfile in (old, new)
    )
    same = len(before) == len(after) and all(_same_channel(*pair) for pair in zip(before, after, strict=True))
    return (before, after) if before and after and not same else None


def _same_channel(one: str, other: str) -> bool:
    """Whether two texts name one channel: conda-lock writes names, envforge URLs."""
    if "://" in one and "://" in other:
        return one == other
    return one.rpartition("/")[2] == other.rpartition("/")[2]
