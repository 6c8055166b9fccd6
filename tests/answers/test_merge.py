"""Merging specifications and locks: what one side changed holds, whoever is "ours"."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.diff import diff, newer
from envforge.errors import AnswerNo
from envforge.merge import merged_lockfile, merged_specification
from envforge.model.lockfile import Lockfile
from envforge.model.spec import EnvironmentSpec, Line
from tests.answers.world import conda, lock

NAMES = ["a", "b", "c"]
SPECS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", " =1", " >=2"]))
LOCKS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2", "3"]))


def specification(asks: Mapping[str, str], **more: object) -> EnvironmentSpec:
    lines = tuple(Line(text=f"{name}{rest}", at=f"x:{at}") for at, (name, rest) in enumerate(asks.items()))
    given = {"name": None, "channels": ("c",), "platforms": ("linux-64",), "conda": lines, **more}
    return EnvironmentSpec(**given)  # type: ignore[arg-type]


def said(spec: EnvironmentSpec) -> set[str]:
    return {line.text for line in spec.conda}


@given(SPECS, SPECS, SPECS)
def test_any_three_specifications(base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> None:
    def merged(one: dict[str, str], other: dict[str, str]) -> set[str] | None:
        try:
            return said(merged_specification(*(specification(side) for side in (base, one, other))))
        except AnswerNo:
            return None

    found = merged(ours, theirs)
    assert found == merged(theirs, ours)
    assert merged(ours, ours) == merged(base, ours) == merged(ours, base) == said(specification(ours))
    if found is None:
        clash = [n for n in NAMES if (n in ours) != (n in theirs) and n in base]
        assert any({base[n]} != {side[n] for side in (ours, theirs) if n in side} for n in clash)
        return
    for name in NAMES:
        sides = [side.get(name) for side in (base, ours, theirs)]
        wanted = {sides[1], sides[2]} - ({sides[0]} if sides[1] != sides[2] else set()) - {None}
        assert {text for text in found if text[0] == name} == {f"{name}{rest}" for rest in wanted}


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (("x", "c"), ("c", "y"), ("x", "c", "y")),
        (("c",), ("d", "c"), ("d", "c")),
        (("c", "x"), (), ("x",)),
        (("c", "x"), ("c", "x"), ("c", "x")),
    ],
)
def test_channels(ours: tuple[str, ...], theirs: tuple[str, ...], merged: tuple[str, ...]) -> None:
    sides = [specification({}, channels=channels) for channels in (("c",), ours, theirs)]
    assert merged_specification(*sides).channels == merged


def test_a_choice_that_both_changed() -> None:
    sides = [specification({}, name=name) for name in ("a", "b", "c")]
    with pytest.raises(AnswerNo, match="both sides changed the name: b and c"):
        merged_specification(*sides)
    assert merged_specification(sides[0], sides[1], sides[0]).name == "b"


@given(LOCKS, LOCKS, LOCKS)
def test_any_three_locks(base: dict[str, str], ours: dict[str, str], theirs: dict[str, str]) -> None:
    def locked(side: dict[str, str]) -> Lockfile:
        return lock(*(conda(f"{name} {version}") for name, version in side.items()), platforms=["linux-64"])

    found = merged_lockfile(locked(base), locked(ours), locked(theirs), newer)
    assert not diff(found, merged_lockfile(locked(base), locked(theirs), locked(ours), newer))
    versions = {row.name: row.version for row in found.packages}
    for name in NAMES:
        before, one, other = (side.get(name) for side in (base, ours, theirs))
        changed = {side for side in (one, other) if side != before}
        if one == other:
            assert versions.get(name) == one
        elif len(changed) == 1:
            assert versions.get(name) == changed.pop()
        else:
            assert versions.get(name) == max(filter(None, changed))
