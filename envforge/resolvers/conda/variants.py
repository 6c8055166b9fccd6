"""Packages that are locked in a lesser variant only because of what the target was assumed to offer.

A build that a target cannot use says so: it needs a virtual package, or a package whose builds do.  Where
such a build of a locked package exists, the request is solved once more for a target that offers it, and what
comes out otherwise because of that is what the assumption cost.  No package is known here by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envforge.model.platforms import VirtualPackage
from envforge.resolvers.conda.absent import variant_of
from envforge.resolvers.conda.request import CondaRecord
from envforge.resolvers.conda.universe import Offered, name_of

if TYPE_CHECKING:
    from rattler import RepoDataRecord

    from envforge.resolvers.conda.solver import Asked

__all__ = ["LesserVariant", "lesser_variants"]

_BOUND = re.compile(r">=?\s*([0-9]+(?:\.[0-9]+)*)")
_LEVELS = ("x86_64_v2", "x86_64_v3", "x86_64_v4")
_PLENTY = "999"
"""A version of a virtual package that meets every lower bound."""


@dataclass(frozen=True, kw_only=True)
class LesserVariant:
    """A package that is ``locked`` (version and variant), and would be ``better`` with ``package`` offered.

    ``asked`` is whether the specification names it.
    """

    name: str
    locked: str
    better: str
    package: VirtualPackage
    asked: bool


async def lesser_variants(asked: Asked, records: Sequence[CondaRecord]) -> list[LesserVariant]:
    """What would be better with more offered; the packages that were asked for first, then by name."""
    from rattler.exceptions import SolverError

    locked = {record.name: record for record in records}
    target = asked.request.target
    unmet = await _unmet(asked, locked)
    found: dict[str, LesserVariant] = {}
    named = {spec.name.normalized for spec in asked.specs}
    for name in sorted({name_of(text) for text in unmet}):
        plenty = _plenty(name, [text for text in unmet if name_of(text) == name])
        if plenty is None or not target.may_offer(plenty):
            continue
        try:
            others = await asked.solve(asked.specs, target=target.with_packages((plenty,)))
        except SolverError:
            continue
        package = _least(plenty, others)
        for record in _because(name, others):
            before = locked.get(record.name.normalized)
            if before is not None and before.name not in found and _is_better(record, before, named):
                found[before.name] = LesserVariant(
                    name=before.name,
                    locked=f"{before.version} {variant_of(before.build)}",
                    better=f"{record.version} {variant_of(str(record.build))}",
                    package=package,
                    asked=before.name in named,
                )
    return sorted(found.values(), key=lambda one: (not one.asked, one.name))


async def _unmet(asked: Asked, locked: dict[str, CondaRecord]) -> set[str]:
    """What keeps other builds of the locked packages, of these versions or newer ones, from being used."""
    from rattler import Version

    offered = Offered(asked.request.target)
    unmet: set[str] = set()
    further: dict[str, set[str]] = {}
    versions = {name: Version(record.version) for name, record in locked.items()}
    for record in (one for channel in await asked.records(locked) for one in channel):
        name, depends = record.name.normalized, record.depends
        found = offered.unmet(depends)
        if found and record.version >= versions[name]:
            unmet.update(found)
        elif str(record.version) == locked[name].version:
            for text in depends:
                if not text.startswith("__") and name_of(text) not in locked:
                    further.setdefault(name_of(text), set()).add(text)
    return unmet | await _unmet_further(asked, offered, further)


async def _unmet_further(asked: Asked, offered: Offered, further: dict[str, set[str]]) -> set[str]:
    """What keeps packages from being used that builds need which were not chosen."""
    if not further:
        return set()
    by_name: dict[str, list[list[str]]] = {}
    for record in (one for channel in await asked.records(further) for one in channel):
        by_name.setdefault(record.name.normalized, []).append(offered.unmet(record.depends))
    found: set[str] = set()
    for builds in by_name.values():
        if any(builds):
            found.update(text for unmet in builds for text in unmet)
    return found


def _plenty(name: str, texts: Sequence[str]) -> VirtualPackage | None:
    """A virtual package that meets as many of ``texts`` as one can; ``None`` where none is known to."""
    if name == "__archspec":
        asked = {text.split()[-1] for text in texts}
        best = next((level for level in reversed(_LEVELS) if level in asked), None)
        return None if best is None else VirtualPackage(name=name, version="1", build=best)
    if any("<" not in text for text in texts):
        return VirtualPackage(name=name, version=_PLENTY)
    bounds = [bound for text in texts for bound in _BOUND.findall(text)]
    return VirtualPackage(name=name, version=max(bounds, key=_numbers)) if bounds else None


def _least(plenty: VirtualPackage, records: Iterable[RepoDataRecord]) -> VirtualPackage:
    """The least that would do for ``records``."""
    texts = [text for record in records for text in (*record.depends, *record.constrains)]
    bounds = [b for text in texts if name_of(text) == plenty.name for b in _BOUND.findall(text)]
    if plenty.name == "__archspec" or not bounds:
        return plenty
    version = max(bounds, key=_numbers)
    return VirtualPackage(name=plenty.name, version=version if "." in version else f"{version}.0")


def _because(name: str, records: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    """Those of ``records`` that need the virtual package ``name``, or a package that does."""
    direct = {r.name.normalized for r in records if any(name_of(text) == name for text in r.depends)}
    return [
        record
        for record in records
        if record.name.normalized in direct or direct.intersection(map(name_of, record.depends))
    ]


def _is_better(record: RepoDataRecord, before: CondaRecord, named: set[str]) -> bool:
    """Another build of the version; or a newer version of what was asked for, the rest is of no interest."""
    from rattler import Version

    if str(record.version) == before.version:
        return str(record.build) != before.build
    return before.name in named and record.version > Version(before.version)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
