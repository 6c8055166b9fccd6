"""Groups of dependencies (conda-lock's categories): which packages each of them reaches.

A package that the lines of ``main`` reach is in ``main`` and in no other group, because ``main`` is installed
with each; any other is in every group that reaches it, a row each, as conda-lock writes its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["MAIN", "Key", "groups_of", "in_groups", "key_of", "provided_by_conda", "with_groups"]

MAIN = "main"
Key = tuple[str, str]
"""A package by manager and name, that of a PyPI project in its canonical form."""


def key_of(row: LockedPackage) -> Key:
    """What the package of ``row`` is known by."""
    return (row.manager, canonical_name(row.name) if row.manager == "pip" else row.name)


def with_groups(rows: Iterable[LockedPackage]) -> list[tuple[LockedPackage, tuple[str, ...]]]:
    """Each file of a platform once, where it is first, with its groups, of which ``main`` is the first."""
    found: dict[object, tuple[LockedPackage, set[str]]] = {}
    for row in rows:
        found.setdefault((key_of(row), row.platform, row.url), (row, set()))[1].add(row.category)
    return [
        (row, tuple(sorted(groups, key=lambda group: (group != MAIN, group))))
        for row, groups in found.values()
    ]


def provided_by_conda(text: str) -> dict[str, tuple[str, str]]:
    """Which requirements of PyPI conda packages meet: by project, the version and the conda package.

    :param text: what the lockfile says under ``envforge.provided.PLATFORM``.
    """
    found = {}
    for word in text.split():
        distribution, _, package = word.partition("@")
        name, _, version = distribution.partition("=")
        found[name] = (version, package)
    return found


def needs_of(
    rows: Iterable[LockedPackage], provided: Mapping[str, tuple[str, str]]
) -> Callable[[Key], tuple[Key, ...]]:
    """Who needs whom on one platform, across conda and PyPI; a wheel needs the Python that it lies in."""
    by_key = {key_of(row): row for row in rows}

    def needs(key: Key) -> tuple[Key, ...]:
        row = by_key[key]
        if row.manager == "conda":
            found = [("conda", name) for name in row.dependencies]
        else:
            found = [project(canonical_name(name)) for name in row.dependencies] + [("conda", "python")]
        return tuple(one for one in found if one in by_key)

    def project(name: str) -> Key:
        if ("pip", name) not in by_key and name in provided:
            return ("conda", provided[name][1])
        return ("pip", name)

    return needs


def reached(roots: Iterable[Key], needs: Callable[[Key], Iterable[Key]]) -> set[Key]:
    """``roots`` and all that they need."""
    found: set[Key] = set()
    todo = list(roots)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += needs(key)
    return found


def groups_of(
    rows: Sequence[LockedPackage],
    roots: Mapping[str, Iterable[Key]],
    provided: Mapping[str, tuple[str, str]],
) -> dict[Key, tuple[str, ...]]:
    """The groups of each package of one platform: ``main``, or all that reach it; empty if none does.

    :param rows: each package once, whatever its group.
    :param roots: what the lines of each group name, as far as it is among ``rows``.
    :param provided: what conda packages meet, as :func:`provided_by_conda` gives it.
    """
    needs = needs_of(rows, provided)
    found: dict[Key, set[str]] = {key_of(row): set() for row in rows}
    for group, keys in roots.items():
        for key in reached((key for key in keys if key in found), needs):
            found[key].add(group)
    return {key: (MAIN,) if MAIN in groups else tuple(sorted(groups)) for key, groups in found.items()}


def in_groups(
    rows: Iterable[LockedPackage], groups: Mapping[Key, Sequence[str]]
) -> tuple[LockedPackage, ...]:
    """The rows with their groups, one of several there several times, one of none in ``main``."""
    return tuple(
        row
        if (row.category, row.optional) == (group, group != MAIN)
        else replace(row, category=group, optional=group != MAIN)
        for row in rows
        for group in groups[key_of(row)] or (MAIN,)
    )
