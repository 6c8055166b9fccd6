"""A conflict as a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envforge.resolvers.conda.absent import joined
from envforge.resolvers.conda.conflict import Conflict, Need, Reason
from envforge.resolvers.conda.universe import Universe, name_of

__all__ = ["packages_of", "sentence", "virtual_needs"]

_GIVEN = re.compile(r"^(where it can be used, )?(beside .*? )?(?=\S+ (needs|is asked))")
_RANGE = re.compile(r"\S+\s+>=([0-9][^,|\s]*),<([0-9][^,|\s]*)")


def sentence(conflicts: Sequence[tuple[str, Conflict]], universe: Universe) -> str:
    """Which requirements clash, and by which packages they come from what was asked for.

    :param conflicts: what :func:`envforge.resolvers.conda.conflict.find_conflicts` found.
    """
    told: dict[str, list[str]] = {}
    for release, conflict in conflicts:
        told.setdefault(_sentence(conflict, universe), []).append(release)
    if len(told) == 1:
        return next(iter(told))
    parts = [f"with {joined(releases, 'or')} {text}" for text, releases in told.items()]
    return "; ".join(parts[:2]) + ("; and so on for older ones" if len(parts) > 2 else "")


def _sentence(conflict: Conflict, universe: Universe) -> str:
    told = [reason for reason in conflict.reasons if not _is_assumed(reason)]
    clauses = [_chain(reason.need, universe) for reason in told if reason.need is not None]
    if conflict.need is not None:
        faults = [reason for reason in told if reason.need is None]
        does = _faults(faults, universe) if faults else "is asked for"
        clauses.insert(0, f"{conflict.need.texts[0]} {does}")
    cores = [_GIVEN.sub("", clause) for clause in clauses]
    return ", and ".join(
        clause
        for clause, core in zip(clauses, cores, strict=True)
        if not any(other != core and other.startswith(core) for other in cores)
    )


def _is_assumed(reason: Reason) -> bool:
    """Whether it only says which release is looked at, as what stands before the sentence does."""
    return reason.need is not None and reason.need.assumed


def _faults(reasons: Sequence[Reason], universe: Universe) -> str:
    return ", or ".join(_fault(reason, universe) for reason in reasons)


def _fault(reason: Reason, universe: Universe) -> str:
    """What builds need and cannot have: ``needs pytorch, which needs __cuda, and no __cuda is assumed``."""
    needs = f"needs {_either(reason.texts, universe)}"
    if reason.kind == "virtual":
        name = name_of(reason.texts[0])
        has = universe.target.version(name)
        return f"{needs}, and {f'no {name}' if has is None else f'{name} {has}'} is assumed"
    if reason.kind == "missing" or reason.deeper is None:
        return f"{needs}, which no channel has"
    return needs + _further(reason.deeper, universe)


def _further(deeper: Conflict, universe: Universe) -> str:
    if not deeper.reasons:
        return ", which no channel has in such a build"
    told = [reason for reason in deeper.reasons if not _is_assumed(reason)]
    others = [reason.need for reason in told if reason.need is not None]
    faults = [reason for reason in told if reason.need is None]
    which = f", which {_faults(faults, universe)}" if faults else ""
    return which + "".join(f", and {_chain(need, universe)}" for need in others)


def _chain(need: Need, universe: Universe) -> str:
    """``h5py needs openmpi >=5,<6, which needs mpi 1.0.* openmpi``."""
    first, *rest = need.chain
    if not rest:
        return f"{first.texts[0]} is asked for"
    given = f"beside {joined(sorted(need.after))} " if need.after else ""
    usable = "where it can be used, " if need.partly else ""
    needs = ", which needs ".join(_either(step.texts, universe) for step in rest)
    return f"{usable}{given}{first.texts[0]} needs {needs}"


def _either(texts: Sequence[str], universe: Universe) -> str:
    """Several ways to put a dependency: as the range that holds just all of them, else some of them."""
    tidy = list(dict.fromkeys(map(_tidy, texts)))
    if len(tidy) == 1:
        return tidy[0]
    name = name_of(tidy[0])
    whole = _whole_range(name, tidy)
    if whole and universe.matching(whole) == frozenset().union(*map(universe.matching, tidy)):
        return whole
    rest = [text.partition(" ")[2] or "*" for text in tidy]
    return f"{name} {joined(rest, 'or')}" if len(tidy) < 4 else f"{name} such as {rest[0]}"


def _tidy(text: str) -> str:
    """Of ``python >=3.11 and python >=3.11 *_cpython`` only what says all."""
    parts = list(dict.fromkeys(" ".join(part.split()) for part in text.split(" and ")))
    kept = [p for p in parts if not any(q != p and q.startswith(f"{p} ") for q in parts)]
    return " and ".join([*kept[:1], *(part.partition(" ")[2] for part in kept[1:])])


def _whole_range(name: str, texts: Sequence[str]) -> str | None:
    """The range from the lowest to the highest version of ranges; ``None`` if not all of them are such."""
    from rattler import Version
    from rattler.exceptions import InvalidVersionError

    ranges = [match for text in texts if (match := _RANGE.fullmatch(text))]
    if len(ranges) < len(texts):
        return None
    try:
        lowest = min((match[1] for match in ranges), key=Version)
        highest = max((match[2] for match in ranges), key=Version)
    except InvalidVersionError:
        return None
    return f"{name} >={lowest},<{highest}"


def virtual_needs(conflict: Conflict) -> Iterator[str]:
    """The dependencies on virtual packages that have a part in a conflict."""
    for reason in conflict.reasons:
        if reason.kind == "virtual":
            yield from reason.texts
        if reason.deeper is not None:
            yield from virtual_needs(reason.deeper)


def packages_of(conflict: Conflict) -> Iterator[str]:
    """The packages that a conflict is about, by name."""
    yield conflict.name
    for reason in conflict.reasons:
        if reason.need is not None:
            yield reason.need.name
        if reason.kind == "missing":
            yield from map(name_of, reason.texts)
        if reason.deeper is not None:
            yield from packages_of(reason.deeper)
