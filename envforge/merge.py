"""Two branches that both changed the lockfile: the merged specification, and what to keep when it is locked.

Both are merged as git merges, by what each side changed since their common base; but by dependencies and
packages, not by lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from envforge.errors import AnswerNo
from envforge.model.groups import key_of
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.spec import EnvironmentSpec, Line

__all__ = ["merged_lockfile", "merged_specification"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_NAME = re.compile(r"(?:[^\s\[\]=<>!]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)")
_LINES = ("conda", "pip", "constraints")


def merged_specification(
    base: EnvironmentSpec, ours: EnvironmentSpec, theirs: EnvironmentSpec
) -> EnvironmentSpec:
    """What both sides ask for: what one of them added, removed or changed holds.

    Where both changed the requirement of one package, both hold.

    :raises AnswerNo: where one removed what the other changed, or both changed a choice, such as the name.
    """
    changes: dict[str, object] = {}
    for field in fields(EnvironmentSpec):
        values = [getattr(side, field.name) for side in (base, ours, theirs)]
        if field.name in _LINES:
            changes[field.name] = _merged_lines(*values)
        elif isinstance(values[1], tuple):
            changes[field.name] = _merged_items(*values)
        else:
            changes[field.name] = _merged_value(*values, what=field.name)
    return replace(ours, **changes)  # type: ignore[arg-type]


def _merged_lines(base: Sequence[Line], ours: Sequence[Line], theirs: Sequence[Line]) -> tuple[Line, ...]:
    before, one, other = (_by_package(lines) for lines in (base, ours, theirs))
    found: list[Line] = []
    for key in dict.fromkeys((*one, *other)):
        texts = [tuple(_said(line) for line in side.get(key, ())) for side in (before, one, other)]
        if texts[1] == texts[2] or texts[2] == texts[0]:
            found += one.get(key, ())
        elif texts[1] == texts[0]:
            found += other.get(key, ())
        elif one.get(key) and other.get(key):
            known = {_said(line) for line in one[key]}
            found += [*one[key], *(line for line in other[key] if _said(line) not in known)]
        else:
            changed = (one.get(key) or other[key])[0]
            raise AnswerNo(
                f"one side asks for {changed.text}, and the other does not ask for it any more",
                at=changed.at,
                do="decide in the specification, then: envforge lock",
            )
    return tuple(found)


def _by_package(lines: Iterable[Line]) -> dict[Hashable, list[Line]]:
    found: dict[Hashable, list[Line]] = {}
    for line in lines:
        match = _NAME.match(line.text)
        name = canonical_name(match[1]) if match is not None else line.text
        found.setdefault((name, line.group), []).append(line)
    return found


def _said(line: Line) -> tuple[object, ...]:
    """What a line says, wherever it is written."""
    return (re.sub(r"\s+", " ", line.text), line.platforms, line.group, line.hashes)


def _merged_items(base: tuple[T, ...], ours: tuple[T, ...], theirs: tuple[T, ...]) -> tuple[T, ...]:
    """An ordered list: what only one side changed is as that has it; else ours, with what theirs changed."""
    if theirs == base:
        return ours
    if ours == base:
        return theirs
    gone = [item for item in base if item not in theirs]
    come = [item for item in theirs if item not in base and item not in ours]
    return (*(item for item in ours if item not in gone), *come)


def _merged_value(base: T, ours: T, theirs: T, *, what: str) -> T:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    raise AnswerNo(
        f"both sides changed the {what}: {ours} and {theirs}",
        at=what,
        do="decide in the specification, then: envforge lock",
    )


def merged_lockfile(
    base: Lockfile, ours: Lockfile, theirs: Lockfile, is_newer: Callable[[LockedPackage, LockedPackage], bool]
) -> Lockfile:
    """What to keep when the merged specification is locked: what either side changed since ``base``.

    Of two versions that both sides chose anew the newer is kept.  It is no lockfile to install from: nobody
    has asked yet whether its packages go together.

    :param is_newer: whether the second of two packages has a higher version than the first.
    """
    rows = [_rows(lockfile) for lockfile in (base, ours, theirs)]
    found = []
    for key in dict.fromkeys((*rows[1], *rows[2])):
        before, one, other = (side.get(key) for side in rows)
        kept = _kept(before, one, other, is_newer)
        if kept is not None:
            found.append(kept)
    platforms = _merged_items(base.platforms, ours.platforms, theirs.platforms)
    return replace(
        ours,
        packages=tuple(row for row in found if row.platform in platforms),
        platforms=tuple(sorted(platforms)),
        custom=_merged_texts(base.custom, ours.custom, theirs.custom),
    )


def _rows(lockfile: Lockfile) -> dict[Hashable, LockedPackage]:
    return {(key_of(row), row.platform, row.category): row for row in lockfile.packages}


def _kept(
    before: LockedPackage | None,
    one: LockedPackage | None,
    other: LockedPackage | None,
    is_newer: Callable[[LockedPackage, LockedPackage], bool],
) -> LockedPackage | None:
    url, ours, theirs = (row and row.url for row in (before, one, other))
    if ours == theirs or theirs == url:
        return one
    if ours == url:
        return other
    if one is None or other is None:
        return one or other
    return other if is_newer(one, other) else one


def _merged_texts(
    base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> dict[str, str]:
    """What is said beside the packages; where both sides changed it, ours."""
    found = {}
    for key in sorted({*ours, *theirs}):
        text = ours.get(key)
        if text == base.get(key):
            text = theirs.get(key)
        if text is not None:
            found[key] = text
    return found
