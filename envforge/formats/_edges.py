"""Requirements (PEP 508) as edges of a graph."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement

from envforge.model.foreign import Edge
from envforge.model.lockfile import canonical_name

__all__ = ["edge_of", "edges_of"]


def edge_of(requirement: Requirement) -> Edge:
    """One requirement; a pin to one version chooses among several locked ones."""
    return Edge(
        name=canonical_name(requirement.name),
        extras=tuple(sorted(map(canonical_name, requirement.extras))),
        marker=None if requirement.marker is None else str(requirement.marker),
        specifier=str(requirement.specifier),
    )


def edges_of(lines: Iterable[str]) -> tuple[Edge, ...]:
    """Requirements as another tool wrote them; what is none decides nothing here, and is passed over."""
    found = []
    for line in lines:
        try:
            found.append(edge_of(Requirement(line)))
        except InvalidRequirement:
            continue
    return tuple(found)
