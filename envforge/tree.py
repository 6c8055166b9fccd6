"""``tree``: what each package of a lockfile needs, drawn from what was asked for; or who needs it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from envforge.errors import AnswerNo
from envforge.model.graph import Graph, Key, Node

__all__ = ["Branch", "tree"]

_DEEPEST = 200
"""Levels that are drawn; real environments have a tenth of that."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A package in a tree, and what it needs, or with ``reverse`` who needs it.

    ``requirement`` is what the one above asks of it, or with ``reverse`` it of the one above; empty for any.
    ``more`` says why nothing is below although there would be: ``repeated``, because it is somewhere else in
    the tree (which ends cycles), ``deep``, because the depth was limited; else empty.
    """

    node: Node
    requirement: str = ""
    branches: tuple[Branch, ...] = ()
    more: str = ""


def tree(
    graph: Graph, starts: Sequence[Key], *, depth: int | None = None, reverse: bool = False
) -> tuple[Branch, ...]:
    """The trees that begin at ``starts``; each package has its branches once, at the top if it is a start.

    Virtual packages are left out, unless they are a start.

    :param depth: the levels below the starts; ``None`` for all.
    :param reverse: who needs it, instead of what it needs.
    :raises AnswerNo: for a start that is not in the graph.
    """
    missing = next((key for key in starts if key not in graph.nodes), None)
    if missing is not None:
        raise AnswerNo(
            f"{' '.join(missing)} is not locked for {graph.platform}",
            at=graph.platform,
            do="envforge list   # says what is",
        )
    most = _DEEPEST if depth is None else min(depth, _DEEPEST)
    grower = _Grower(graph, reverse=reverse, most=most, drawn=set(starts))
    return tuple(grower.grow(start, "", 0) for start in dict.fromkeys(starts))


class _Grower:
    def __init__(self, graph: Graph, *, reverse: bool, most: int, drawn: Collection[Key]) -> None:
        self._graph = graph
        self._reverse = reverse
        self._most = most
        self._drawn = set(drawn)

    def grow(self, key: Key, requirement: str, level: int) -> Branch:
        node = self._graph.nodes[key]
        steps = self._steps(key)
        if level and key in self._drawn:
            return Branch(node=node, requirement=requirement, more="repeated" if steps else "")
        if level >= self._most:
            return Branch(node=node, requirement=requirement, more="deep" if steps else "")
        self._drawn.add(key)
        branches = tuple(self.grow(other, text, level + 1) for other, text in steps)
        return Branch(node=node, requirement=requirement, branches=branches)

    def _steps(self, key: Key) -> list[tuple[Key, str]]:
        if self._reverse:
            return [(need.needer, need.text) for need in self._graph.needed_by[key]]
        needs = self._graph.needs.get(key, ())
        return [(need.needed, need.text) for need in needs if need.needed[0] != "virtual"]
