"""``why``: by which requirements a package came into a lockfile."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envforge.errors import AnswerNo
from envforge.model.graph import Asked, Graph, Key, Need, Node, graph_of, tops
from envforge.model.holding import Holding

__all__ = ["Presence", "Reason", "why"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One thing that was asked for, and a shortest way from it to the package; empty if it is that itself."""

    asked: Asked
    needs: tuple[Need, ...]


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A package, the platforms on which it is there for the same reasons, and these, the shortest first."""

    node: Node
    platforms: tuple[str, ...]
    reasons: tuple[Reason, ...]


def why(held: Holding, name: str, platforms: Sequence[str]) -> tuple[Presence, ...]:
    """Why ``name`` is there, of conda, of PyPI, or as a virtual package that others ask for (``__glibc``).

    :param platforms: those to look at.
    :raises AnswerNo: if none of them has it.
    """
    graphs = [graph_of(held.lockfile, platform, held.groups) for platform in platforms]
    joined: dict[object, list[str]] = {}
    presences: dict[object, tuple[Node, tuple[Reason, ...]]] = {}
    for graph in graphs:
        for node in graph.named(name):
            reasons = _reasons(graph, node.key, held)
            ways = tuple((r.asked.text, tuple(need.needer for need in r.needs)) for r in reasons)
            joined.setdefault((node, ways), []).append(graph.platform)
            presences.setdefault((node, ways), (node, reasons))
    if not joined:
        raise _nowhere(held, name, graphs)
    return tuple(
        Presence(node=presences[key][0], platforms=tuple(there), reasons=presences[key][1])
        for key, there in joined.items()
    )


def _reasons(graph: Graph, end: Key, held: Holding) -> tuple[Reason, ...]:
    steps = graph.toward(end)
    found = [
        Reason(asked=asked, needs=needs)
        for asked, start in tops(graph, held.asked)
        if (needs := _way(steps, start, end)) is not None
    ]
    return tuple(sorted(found, key=lambda reason: (len(reason.needs), reason.asked.name)))


def _way(steps: Mapping[Key, Need], start: Key, end: Key) -> tuple[Need, ...] | None:
    needs: list[Need] = []
    key = start
    while key != end:
        if key not in steps:
            return None
        needs.append(steps[key])
        key = steps[key].needed
    return tuple(needs)


def _nowhere(held: Holding, name: str, graphs: Sequence[Graph]) -> AnswerNo:
    names = sorted({node.name for graph in graphs for node in graph.nodes.values()})
    close = difflib.get_close_matches(name.lower(), names, n=1)
    where = ", ".join(graph.platform for graph in graphs)
    return AnswerNo(
        f"{name} is not in {held.source} for {where}",
        at=held.source,
        do=f"envforge why {close[0]}"
        if close
        else f"envforge list {shlex.quote(held.source)}   # says what is",
    )
