"""Packages that are locked in a lesser variant only because of what the target was assumed to offer.

A build that a target cannot use says so: it needs a virtual package, or a package whose builds do.  Where
such a build of a locked package exists, the request is solved once more for a target that offers it, and what
comes out otherwise because of that is what the assumption cost.  No package is known here by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.resolvers.conda.absent import variant_of
from envforge.resolvers.conda.request import CondaRecord
from envforge.resolvers.conda.universe import Offered, is_newer, name_of

if TYPE_CHECKING:
    from rattler import RepoDataRecord

    from envforge.resolvers.conda.solver import Asked

__all__ = ["LesserVariant", "lesser_variants", "solve_offering", "unusable_builds"]

_BOUND = re.compile(r">=?\s*([0-9]+(?:\.[0-9]+)*)")
_LEVELS = ("x86_64_v2", "x86_64_v3", "x86_64_v4")
_PLENTY = "999"
"""A version of a virtual package that meets every lower bound."""


@dataclass(frozen=True, kw_only=True)
class LesserVariant:
    """A package that is ``locked`` (version and variant), and would be ``better`` with ``package`` offered.

    ``asked`` is whether the specification names it.  Where ``instead`` is given, ``package`` is offered, and
    is of use only if that dependency stands in the specification.
    """

    name: str
    locked: str
    better: str
    package: VirtualPackage
    asked: bool
    instead: str | None = None


async def lesser_variants(asked: Asked, records: Sequence[CondaRecord]) -> list[LesserVariant]:
    """What would be better with more offered; the packages that were asked for first, then by name."""
    target = asked.request.target
    locked = {record.name: record for record in records}
    named = {spec.name.normalized for spec in asked.specs}
    unmet = await unusable_builds(asked, target, {r.name: r.version for r in records}, named)
    texts = {text for found in unmet.values() for text in found}
    kept = await asked.preferred() if texts else []
    found: dict[str, LesserVariant] = {}
    for name in sorted(set(map(name_of, texts))):
        for package in _offers(target, name, [text for text in texts if name_of(text) == name]):
            if target.may_offer(package):
                better = await _better(asked, locked, package, kept)
                found = {**better, **found}
                if better:
                    break
    found = {**await _unused(asked, locked), **found}
    return sorted(found.values(), key=lambda one: (not one.asked, one.name))


async def _unused(asked: Asked, locked: Mapping[str, CondaRecord]) -> dict[str, LesserVariant]:
    """What was asked for and makes no use of what only this target offers, where another version would.

    Who says that there is a GPU wants it to be used: a newer version without a build for it is a surprise.
    """
    target = asked.request.target
    usual = {package.name for package in default_target(target.platform).virtual_packages}
    special = {package.name: package for package in target.virtual_packages if package.name not in usual}
    if not special:
        return {}
    offered = Offered(target)
    rest = tuple(package for package in target.virtual_packages if package.name in usual)
    without = Offered(Target(platform=target.platform, virtual_packages=rest))
    named = {spec.name.normalized: spec for spec in asked.specs if spec.name.normalized in locked}
    using: dict[str, list[RepoDataRecord]] = {}
    for record in (one for channel in await asked.records(named) for one in channel):
        name = record.name.normalized
        usable = not offered.unmet(record.depends) and not is_newer(record, asked.cutoff)
        if usable and without.unmet(record.depends) and named[name].matches(record):
            using.setdefault(name, []).append(record)
    found = {}
    for name, records in using.items():
        before = locked[name]
        if without.unmet(before.depends):
            continue
        better = await _best_of(asked, records)
        if better is not None:
            variant = variant_of(str(better.build))
            found[name] = LesserVariant(
                name=name,
                locked=f"{before.version} {variant_of(before.build)}",
                better=f"{better.version} {variant}",
                package=special[name_of(without.unmet(better.depends)[0])],
                asked=True,
                instead=f"{name}={better.version}={variant}*",
            )
    return found


async def _best_of(asked: Asked, records: Sequence[RepoDataRecord]) -> RepoDataRecord | None:
    """Which of ``records``, all of one package, the request would have if it had to be one of them."""
    from rattler import MatchSpec
    from rattler.exceptions import SolverError

    name = records[0].name.normalized
    builds = "|".join(sorted({re.escape(str(record.build)) for record in records}))
    with suppress(SolverError):
        found = await asked.solve([*asked.specs, MatchSpec(f"{name}[build='^({builds})$']")])
        return next(record for record in found if record.name.normalized == name)
    return None


async def _better(
    asked: Asked,
    locked: Mapping[str, CondaRecord],
    package: VirtualPackage,
    kept: Sequence[RepoDataRecord],
) -> dict[str, LesserVariant]:
    """What would be better with ``package`` offered, by name."""
    from rattler.exceptions import SolverError

    target = asked.request.target
    try:
        others = await solve_offering(asked, target.with_packages((package,)), kept, target)
    except SolverError:
        return {}
    named = {spec.name.normalized for spec in asked.specs}
    least = _least(package, others)
    found = {}
    for record in _because(Offered(target), others):
        before = locked.get(record.name.normalized)
        if before is not None and _is_better(record, before, named):
            found[before.name] = LesserVariant(
                name=before.name,
                locked=f"{before.version} {variant_of(before.build)}",
                better=f"{record.version} {variant_of(str(record.build))}",
                package=least,
                asked=before.name in named,
            )
    return found


async def solve_offering(
    asked: Asked, target: Target, kept: Sequence[RepoDataRecord], before: Target
) -> list[RepoDataRecord]:
    """Solve for a target that offers something else: what is kept keeps its version, if in another build.

    :param kept: records that were chosen for the target ``before``.
    """
    if not kept:
        return await asked.solve(asked.specs, target=target)
    by_name = {record.name.normalized: record for record in kept}
    versions = {name: str(record.version) for name, record in by_name.items()}
    best, touched = await _best_builds(asked, target, versions, before)
    touched |= _touched(Offered(target), kept)
    moved = {r.name.normalized: str(r.version) for r in best if r.url != _url(by_name, r.name.normalized)}
    free = {name: version for name, version in moved.items() if name in touched}
    return await asked.solve(
        asked.specs,
        target=target,
        preferred=[record for name, record in by_name.items() if name not in free],
        versions={name: version for name, version in free.items() if name in versions},
    )


async def _best_builds(
    asked: Asked, target: Target, versions: Mapping[str, str], before: Target
) -> tuple[list[RepoDataRecord], set[str]]:
    """The best builds of ``versions`` for ``target``, and which packages are there because of what it offers.

    Where a better build of one goes only with other versions of the rest, those are let go: of what came
    along first, then of what was asked for.
    """
    from rattler.exceptions import SolverError

    offered = Offered(before)
    named = {spec.name.normalized for spec in asked.specs}
    better = _touched(offered, await asked.solve(asked.specs, target=target))
    best: list[RepoDataRecord] | None = None
    touched: set[str] = set()
    for kept in (versions.keys(), versions.keys() & named, versions.keys() & better):
        with suppress(SolverError):
            found = await asked.solve(
                asked.specs, target=target, versions={name: versions[name] for name in kept}
            )
            further = _touched(offered, found)
            if best is None or versions.keys() & further - touched:
                best, touched = found, further
    if best is None:  # they do not go together any more, which the engine says
        best = await asked.solve(asked.specs, target=target, versions=versions)
    return best, touched


def _url(by_name: Mapping[str, RepoDataRecord], name: str) -> str | None:
    return by_name[name].url if name in by_name else None


def _touched(offered: Offered, records: Sequence[RepoDataRecord]) -> set[str]:
    """Those of ``records`` that need what is not offered, and all that need them, by name."""
    found = {record.name.normalized for record in records if offered.unmet(record.depends)}
    depends = {record.name.normalized: set(map(name_of, record.depends)) for record in records}
    while more := {name for name, needs in depends.items() if needs & found and name not in found}:
        found |= more
    return found


async def unusable_builds(
    asked: Asked, target: Target, versions: Mapping[str, str], named: set[str]
) -> dict[str, set[str]]:
    """What ``target`` would have to offer for builds that it cannot use, by the name of their package.

    :param versions: the packages that are locked; builds of these versions count.
    :param named: the packages of which newer versions count, too.
    """
    offered = Offered(target)
    unmet: dict[str, set[str]] = {}
    further: dict[str, set[str]] = {}
    wanted = [f"{name} {'>=' if name in named else '=='}{version}" for name, version in versions.items()]
    for record in (one for channel in await asked.records(wanted) for one in channel):
        name, depends = record.name.normalized, record.depends
        found = offered.unmet(depends)
        if found:
            unmet.setdefault(name, set()).update(found)
        elif str(record.version) == versions[name]:
            for text in depends:
                if not text.startswith("__") and name_of(text) not in versions:
                    further.setdefault(name_of(text), set()).add(name)
    if further:
        for record in (one for channel in await asked.records(further) for one in channel):
            found = offered.unmet(record.depends)
            for name in further[record.name.normalized] if found else ():
                unmet.setdefault(name, set()).update(found)
    return unmet


def _offers(target: Target, name: str, texts: Sequence[str]) -> list[VirtualPackage]:
    """What a target might offer of ``name`` to meet ``texts``: of levels, the lowest first."""
    if name == "__archspec":
        asked = {text.split()[-1] for text in texts}
        has = target.offered(name)
        above = (
            _LEVELS[_LEVELS.index(has.build) + 1 :] if has is not None and has.build in _LEVELS else _LEVELS
        )
        return [VirtualPackage(name=name, version="1", build=level) for level in above if level in asked]
    bounds = [bound for text in texts for bound in _BOUND.findall(text)]
    versions = [_PLENTY] if any("<" not in text for text in texts) else []
    versions += [max(bounds, key=_numbers)] if bounds else []
    return [VirtualPackage(name=name, version=version) for version in versions]


def _least(plenty: VirtualPackage, records: Iterable[RepoDataRecord]) -> VirtualPackage:
    """As little of it as would do for ``records``."""
    texts = [text for record in records for text in (*record.depends, *record.constrains)]
    bounds = [b for text in texts if name_of(text) == plenty.name for b in _BOUND.findall(text)]
    if plenty.name == "__archspec" or not bounds:
        return plenty
    version = max(bounds, key=_numbers)
    return VirtualPackage(name=plenty.name, version=version if "." in version else f"{version}.0")


def _because(offered: Offered, records: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    """Those of ``records`` that need what is not offered, or a package that does."""
    direct = {record.name.normalized for record in records if offered.unmet(record.depends)}
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
