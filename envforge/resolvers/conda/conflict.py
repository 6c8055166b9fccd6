"""Why nothing fits, found in the records themselves: which two requirements leave no build of a package.

What every build of a package that is needed needs is needed, too.  Followed from what was asked for, that
narrows the builds of ever more packages down, until one has none left.  It is less than what a solver does,
which may have to try, but what it finds can be said in a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from time import monotonic
from typing import TYPE_CHECKING

from envforge.model.spec import Line
from envforge.resolvers.conda.universe import Candidate, Universe

if TYPE_CHECKING:
    from rattler import MatchSpec

__all__ = ["Conflict", "Need", "Reason", "find_conflicts"]

_RELEASES = 8
_PIVOTS = 3
_DEEPEST = 4
"""How many packages down from one that is needed builds are looked at that may turn out to be of no use."""


Asking = tuple[Line, str, "MatchSpec"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Need:
    """That a package is needed: by a line of the specification, or by every build of another package.

    ``texts`` are the different ways in which the builds put it, the newest build's first.  ``after`` are
    other lines that had a part in which builds those are; ``partly`` is set where some builds were out
    before, because they could not be used at all.
    """

    name: str
    texts: tuple[str, ...]
    admitted: frozenset[int]
    line: Line | None = None
    via: Need | None = None
    after: frozenset[str] = frozenset()
    partly: bool = False

    @property
    def assumed(self) -> bool:
        """Whether it comes from no line, but from looking at one release of a package at a time."""
        return self.chain[0].line is None

    @property
    def chain(self) -> tuple[Need, ...]:
        """From the line of the specification to this."""
        return (self,) if self.via is None else (*self.via.chain, self)


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why some builds of a package are out.

    ``kind`` is ``need`` (something asks for others: ``need``), ``virtual`` (the target does not offer what
    they need), ``missing`` (no channel has it) or ``blocked`` (what they need has no build left: ``deeper``).
    ``texts`` are the dependencies in question.
    """

    kind: str
    excluded: frozenset[int]
    texts: tuple[str, ...] = ()
    need: Need | None = None
    deeper: Conflict | None = None


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A package of which no build is left, and what excludes all that there are.

    ``need`` is the line of the specification that asks for it; without one, all of ``reasons`` are needs.
    """

    name: str
    need: Need | None
    reasons: tuple[Reason, ...]

    @property
    def weight(self) -> int:
        """How much there is to say about it."""
        return sum(map(_weight, self.reasons)) if self.reasons else 9


def find_conflicts(
    universe: Universe, asked: Sequence[Asking], *, until: float
) -> list[tuple[str, Conflict]]:
    """Why ``asked`` cannot be had, as near to it as possible; empty if that is not seen.

    Either there is one conflict, whatever is chosen, and the text with it is empty; or there is one for each
    release of a package that is needed, with it: ``python 3.12``, the newest first.

    :param asked: the lines, the package each names, and the MatchSpec it is.
    :param until: when to give up, in seconds of :func:`time.monotonic`.
    """
    for depth in range(1, _DEEPEST + 1):
        search = _Search(universe, depth, until)
        found = search.run(asked)
        if found is not None:
            return [("", found)]
        if monotonic() > until:
            return []
    return next(filter(None, (_by_release(search, name) for name in search.pivots())), [])


def _by_release(search: _Search, name: str) -> list[tuple[str, Conflict]]:
    """A conflict for each release of ``name``; empty if one of them has none."""
    found = []
    for release, places in search.releases(name).items():
        conflict = search.assuming(name, places).go_on()
        if conflict is None:
            return []
        found.append((f"{name} {release}", conflict))
    return found


@dataclass
class _Search:
    universe: Universe
    depth: int
    until: float
    open: dict[str, frozenset[int]] = field(default_factory=dict)
    needs: dict[str, list[Need]] = field(default_factory=dict)
    release: Need | None = None
    """The release that is assumed of a package."""
    lines: dict[str, frozenset[str]] = field(default_factory=dict)
    """The lines that had a part in which builds of a package are left."""
    _usable: dict[tuple[str, int], frozenset[int]] = field(default_factory=dict)

    def run(self, asked: Sequence[Asking]) -> Conflict | None:
        """The first conflict."""
        for line, name, spec in asked:
            need = Need(name=name, texts=(line.text,), admitted=self.universe.places(name, spec), line=line)
            if self._narrow(need, frozenset((line.text,))):
                return self._conflict(name)
        return self.go_on()

    def pivots(self) -> list[str]:
        """Packages of few releases that are needed, those that most others are built for first."""
        counts = Counter(
            other
            for name, places in self.open.items()
            for other in {text for place in places for text in self.universe.candidates(name)[place].depends}
        )
        several = [name for name in self.open if 1 < len(self.releases(name)) <= _RELEASES]
        return sorted(several, key=lambda name: (-counts[name], name))[:_PIVOTS]

    def releases(self, name: str) -> dict[str, frozenset[int]]:
        """The builds that are left by the first two numbers of their version, the newest first."""
        found: dict[str, frozenset[int]] = {}
        for place in sorted(self.open[name]):
            version = ".".join(self.universe.candidates(name)[place].version.split(".")[:2])
            found[version] = found.get(version, frozenset()) | {place}
        return found

    def assuming(self, name: str, places: frozenset[int]) -> _Search:
        """The same search, as if only some builds of ``name`` were left."""
        copy = {key: list(needs) for key, needs in self.needs.items()}
        copy[name].append(Need(name=name, texts=(name,), admitted=places))
        opened = {**self.open, name: places}
        return replace(self, open=opened, needs=copy, lines=dict(self.lines), release=copy[name][-1])

    def go_on(self) -> Conflict | None:
        """Narrow down until nothing changes; the first conflict."""
        before: dict[str, frozenset[int]] = {}
        while self.open != before and monotonic() < self.until:
            before = dict(self.open)
            for name in before:
                dead = self._follow(name)
                if dead is not None:
                    return self._conflict(dead)
        return None

    def _narrow(self, need: Need, lines: frozenset[str]) -> bool:
        """Take ``need`` to account; whether nothing is left."""
        name = need.name
        before = self.open.get(name)
        if before is None:
            before = self._usable_of(name, self.depth)
        after = before & need.admitted
        known = self.needs.setdefault(name, [])
        if not known or after != before:
            known.append(need)
            self.lines[name] = self.lines.get(name, frozenset()) | lines
        self.open[name] = after
        return not after

    def _follow(self, name: str) -> str | None:
        """Drop the builds of ``name`` that cannot be used, and need what all others need."""
        candidates = self.universe.candidates(name)
        left = []
        for place in sorted(self.open[name]):
            blocking = next(self._blocking(candidates[place]), None)
            if blocking is None:
                left.append(place)
            else:
                self.lines[name] |= self.lines.get(blocking, frozenset())
        self.open[name] = frozenset(left)
        if not left:
            return name
        builds = [candidates[place] for place in left]
        common = set(builds[0].depends).intersection(*(build.depends for build in builds[1:]))
        for other in sorted(common):
            if not other.startswith("__") and self._need(name, other, builds):
                return other
        return None

    def _need(self, name: str, other: str, builds: Sequence[Candidate]) -> bool:
        texts = dict.fromkeys(build.depends[other] for build in builds)
        admitted = frozenset().union(*map(self.universe.all_matching, texts))
        via = self.needs[name][0]
        wanted = frozenset.intersection(*(need.admitted for need in self.needs[name]))
        own = {need.line.text for need in via.chain if need.line is not None}
        need = Need(
            name=other,
            texts=tuple(dict.fromkeys(" and ".join(text) for text in texts)),
            admitted=admitted,
            via=via,
            after=self.lines[name] - own,
            partly=via.partly or bool(wanted - self._usable_of(name, self.depth)),
        )
        return self._narrow(need, self.lines[name])

    def _blocking(self, build: Candidate) -> Iterator[str]:
        """What a build needs and cannot have beside what is needed already, by name."""
        for other, texts in build.depends.items():
            allowed = self.open.get(other)
            if allowed is not None and not allowed & self.universe.all_matching(texts):
                yield other
        for other, texts in build.constrains.items():
            allowed = self.open.get(other)
            if allowed and not allowed & self.universe.all_matching(texts):
                yield other

    def _usable_of(self, name: str, depth: int) -> frozenset[int]:
        """The builds whose needs can be met by themselves, as far down as ``depth``."""
        found = self._usable.get((name, depth))
        if found is None:
            candidates = self.universe.candidates(name)
            self._usable[name, depth] = frozenset(range(len(candidates)))  # for packages that need each other
            found = self._usable[name, depth] = frozenset(
                place for place, build in enumerate(candidates) if self._is_usable(build, depth)
            )
        return found

    def _is_usable(self, build: Candidate, depth: int) -> bool:
        for other, texts in build.depends.items():
            if other.startswith("__"):
                if not all(map(self.universe.offers, texts)):
                    return False
            elif depth == 0 or monotonic() > self.until:
                continue
            elif not self.universe.all_matching(texts) & self._usable_of(other, depth - 1):
                return False
        return True

    # -- the reasons -------------------------------------------------------------------------------------

    def _conflict(self, name: str) -> Conflict | None:
        """What is told begins with a line of the specification, one of those that need ``name``."""
        roots = dict.fromkeys(need.chain[0] for need in self.needs[name] if not need.assumed)
        told = [self._explain(root.name, root.admitted, frozenset(), root) for root in roots]
        every = frozenset(range(len(self.universe.candidates(name))))
        clash = self._explain(name, every, frozenset())
        needs = [reason.need for reason in clash.reasons if reason.need is not None]
        if len(needs) == len(clash.reasons) > 1 and not any(need.assumed for need in needs):
            told.append(clash)
        return min((one for one in told if one.reasons), key=lambda one: one.weight, default=None)

    def _explain(
        self, name: str, builds: frozenset[int], seen: frozenset[str], need: Need | None = None
    ) -> Conflict:
        builds = self._of_release(name, builds) or builds
        reasons = list(self._reasons(name, builds, seen | {name}))
        return Conflict(name=name, need=need, reasons=_cover(builds, reasons))

    def _of_release(self, name: str, builds: frozenset[int]) -> frozenset[int]:
        """Those of ``builds`` that may be had beside the release that is assumed."""
        release = self.release
        if release is None:
            return builds
        if name == release.name:
            return builds & release.admitted
        candidates = self.universe.candidates(name)
        texts = {place: candidates[place].depends.get(release.name) for place in builds}
        return frozenset(
            place
            for place, found in texts.items()
            if found is None or release.admitted & self.universe.all_matching(found)
        )

    def _reasons(self, name: str, builds: frozenset[int], seen: frozenset[str]) -> Iterator[Reason]:
        # Of what one package needs, the last is the narrowest.
        last = {need.via and need.via.name: need for need in self.needs.get(name, []) if need.line is None}
        lines = (need for need in self.needs.get(name, []) if need.line is not None)
        for need in (*lines, *last.values()):
            if builds - need.admitted:
                yield Reason(kind="need", excluded=builds - need.admitted, need=need)
        candidates = self.universe.candidates(name)
        groups: dict[tuple[str, str], dict[tuple[str, ...], set[int]]] = {}
        for place in sorted(builds):
            for kind, other, texts in self._faults(candidates[place]):
                groups.setdefault((kind, other), {}).setdefault(texts, set()).add(place)
        for (kind, other), by_texts in groups.items():
            said = tuple(dict.fromkeys(" and ".join(texts) for texts in by_texts))
            excluded = frozenset().union(*by_texts.values())
            deeper = None
            if kind == "blocked":
                if other in seen:
                    continue
                wanted = frozenset().union(*map(self.universe.all_matching, by_texts))
                deeper = self._explain(other, wanted, seen)
                if wanted and not deeper.reasons:
                    continue
            yield Reason(kind=kind, excluded=excluded, texts=said, deeper=deeper)

    def _faults(self, build: Candidate) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for other, texts in build.depends.items():
            if other.startswith("__"):
                unmet = tuple(text for text in texts if not self.universe.offers(text))
                if unmet:
                    yield "virtual", other, unmet
            elif not self.universe.candidates(other):
                yield "missing", other, texts
            else:
                left = self.open.get(other, self._known_usable(other))
                if not left & self.universe.all_matching(texts):
                    yield "blocked", other, texts
        for other, texts in build.constrains.items():
            allowed = self.open.get(other)
            if allowed and not allowed & self.universe.all_matching(texts):
                yield "blocked", other, texts

    def _known_usable(self, name: str) -> frozenset[int]:
        known = (self._usable.get((name, depth)) for depth in range(self.depth, -1, -1))
        every = frozenset(range(len(self.universe.candidates(name))))
        return next((found for found in known if found is not None), every)


def _cover(builds: frozenset[int], reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """The fewest and simplest reasons that exclude all of ``builds``; empty if they do not."""
    ordered = sorted(reasons, key=_weight)[:40]
    for count in (1, 2, 3):
        covers = (
            (sum(map(_weight, chosen)), place, chosen)
            for place, chosen in enumerate(combinations(ordered if count < 3 else ordered[:12], count))
            if builds <= frozenset().union(*(reason.excluded for reason in chosen))
        )
        best = min(covers, key=lambda cover: cover[:2], default=None)
        if best is not None:
            return best[2]
    return ()


def _weight(reason: Reason) -> int:
    """How much there is to say."""
    if reason.need is not None:
        return len(reason.need.chain) + 2 * len(reason.need.after) + 3 * reason.need.partly
    if reason.deeper is not None:
        return 2 + reason.deeper.weight
    return 1
