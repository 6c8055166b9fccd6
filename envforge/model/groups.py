"""Groups of dependencies (conda-lock's categories): which packages each of them reaches.

A package that the lines of ``main`` reach is in ``main`` and in no other group, because ``main`` is installed
with each; any other is in every group that reaches it, a row each, as conda-lock writes its files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["MAIN", "Key", "in_groups", "key_of", "provided_by_conda", "reached"]

MAIN = "main"
Key = tuple[str, str]
"""A package by manager and name, that of a PyPI project in its canonical form."""


def key_of(row: LockedPackage) -> Key:
    """What the package of ``row`` is known by."""
    return (row.manager, canonical_name(row.name) if row.manager == "pip" else row.name)


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
    """Who needs whom on one platform, across conda and PyPI; a wheel needs the Python it is installed into."""
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


def in_groups(
    rows: Sequence[LockedPackage],
    roots: Mapping[str, Iterable[Key]],
    provided: Mapping[str, tuple[str, str]],
) -> tuple[LockedPackage, ...]:
    """The rows of one platform with their groups; one that several groups reach is there several times.

    :param rows: each package once, whatever its group.
    :param roots: what the lines of each group name, as far as it is among ``rows``.
    :param provided: what conda packages meet, as :func:`provided_by_conda` gives it.
    """
    needs = needs_of(rows, provided)
    known = {key_of(row) for row in rows}
    groups: dict[Key, set[str]] = {key: set() for key in known}
    for group, keys in roots.items():
        for key in reached((key for key in keys if key in known), needs):
            groups[key].add(group)
    found = []
    for row in rows:
        of = groups[key_of(row)]
        # What nobody reaches was chosen by a solver for reasons of its own: it is left where it is harmless.
        for group in [MAIN] if MAIN in of or not of else sorted(of):
            found.append(replace(row, category=group, optional=group != MAIN))
    return tuple(found)
