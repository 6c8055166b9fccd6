"""Which locked packages need which: what was probably asked for."""

from __future__ import annotations

from collections.abc import Iterable

from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["roots"]


def roots(rows: Iterable[LockedPackage]) -> list[LockedPackage]:
    """Rows that no other one needs, by name, and of each circle that nothing else needs the first one.

    A row of several platforms counts once.
    """
    by_name: dict[str, LockedPackage] = {}
    needs: dict[str, set[str]] = {}
    for row in rows:
        name = canonical_name(row.name)
        by_name.setdefault(name, row)
        needs.setdefault(name, set()).update(map(canonical_name, row.dependencies))
    needed = {other for name, others in needs.items() for other in others if other != name}
    found = [name for name in sorted(by_name) if name not in needed]
    reached = _reachable(found, needs)
    for name in sorted(by_name):
        if name not in reached:
            found.append(name)
            reached |= _reachable([name], needs)
    return [by_name[name] for name in sorted(found)]


def _reachable(names: Iterable[str], needs: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += needs.get(name, ())
    return seen
