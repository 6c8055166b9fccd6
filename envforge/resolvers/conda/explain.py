"""Why nothing satisfies a specification, in words, and the nearest change that would help.

The engine says that there is no solution.  Which lines cannot be had together is found by solving again
without some of them; why they cannot, in the records (``conflict.py``); what would help, by solving again
with one thing changed.  All of that within a few seconds: what is not found by then is not said.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from envforge.errors import UnsatisfiableError
from envforge.model.platforms import Target
from envforge.model.spec import Line
from envforge.resolvers.conda.absent import Problem, absent, joined
from envforge.resolvers.conda.conflict import find_conflicts
from envforge.resolvers.conda.remedies import remedies
from envforge.resolvers.conda.story import first_branch, roots
from envforge.resolvers.conda.universe import Universe, name_of
from envforge.resolvers.conda.wording import sentence

if TYPE_CHECKING:
    from rattler import RepoDataRecord

    from envforge.resolvers.conda.solver import Asked

__all__ = ["Inquiry", "explained"]

_SECONDS = 12.0
"""How long the search for an explanation may take."""
_MOST = 3
"""How many conflicts, each of other lines, are explained at once."""


async def explained(asked: Asked, story: str) -> UnsatisfiableError:
    """The error to raise where the engine found nothing.

    :param story: what the engine says about it; it goes to the log.
    """
    problems = await absent(asked) or await _conflicts(Inquiry(asked, monotonic() + _SECONDS), story)
    platform = asked.request.target.platform
    return UnsatisfiableError(
        f"nothing satisfies the specification for {platform}: {'; '.join(p.what for p in problems)}",
        at=", ".join(dict.fromkeys(at for problem in problems for at in problem.at)) or None,
        do="; ".join(dict.fromkeys(do for problem in problems for do in problem.do)),
        story=story,
    )


class OutOfTimeError(Exception):
    """The explanation took too long; it never leaves this package."""


class Inquiry:
    """Questions about one request that was not satisfied, and the time that is left for them."""

    def __init__(self, asked: Asked, until: float) -> None:
        self.asked = asked
        self.until = until

    @property
    def target(self) -> Target:
        """What the request is for."""
        return self.asked.request.target

    async def attempt(
        self, lines: Sequence[Line], target: Target | None = None
    ) -> list[RepoDataRecord] | None:
        """What satisfies ``lines``; ``None`` if nothing does.

        :raises OutOfTimeError: if that is not known in time.
        """
        from rattler.exceptions import SolverError

        left = self.until - monotonic()
        if left <= 0:
            raise OutOfTimeError
        specs = [self.asked.parse(line) for line in lines]
        try:
            return await self.asked.solve(specs, target=target, seconds=left)
        except SolverError as error:
            if monotonic() >= self.until:
                raise OutOfTimeError from error
            return None

    async def story(self, lines: Sequence[Line]) -> str:
        """What the engine says of ``lines``, which cannot be had together; empty if that takes too long."""
        from rattler.exceptions import SolverError

        try:
            specs = [self.asked.parse(line) for line in lines]
            await self.asked.solve(specs, seconds=max(0.1, self.until - monotonic()))
        except SolverError as error:
            return str(error)
        return ""

    async def core(self, lines: Sequence[Line], guess: Sequence[Line]) -> list[Line]:
        """The fewest of ``lines`` that cannot be had together: without any of them, the others can.

        :param guess: lines that are probably to blame.
        """
        blamed = list(lines)
        with suppress(OutOfTimeError):
            if 0 < len(guess) < len(lines) and await self.attempt(guess) is None:
                blamed = list(guess)
            for line in list(blamed):
                others = [other for other in blamed if other is not line]
                if others and await self.attempt(others) is None:
                    blamed = others
        return blamed

    async def universe(self, lines: Sequence[Line]) -> Universe:
        """The records that ``lines`` can reach, with those that only their versions and builds exclude."""
        specs = [self.asked.parse(line) for line in lines]
        request = self.asked.request
        return Universe(
            await self.asked.records([spec.name.normalized for spec in specs], recursive=True),
            request.target,
            strict=request.channel_priority == "strict",
            asked={spec.name.normalized: spec for spec in specs},
            cutoff=self.asked.cutoff,
        )


async def _conflicts(inquiry: Inquiry, story: str) -> list[Problem]:
    cores = await _cores(inquiry, story)
    problems = []
    for core in cores:
        others = [line for other in cores if other is not core for line in other]
        rest = [line for line in inquiry.asked.request.specs if line not in others]
        problems.append(await _problem(inquiry, core, rest))
    return problems


async def _cores(inquiry: Inquiry, story: str) -> list[list[Line]]:
    """Lines that cannot be had together; of several such sets none has a line of another."""
    lines = list(inquiry.asked.request.specs)
    blamed = {name_of(word) for word in roots(story)}
    cores: list[list[Line]] = []
    while lines and len(cores) < _MOST:
        guess = [line for line in lines if inquiry.asked.parse(line).name.normalized in blamed]
        cores.append(await inquiry.core(lines, guess))
        lines = [line for line in lines if line not in cores[-1]]
        try:
            if not lines or await inquiry.attempt(lines) is not None:
                break
        except OutOfTimeError:
            break
    return cores


async def _problem(inquiry: Inquiry, core: Sequence[Line], rest: Sequence[Line]) -> Problem:
    universe = await inquiry.universe(core)
    asked = [(line, spec.name.normalized, spec) for line in core for spec in [inquiry.asked.parse(line)]]
    conflicts = find_conflicts(universe, asked, until=inquiry.until)
    texts = joined([line.text for line in core])
    said = sentence(conflicts, universe) if conflicts else ""
    said = said or f"{texts} cannot be installed" + (" together" if len(core) > 1 else "")
    told = None if conflicts else first_branch(await inquiry.story(core))
    said += f": for one, {told}" if told else ""
    return Problem(
        what=said,
        at=tuple(line.at for line in core),
        do=tuple(await remedies(inquiry, core, rest, [conflict for _, conflict in conflicts], universe)),
    )
