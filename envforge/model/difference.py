"""In what two lockfiles differ."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from envforge.model.holding import build_of, origin_of
from envforge.model.lockfile import LockedPackage

__all__ = ["KINDS", "Change", "LockDifference", "Pair", "build_number", "needs_of"]

KINDS = (
    "added", "removed", "upgraded", "downgraded", "changed", "rebuilt", "moved", "regrouped", "amended"
)  # fmt: skip
"""How a package differs; of several, the first that holds.

``changed`` are versions that have no order, ``rebuilt`` is another file of the same version, ``moved`` the
same from another channel or index, or from PyPI instead of conda; ``regrouped`` is in another group, and of
``amended`` only what it depends on differs.
"""


def build_number(build: str) -> str:
    """What is the same of a build string on every platform: the last number of ``py312h1234567_2_cpu``, 2."""
    return next((word for word in reversed(build.split("_")) if word.isdigit()), build)


def needs_of(row: LockedPackage) -> dict[str, str]:
    """What a row depends on, in one form for what is the same: tools order ``<2,>=1`` in their own way.

    Early versions of conda-lock write nothing where others write ``*``.
    """
    return {name: _ordered(re.sub(r"\s+", "", text)) or "*" for name, text in row.dependencies.items()}


def _ordered(text: str) -> str:
    if "," not in text:
        return text
    return "|".join(",".join(sorted(one.split(","), reverse=True)) for one in text.split("|"))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One package on one platform, before and after; one of the two may be ``None``."""

    platform: str
    old: LockedPackage | None
    new: LockedPackage | None

    @property
    def moved(self) -> tuple[str, str] | None:
        """From which origin to which other; ``None`` where that is one, or not known."""
        if self.old is None or self.new is None:
            return None
        old, new = origin_of(self.old), origin_of(self.new)
        return (old, new) if old and new and old != new else None

    @property
    def builds(self) -> tuple[str, str]:
        """The build strings before and after, empty where there is none."""
        old, new = self.old, self.new
        return (build_of(old) if old else "", build_of(new) if new else "")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One package on all platforms where it differs in the same way.

    ``old`` and ``new`` are its versions, ``None`` where it is not there.  ``direct`` is whether it was asked
    for, and does not only come with another.
    """

    kind: str
    name: str
    manager: str
    direct: bool
    old: str | None
    new: str | None
    pairs: tuple[Pair, ...]

    @property
    def platforms(self) -> tuple[str, ...]:
        """Where."""
        return tuple(pair.platform for pair in self.pairs)


@dataclass(frozen=True, kw_only=True)
class LockDifference:
    """Every package that differs, those that were asked for first; and what else was locked for.

    ``platforms`` are those that both have; ``platforms_added`` and ``platforms_removed`` say how many
    packages each has, which are not listed one by one.  ``targets`` is what was assumed of a platform, before
    and after, where that differs; ``channels`` the URLs before and after, ``None`` where they are the same.
    """

    platforms: tuple[str, ...]
    changes: tuple[Change, ...]
    platforms_added: Mapping[str, int]
    platforms_removed: Mapping[str, int]
    targets: Mapping[str, tuple[str, str]]
    channels: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    def __bool__(self) -> bool:
        """Whether they differ."""
        return bool(
            self.changes or self.platforms_added or self.platforms_removed or self.targets or self.channels
        )

    @property
    def counts(self) -> dict[str, int]:
        """How many packages differ, by kind, in the order of :data:`KINDS`; a package counts once a kind."""
        names = {(change.kind, change.manager, change.name) for change in self.changes}
        found = Counter(kind for kind, _, _ in names)
        return {kind: found[kind] for kind in KINDS if found[kind]}
