"""What would help: each change is tried before it is proposed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.profile import option_for
from envforge.model.spec import Line
from envforge.resolvers.conda.absent import joined, kept_elsewhere, variant_of
from envforge.resolvers.conda.conflict import Conflict
from envforge.resolvers.conda.universe import Universe, name_of
from envforge.resolvers.conda.wording import packages_of, virtual_needs

if TYPE_CHECKING:
    from envforge.resolvers.conda.explain import Inquiry

__all__ = ["remedies"]

_BOUND = re.compile(r">=?\s*([0-9]+(?:\.[0-9]+)*)")
_MUTEXES = {"mpi": "MPI", "blas": "BLAS", "libblas": "BLAS"}


async def remedies(
    inquiry: Inquiry,
    core: Sequence[Line],
    lines: Sequence[Line],
    conflicts: Sequence[Conflict],
    universe: Universe,
) -> list[str]:
    """What to do about ``core``, which cannot be had together, the nearest change first; never empty.

    :param lines: ``core`` and all other lines that should be had with it.
    """
    from envforge.resolvers.conda.explain import OutOfTimeError

    found: list[str] = []
    try:
        found += await _targets(inquiry, core, conflicts, universe)
        if not found:
            found += await _other_lines(inquiry, core, lines)
        if not found:
            found += await _other_platforms(inquiry, core)
        if not found:
            found += await _without(inquiry, lines)
    except OutOfTimeError:
        pass
    about = [name for conflict in conflicts for name in packages_of(conflict)]
    hidden = next((name for name in about if universe.passed_over.get(name)), None)
    newer = next((name for name in about if universe.too_new.get(name)), None)
    mutex = next((_MUTEXES[name] for name in about if name in _MUTEXES), None)
    hints = [
        *([f"an environment holds one {mutex}"] if mutex and len(core) > 1 else []),
        *([f"a later channel has {hidden}, too: --channel-priority flexible"] if hidden else []),
        *([f"there is a newer {newer}: take a later --exclude-newer"] if newer else []),
    ]
    if found or hints:
        return hints + found
    return ["loosen or remove one of them" if len(core) > 1 else f"remove {core[0].text}"]


# -- another target ----------------------------------------------------------------------------------------


async def _targets(
    inquiry: Inquiry, core: Sequence[Line], conflicts: Sequence[Conflict], universe: Universe
) -> list[str]:
    """The options that say that the cluster offers more, at the least that it would have to."""
    names = dict.fromkeys(name_of(text) for conflict in conflicts for text in virtual_needs(conflict))
    target, changed = inquiry.target, []
    for name in names:
        tries = [package for package in _offers(name, universe) if target.may_offer(package)]
        package = await _least(inquiry, core, target, tries)
        if package is not None:
            target = target.with_packages((package,))
            changed.append(package)
    if not changed:
        names = {n: None for n in names if target.may_offer(VirtualPackage(name=n, version="0"))}
        return [f"say what the cluster offers: {option_for(VirtualPackage(name=n, version='VERSION'))}"
                for n in names]  # fmt: skip
    options = " ".join(map(option_for, changed))
    least = joined_least(changed)
    return [f"if the cluster offers {least}: envforge lock {options}"]


def joined_least(packages: Sequence[VirtualPackage]) -> str:
    """``CUDA 12.9 and glibc 2.34``: what an administrator would call them."""
    words = {"__cuda": "CUDA", "__glibc": "glibc", "__linux": "Linux", "__osx": "macOS"}
    said = [
        f"a processor of {p.build}" if p.name == "__archspec" else f"{words.get(p.name, p.name)} {p.version}"
        for p in packages
    ]
    return " and ".join(said) + (" or newer" if packages[-1].name != "__archspec" else "")


def _offers(name: str, universe: Universe) -> list[VirtualPackage]:
    """What a target could offer of a virtual package so that records that exist may be used, lowest first."""
    if name == "__archspec":
        return [VirtualPackage(name=name, version="1", build=build) for build in universe.builds_asked(name)]
    versions = {match for text in universe.texts_about(name) for match in _BOUND.findall(text)}
    ordered = sorted(versions, key=lambda version: [int(part) for part in version.split(".")])
    if name == "__cuda":
        ordered = [version if "." in version else f"{version}.0" for version in ordered] or ["12.0"]
    return [VirtualPackage(name=name, version=version) for version in ordered or ["0"]]


async def _least(
    inquiry: Inquiry, core: Sequence[Line], target: Target, tries: Sequence[VirtualPackage]
) -> VirtualPackage | None:
    """The first of ``tries`` with which ``core`` can be had; what a later one allows, it may not."""
    for package in tries:
        if await inquiry.attempt(core, target.with_packages((package,))) is not None:
            return package
    return None


# -- another specification ---------------------------------------------------------------------------------


async def _other_lines(inquiry: Inquiry, core: Sequence[Line], lines: Sequence[Line]) -> list[str]:
    """One line loosened, or left out, so that all of ``lines`` but that can be had."""
    loosened, dropped = [], []
    for line in core:
        name = inquiry.asked.parse(line).name.normalized
        others = [other for other in lines if other is not line]
        if line.text != name:
            found = await inquiry.attempt([*others, replace(line, text=name)])
            record = next((r for r in found or () if r.name.normalized == name), None)
            if record is not None:
                fits = f"{record.version} {variant_of(str(record.build))}"
                loosened.append(f"write {name} for {line.text}: {fits} fits")
                continue
        if len(core) > 1 and await inquiry.attempt(others) is not None:
            dropped.append(f"leave {line.text} out")
    ways = loosened + dropped
    return [", or ".join(ways[:3])] if ways else []


async def _other_platforms(inquiry: Inquiry, core: Sequence[Line]) -> list[str]:
    """Whether ``core`` can be had on a platform that people look at first."""
    from rattler.exceptions import GatewayError

    for platform in ("linux-64", "osx-arm64"):
        if platform != inquiry.target.platform:
            with suppress(GatewayError):
                if await inquiry.attempt(core, default_target(platform)) is not None:
                    return [kept_elsewhere(core, [platform], inquiry.target.platform)]
    return []


async def _without(inquiry: Inquiry, lines: Sequence[Line]) -> list[str]:
    """The lines without which all others can be had; those that stand first are kept."""
    kept: list[Line] = []
    for line in lines:
        if await inquiry.attempt([*kept, line]) is not None:
            kept.append(line)
    left_out = [line.text for line in lines if line not in kept]
    return [f"leave out {joined(left_out)}: the rest can be had"] if kept else []
