"""What the conda half is asked and what it answers, and the words in which people write both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.model.spec import Line

if TYPE_CHECKING:
    from rattler import MatchSpec

__all__ = [
    "CondaRecord",
    "CondaRequest",
    "channel_meant",
    "closure",
    "named_channel",
    "parse_match_spec",
]

_ALIAS = "https://conda.anaconda.org"
_OF_CHANNEL = re.compile(
    r"\s*(?P<channel>[^\s\[\]=<>!]+?)(?P<subdir>/(?:noarch|(?:linux|osx|win)-\w+))?::(?P<rest>.*)", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class CondaRequest:
    """What to solve: channel URLs in priority order, MatchSpecs, the target.

    ``preferred`` are rows of the lock that is renewed, of a name the first counts: each is kept where it
    still fits, or what is most like it where that is of another platform.  ``before`` is the target that they
    were locked for: where it offered something else, a kept version may get another build.  ``constraints``
    hold for what is needed anyway.  ``channel_priority`` is one of :data:`CHANNEL_PRIORITIES`.
    ``exclude_newer`` is RFC 3339; records without a time stamp stay.
    """

    channels: tuple[str, ...]
    specs: tuple[Line, ...]
    target: Target
    preferred: tuple[LockedPackage, ...] = ()
    before: Target | None = None
    constraints: tuple[Line, ...] = ()
    channel_priority: str = "strict"
    exclude_newer: str | None = None


@dataclass(frozen=True, kw_only=True)
class CondaRecord:
    """A chosen record: what the channel's repodata says of one package; hashes in hex, size in bytes."""

    name: str
    version: str
    build: str
    url: str
    sha256: str | None
    md5: str | None
    size: int | None
    depends: tuple[str, ...]
    python_package: bool


def parse_match_spec(line: Line, channels: Sequence[str] = ()) -> MatchSpec:
    """A dependency as environment.yml files really hold it.

    :param channels: the channels' URLs, one of which ``conda-forge::`` before the name may mean by its last
        part; without them it is a channel on anaconda.org.
    :raises InputError: if it is no MatchSpec.
    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError

    try:
        spec = MatchSpec(_with_channel_url(line.text, channels), strict=False)
    except (InvalidMatchSpecError, InvalidPackageNameError, ValueError) as error:
        raise InputError(
            f"{line.text!r} is not a MatchSpec: {str(error).splitlines()[0]}",
            at=line.at,
            do="write it as name, name=1.2, name>=1.2,<2 or name=1.2=build*",
        ) from error
    crowded = spec.build is not None and re.search(r"\s", spec.build)
    if crowded or spec.name.as_package_name() is None:
        raise InputError(
            f"{line.text!r} is not a MatchSpec: {'too many words' if crowded else 'no package name'}",
            at=line.at,
            do="write it as name, name=1.2, name>=1.2,<2 or name=1.2=build*",
        )
    return spec


def named_channel(text: str) -> str | None:
    """The channel that ``CHANNEL::NAME`` or ``CHANNEL/SUBDIR::NAME`` names; ``None`` for any other line."""
    match = _OF_CHANNEL.fullmatch(text)
    return match["channel"] if match is not None else None


def channel_meant(name: str, channels: Sequence[str]) -> str | None:
    """Which of the URLs ``channels`` a line means whose channel is ``name``; ``None`` for none of them."""
    name = "pkgs/main" if name == "defaults" else name.rstrip("/")
    return next((url for url in channels if url == name or url.rstrip("/").endswith(f"/{name}")), None)


def _with_channel_url(text: str, channels: Sequence[str]) -> str:
    match = _OF_CHANNEL.fullmatch(text)
    if match is None:
        return text
    url = channel_meant(match["channel"], channels)
    if url is None or url == f"{_ALIAS}/{match['channel']}":
        return text
    return f"{url}{match['subdir'] or ''}::{match['rest']}"


def closure(name: str, records: Sequence[CondaRecord]) -> tuple[CondaRecord, ...]:
    """The record of ``name`` among ``records`` and all that it needs, sorted by name; empty without it."""
    by_name = {record.name: record for record in records}
    found: dict[str, CondaRecord] = {}
    todo = [name]
    while todo:
        record = by_name.get(todo.pop())
        if record is not None and record.name not in found:
            found[record.name] = record
            todo += [spec.strip().partition(" ")[0] for spec in record.depends]
    return tuple(found[name] for name in sorted(found))
