"""What of a lockfile goes into a file of another tool: the rows, and what stays behind, by name.

The texts of the losses are the rows of the tables in ``docs/reference``; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from envforge.errors import InputError
from envforge.model.built import BUILT, row_to_share
from envforge.model.foreign import Loss
from envforge.model.graph import graph_of
from envforge.model.groups import key_of
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name

__all__ = [
    "BUILT_WHEELS",
    "CONDA",
    "GROUPS",
    "HASH",
    "HASHES",
    "NAME",
    "NAMES",
    "NEEDED",
    "NEEDS",
    "ORIGIN",
    "OTHER_GROUPS",
    "OWN",
    "PROJECTS",
    "PYPI",
    "TARGETS",
    "UNHASHED",
    "Half",
    "conda_half",
    "group_losses",
    "loss",
    "losses",
    "own_losses",
    "pip_half",
    "python_of",
    "roots",
    "shared_rows",
    "shown_name",
]

CONDA = "conda packages"
PYPI = "PyPI packages"
UNHASHED = "packages without a sha256: repositories and directories"
PROJECTS = "projects of yours that were built"
BUILT_WHEELS = "wheels that were built: their sdists stand in for them"
GROUPS = "which group a package is in"
OTHER_GROUPS = "groups that were not asked for"
HASHES = "hashes"
HASH = "more than one hash of a file"
NEEDS = "what each package needs"
NEEDED = "which versions a PyPI package needs of another, where that is not written as PEP 508 has it"
ORIGIN = "where a file is to be fetched"
NAMES = "packages whose name or version the format does not allow"
NAME = "the environment's name"
TARGETS = "what was assumed of the platform"
_LONGEST_NAME = 200
OWN = "what envforge notes for itself: settings, the digest of the specification, the runtime"


def loss(what: str, rows: Iterable[LockedPackage] = ()) -> Loss:
    """One loss, with the packages' names in order."""
    return Loss(what=what, packages=tuple(sorted({row.name for row in rows})))


def losses(*pairs: tuple[str, Sequence[LockedPackage]]) -> tuple[Loss, ...]:
    """The losses that concern a package at all."""
    return tuple(loss(what, rows) for what, rows in pairs if rows)


@dataclass(frozen=True, kw_only=True)
class Half:
    """The rows that can be named in another tool's file, and the losses among the others."""

    rows: tuple[LockedPackage, ...]
    losses: tuple[Loss, ...] = ()


def shared_rows(lockfile: Lockfile, rows: Iterable[LockedPackage]) -> Half:
    """PyPI rows as other tools can use them: with a hash, and an sdist in place of what was built."""
    shared, projects, built, unhashed = [], [], [], []
    for row in rows:
        other = row_to_share(row, lockfile.custom)
        if other is None:
            projects.append(row)
        elif other.sha256 is None:
            unhashed.append(row)
        else:
            shared.append(other)
            if row.url.startswith(BUILT):
                built.append(row)
    found = losses((PROJECTS, projects), (BUILT_WHEELS, built), (UNHASHED, unhashed))
    return Half(rows=tuple(shared), losses=found)


def pip_half(lockfile: Lockfile, platform: str, groups: Sequence[str]) -> Half:
    """The PyPI rows of one platform, each name once.

    :raises InputError: if two groups lock a name differently, or the lockfile lacks platform or group.
    """
    rows = [row for row in lockfile.rows(platform, groups) if row.manager == "pip"]
    return shared_rows(lockfile, _unique(rows))


def conda_half(lockfile: Lockfile, platform: str, groups: Sequence[str]) -> tuple[LockedPackage, ...]:
    """The conda rows of one platform, each name once, in an order in which each comes after what it needs.

    :raises InputError: as :func:`pip_half`.
    """
    rows = [row for row in lockfile.rows(platform, groups) if row.manager == "conda"]
    return _sorted_by_need(_unique(rows))


def _unique(rows: Sequence[LockedPackage]) -> list[LockedPackage]:
    found: dict[str, LockedPackage] = {}
    for row in rows:
        name = canonical_name(row.name) if row.manager == "pip" else row.name
        other = found.setdefault(name, row)
        if other is not row:
            raise InputError(
                f"{row.name} is locked differently in the groups {other.category} and {row.category}",
                at=f"package {row.name} ({row.platform})",
                do="export one of the two groups",
            )
    return [found[name] for name in sorted(found)]


def _sorted_by_need(rows: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Depth first; of a circle the alphabet decides where it is cut."""
    by_name = {row.name: row for row in rows}
    placed: dict[str, LockedPackage] = {}
    opened: set[str] = set()
    for row in rows:
        stack = [(row, iter(sorted(row.dependencies)))]
        opened.add(row.name)
        while stack:
            current, needs = stack[-1]
            needed = next((by_name[n] for n in needs if n in by_name and n not in opened), None)
            if needed is None:
                placed.setdefault(current.name, current)
                stack.pop()
            else:
                opened.add(needed.name)
                stack.append((needed, iter(sorted(needed.dependencies))))
    return tuple(placed.values())


def own_losses(lockfile: Lockfile, *, name: bool, target: bool) -> tuple[Loss, ...]:
    """What is lost of the lockfile as a whole.

    :param name: whether the format holds the environment's name.
    :param target: whether it holds what was assumed of a platform.
    """
    found = []
    if not name and "envforge.name" in lockfile.custom:
        found.append(Loss(what=NAME))
    keys = {key for key in lockfile.custom if not key.startswith("envforge.target.")}
    if not target and len(keys) < len(lockfile.custom):
        found.append(Loss(what=TARGETS))
    if keys - {"envforge.name"}:
        found.append(Loss(what=OWN))
    return tuple(found)


def group_losses(
    lockfile: Lockfile, platform: str, groups: Sequence[str], *, told_apart: bool
) -> tuple[Loss, ...]:
    """The groups that are not exported, and those that cannot be told apart any more.

    :param told_apart: whether the format says which group a package is in.
    """
    there = {row.category for row in lockfile.packages if row.platform == platform}
    left, mixed = sorted(there - set(groups)), sorted(there & set(groups) - {"main"})
    found = [Loss(what=OTHER_GROUPS, packages=tuple(left))] if left else []
    if mixed and not told_apart:
        found.append(Loss(what=GROUPS, packages=tuple(mixed)))
    return tuple(found)


def roots(lockfile: Lockfile, manager: str, group: str, platforms: Sequence[str]) -> list[LockedPackage]:
    """The rows of one manager and group that no other one of them needs, sorted by name.

    A row of several platforms counts once.
    """
    rows = tuple(r for r in lockfile.packages if (r.manager, r.category) == (manager, group))
    part = replace(lockfile, packages=rows)
    found: dict[str, LockedPackage] = {}
    for platform in platforms:
        names = {key[1] for key in graph_of(part, platform).roots()}
        for row in rows:
            if row.platform == platform and key_of(row)[1] in names:
                found.setdefault(row.name, row)
    return [found[name] for name in sorted(found)]


def shown_name(lockfile: Lockfile) -> str:
    """The environment's name for a line of a file; one that could break out of the line is left out."""
    name = lockfile.name
    return name if name and name.isprintable() and len(name) <= _LONGEST_NAME else "default"


def python_of(rows: Iterable[LockedPackage]) -> str | None:
    """The version of the Python among conda rows."""
    return next((row.version for row in rows if row.manager == "conda" and row.name == "python"), None)
