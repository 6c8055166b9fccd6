"""A requirement that the version which conda brings does not meet: who asks for it, by which way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envforge.errors import UnsatisfiableError
from envforge.model.lockfile import canonical_name
from envforge.model.spec import Line
from envforge.model.urls import redacted
from envforge.resolvers.pypi.request import Wanted
from envforge.resolvers.pypi.stubs import Stub

__all__ = ["DEPENDS", "NAME", "Clash", "ClashError", "clash_in", "clashing_url", "in_one_line", "names"]

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
DEPENDS = re.compile(
    rf"({NAME})(?:\[[^\]]*\])?(?:[=<>!~]\S*)? depends? on ({NAME})(?:\[[^\]]*\])?((?:[<>=!~]=?|===)\S+)"
)
_NEEDS = re.compile(rf"({NAME})(?:\[[^\]]*\])?(?:[=<>!~]\S*)? depends? on ({NAME})")
_ONE_OF = re.compile(rf"(?<= )on one of: ((?:{NAME}[<>=!~]\S+ )+)")
_HOLE = re.compile(r"<([^,|<>=]+)\|>\1(?=[,|])")


@dataclass(frozen=True, kw_only=True)
class Clash:
    """``name`` is wanted in ``versions`` (specifiers with ``|`` between), and ``conda_name`` brings another.

    ``line`` is where it begins, ``by`` are the projects on the way from there; none where the line itself
    asks for it.  ``line`` is ``None`` where the way is not known.
    """

    name: str
    versions: str
    conda_name: str
    line: Line | None
    by: tuple[str, ...] = ()
    is_constraint: bool = False

    def __str__(self) -> str:
        """The way in words: ``alpha (environment.yml:1) → mid → numpy>=2``."""
        start = [] if self.line is None else [f"{redacted(self.line.text)} ({self.line.at})"]
        end = [f"{self.name}{self.versions}"] if self.by else []
        return " → ".join([*start, *self.by[0 if self.line is None else 1 :], *end])


class ClashError(UnsatisfiableError):
    """The halves do not fit together; ``clash`` says why."""

    def __init__(self, what: str, clash: Clash, *, do: str, story: str) -> None:
        super().__init__(what, at=str(clash), do=do, story=story)
        self.clash = clash


def clash_in(
    text: str, story: str, wanted: Sequence[Wanted], limits: Sequence[Wanted], stubs: Mapping[str, Stub]
) -> ClashError | None:
    """What in uv's ``text`` is a clash with what conda brings, if anything is."""
    for clash, stub in _clashes(text, wanted, limits, stubs):
        conda = clash.conda_name
        who = f"{clash.by[-1]} needs {clash.name}{clash.versions}" if clash.by else ""
        asked = redacted(clash.line.text) if clash.line else clash.name
        if clash.is_constraint:
            return ClashError(
                f"the constraint {asked} is not met: {_brings(stub)}",
                clash,
                do=f"ask conda for a {conda} that fits, or relax the constraint",
                story=story,
            )
        return ClashError(
            f"{who or f'{asked} is required'}, but {_brings(stub)}",
            clash,
            do=f"ask conda for a {conda} that fits, take both from conda, or relax the requirement",
            story=story,
        )
    return None


def _clashes(
    text: str, wanted: Sequence[Wanted], limits: Sequence[Wanted], stubs: Mapping[str, Stub]
) -> Iterator[tuple[Clash, Stub]]:
    for one in wanted:
        stub = stubs.get(one.name)
        if stub is not None and not _contains(str(one.requirement.specifier), stub):
            yield _clash(stub, str(one.requirement.specifier), line=one.line), stub
    for requirer, name, versions in DEPENDS.findall(text):
        stub = stubs.get(canonical_name(name))
        if stub is not None and not _contains(versions.rstrip(",."), stub):
            line, by = _way(requirer, text, wanted)
            yield _clash(stub, versions.rstrip(",."), line=line, by=by), stub
    for one in limits:
        stub = stubs.get(one.name)
        said = str(one.requirement.specifier)
        if stub is not None and not _contains(said, stub) and names(text, one.name):
            yield _clash(stub, said, line=one.line, is_constraint=True), stub


def _clash(
    stub: Stub,
    versions: str,
    *,
    line: Line | None,
    by: tuple[str, ...] = (),
    is_constraint: bool = False,
) -> Clash:
    conda = stub.distribution.conda_name
    return Clash(
        name=stub.name, versions=versions, conda_name=conda, line=line, by=by, is_constraint=is_constraint
    )


def _way(requirer: str, text: str, wanted: Sequence[Wanted]) -> tuple[Line | None, tuple[str, ...]]:
    """The shortest way from a line to ``requirer``, as far as uv's text tells it."""
    needed_by: dict[str, list[str]] = {}
    for one, other in _NEEDS.findall(text):
        needed_by.setdefault(canonical_name(other), []).append(canonical_name(one))
    lines = {one.name: one.line for one in reversed(wanted)}
    queue: list[tuple[str, ...]] = [(canonical_name(requirer),)]
    seen = {canonical_name(requirer)}
    while queue:
        way = queue.pop(0)
        if way[0] in lines:
            return lines[way[0]], way
        for before in needed_by.get(way[0], ()):
            if before not in seen:
                seen.add(before)
                queue.append((before, *way))
    return None, (canonical_name(requirer),)


def clashing_url(wanted: Sequence[Wanted], stubs: Mapping[str, Stub]) -> UnsatisfiableError | None:
    """A wheel by URL of something that conda brings: it would lie on top of conda's files."""
    for one in wanted:
        if one.requirement.url is not None and one.name in stubs:
            brings = _brings(stubs[one.name])
            return UnsatisfiableError(
                f"{one.name} is asked for as the wheel {redacted(one.requirement.url)}, but {brings}",
                at=one.line.at,
                do=f"write plain {one.name}, or leave {stubs[one.name].distribution.conda_name} out of conda",
            )
    return None


def in_one_line(text: str) -> str:
    """Words of uv's without their layout, and ``depends on one of: a<1 a>1,<3`` as ``depends on a!=1,<3``."""
    return _ONE_OF.sub(_one_of, " ".join(text.split()))


def _one_of(match: re.Match[str]) -> str:
    first, *others = match[1].split()
    sets = "|".join([first, *(re.sub(f"^{NAME}", "", one) for one in others)])
    return "on " + _HOLE.sub(r"!=\1", sets) + " "


def names(text: str, name: str) -> bool:
    """Whether ``text`` speaks of the project ``name``."""
    return re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _brings(stub: Stub) -> str:
    one = stub.distribution
    what = "" if canonical_name(one.conda_name) == stub.name else f" {stub.name}"
    return f"conda's package {one.conda_name} brings{what} {one.version}"


def _contains(versions: str, stub: Stub) -> bool:
    try:
        sets = map(SpecifierSet, versions.split("|"))
        return any(one.contains(stub.version, prereleases=True) for one in sets)
    except InvalidSpecifier:
        return True
