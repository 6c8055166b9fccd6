"""A clash of the halves: the way by which each came to its version, and a change that would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from envforge.errors import EnvforgeError
from envforge.model.spec import Line
from envforge.resolvers.conda import CondaRecord, parse_match_spec
from envforge.resolvers.pypi.clash import ClashError

__all__ = ["explain"]

SolveMore = Callable[[Line], Sequence[CondaRecord]]
"""Solves the conda half with one more line."""


def explain(
    error: ClashError, records: Sequence[CondaRecord], lines: Sequence[Line], solve: SolveMore
) -> None:
    """Add to ``error`` how conda came to its version, and a change of the conda half that was tried.

    :param records: what conda has chosen.
    :param lines: the conda dependencies of the target.
    """
    way = _way(error.clash.conda_name, records, lines)
    error.at = f"{error.at}; conda: {way}" if way else error.at
    for candidate in _candidates(error):
        with suppress(EnvforgeError):
            solve(Line(text=candidate, at="a try"))
            error.do = f"write {candidate} among the conda dependencies"
            if candidate == _project(error):
                error.do += ", in place of the one below pip:"
            return


def _candidates(error: ClashError) -> list[str]:
    """Lines for conda that would help, the smallest change first."""
    clash = error.clash
    plain = all(one not in clash.versions for one in ("~=", "==="))
    fitting = [f"{clash.conda_name}{clash.versions}"] if clash.versions and plain else []
    return [*fitting, *clash.by]


def _project(error: ClashError) -> str | None:
    """The project of the wheel that a person asked for."""
    by = error.clash.by
    return by[0] if by and error.clash.line is not None else None


def _way(name: str, records: Sequence[CondaRecord], lines: Sequence[Line]) -> str:
    """``pandas=2.2 (environment.yml:5) → numpy >=1.22,<2``: what limits ``name``, else the shortest way."""
    asked: dict[str, Line] = {}
    for one in lines:
        asked.setdefault(parse_match_spec(one).name.normalized, one)
    line = asked.get(name)
    if line is not None and line.text.strip() != name:
        return f"{line.text} ({line.at})"
    ways = _ways(records, asked)
    ends = [
        (not _limits(spec), len(ways[record.name]), record.name, spec)
        for record in records
        if record.name in ways
        for spec in record.depends
        if spec.partition(" ")[0] == name
    ]
    if not ends:
        return f"{line.text} ({line.at})" if line is not None else ""
    unlimited, _, last, spec = min(ends)
    if unlimited and line is not None:
        return f"{line.text} ({line.at})"
    first, *between = ways[last]
    start = f"{asked[first].text} ({asked[first].at})"
    return " → ".join([start, *between, spec])


def _ways(records: Sequence[CondaRecord], asked: dict[str, Line]) -> dict[str, tuple[str, ...]]:
    """The shortest way from what was asked for to each record."""
    needs = {record.name: [spec.partition(" ")[0] for spec in record.depends] for record in records}
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in asked if name in needs}
    queue = list(found)
    for name in queue:  # grows
        for other in needs[name]:
            if other in needs and other not in found:
                found[other] = (*found[name], other)
                queue.append(other)
    return found


def _limits(spec: str) -> bool:
    """Whether a dependency of a conda package keeps newer versions out."""
    rest = spec.partition(" ")[2]
    return any(mark in rest for mark in ("<", "==", ".*", "=")) and not (
        rest.startswith(">=") and "," not in rest
    )
