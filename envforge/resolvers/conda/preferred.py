"""The channel's own records of what an earlier lock holds: the solver keeps them where they still fit.

The solver keeps one record of each name.  A row of the target's platform stands for the very file it names;
where the channel has that no more, or the row is of another platform, for the build of the same version that
is most like it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from envforge.model.lockfile import LockedPackage

if TYPE_CHECKING:
    from rattler import Channel, Gateway, MatchSpec, RepoDataRecord

__all__ = ["preferred_records"]

_HASH = re.compile(r"h[0-9a-f]{7}")


async def preferred_records(
    gateway: Gateway,
    channels: Sequence[Channel],
    platforms: list[str],
    rows: Iterable[LockedPackage],
    *,
    strict: bool,
) -> list[RepoDataRecord]:
    """A record for each of ``rows`` of which the channels have the version, in the rows' order.

    :param rows: one of a name; a second one of the same name is not looked at.
    :param strict: whether a package counts only in the first channel that has any of its name: the solver
        does not ask that of what it is to keep.
    """
    from rattler import MatchSpec

    wanted: dict[str, LockedPackage] = {}
    for row in rows:
        wanted.setdefault(row.name, row)
    bases = [channel.base_url for channel in channels]

    async def ask(
        specs: Sequence[MatchSpec], channels: Sequence[Channel]
    ) -> list[tuple[int, RepoDataRecord]]:
        query: Any = gateway.query  # its stubs ask for literals
        found = await query(channels, platforms, specs, recursive=False, channel_relations="disabled")
        return [(_place(record, bases), record) for records in found for record in records]

    # A channel gives what a dependency asks for: the version keeps it from giving all there ever was.
    specs = [MatchSpec(f"{row.name} =={row.version}", strict=False) for row in wanted.values()]
    candidates = await ask(specs, channels) if specs else []
    first: dict[str, int] = {}
    later = {record.name.normalized for place, record in candidates if place > 0}
    if strict and later:
        for place, record in await ask([MatchSpec(name) for name in sorted(later)], channels[:-1]):
            name = record.name.normalized
            first[name] = min(place, first.get(name, place))
    best: dict[str, tuple[tuple[object, ...], RepoDataRecord]] = {}
    for place, record in candidates:
        name = record.name.normalized
        order = _likeness(record, wanted[name], place)
        if place <= first.get(name, place) and (name not in best or order > best[name][0]):
            best[name] = (order, record)
    return [best[name][1] for name in wanted if name in best]


def _place(record: RepoDataRecord, bases: Sequence[str]) -> int:
    """Which of the channels the record is of."""
    url = str(record.url)
    return next((place for place, base in enumerate(bases) if url.startswith(base)), len(bases))


def _likeness(record: RepoDataRecord, row: LockedPackage, place: int) -> tuple[object, ...]:
    """How like the row it is; the URL decides at last, and never the order of the channel's records."""
    url, build = str(record.url), str(record.build)
    return (
        url == row.url,
        url.rpartition("/")[2] == row.filename,
        _variant(build) == _variant(row.build_string),
        -place,
        record.build_number,
        url,
    )


def _variant(build: str) -> str:
    """What a build string says beside its hash and its number: ``py312h1234567_2`` is ``py312``."""
    return _HASH.sub("", build.rpartition("_")[0])
