"""Installing is killed, or refused by the disk, at every system call that changes something."""

from __future__ import annotations

import errno
import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.world import Faults, World, faults, make_world

pytestmark = pytest.mark.lab

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO)
SHARES = 4  # for pytest -n: each takes every fourth call
DEEP = bool(os.environ.get("ENVFORGE_LAB_DEEP"))  # each error at each call, instead of one in turn


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faults(tmp_path_factory.mktemp("faults") / "world") as server:
        server.directory.mkdir(exist_ok=True)
        yield server


@pytest.fixture(scope="module")
def world(ask: Faults) -> World:
    return make_world(ask.directory.parent, ask)


def count(world: World, ask: Faults, *more: object) -> int:
    """How many calls an undisturbed run makes, and a few more: threads do not always take turns alike."""
    world.reset()
    done = ask(*world.update, *more, trace=True)
    assert done.status == 0, done
    assert done.count > 100
    world.settled()
    return done.count + 10


def follow(world: World, ask: Faults) -> None:
    """What is there verifies, and the next run makes the new environment and leaves nothing else."""
    verified = ask("verify", world.prefix)
    assert verified.status == 0, verified
    again = ask(*world.update)
    assert again.status == 0, again
    world.settled()


class Findings:
    """What goes wrong at one call says nothing of the others: all are tried, and all is told."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self.ends: set[object] = set()

    @contextmanager
    def at(self, struck: str | None) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            what = re.sub(r"[0-9a-f]{12}|`.*`|\\d+", "…", str(error).splitlines()[0])
            self.found.setdefault(what, []).append(struck or "")

    def none(self) -> None:
        """Fail with what was found and two calls at which."""
        told = [f"{len(at)} times {what}\n    {at[0]}\n    {at[-1]}\n" for what, at in self.found.items()]
        assert not told, "\n" + "".join(told)


def strike(
    world: World, ask: Faults, findings: Findings, at: int, *more: object, error: int | None = None
) -> None:
    """One installation that is killed or given an error at one call, and what must follow."""
    world.reset()
    done = ask(*world.update, *more, trace=True, at=at, error=error)
    findings.ends.add(done.status)
    with findings.at(done.struck):
        if error is None:
            assert done.status == (-9 if done.struck else 0), done
            findings.ends.add(world.which())
        elif done.status == 0:  # a call that may fail, such as one that tidies up
            assert world.which() == "new", "the end was good and the environment is the old one"
        else:
            done.assert_three_lines()
            assert world.which() == "old", "the end was bad and the environment is the new one"
    with findings.at(done.struck):
        follow(world, ask)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("jobs", [1, 4])
def test_killed_at_any_call_there_is_no_third_state(world: World, ask: Faults, jobs: int, share: int) -> None:
    findings = Findings()
    for at in range(1 + share, count(world, ask, "-j", jobs) + 1, SHARES):
        strike(world, ask, findings, at, "-j", jobs)
    findings.none()
    assert {"old", "new", -9} <= findings.ends


@pytest.mark.parametrize("share", range(SHARES))
def test_an_error_at_any_call_leaves_the_old_or_the_new(world: World, ask: Faults, share: int) -> None:
    findings = Findings()
    for at in range(1 + share, count(world, ask) + 1, SHARES):
        for error in ERRORS if DEEP else (ERRORS[at // SHARES % len(ERRORS)],):
            strike(world, ask, findings, at, error=error)
    findings.none()
    assert {0, 3} <= findings.ends


def test_killed_again_while_the_next_run_tidies_up(world: World, ask: Faults) -> None:
    calls, dice, findings = count(world, ask), random.Random(4), Findings()
    for turn in range(60):
        world.reset()
        with findings.at(f"turn {turn}"):
            for _ in range(3):
                ask(*world.update, trace=True, at=dice.randint(1, calls))
                world.which()
            follow(world, ask)
    findings.none()


def test_killed_at_any_call_the_first_environment_is_there_or_not(world: World, ask: Faults) -> None:
    calls, findings = count(world, ask), Findings()
    for at in range(1, calls, 5):
        world.reset()
        world.prefix.unlink()
        done = ask(*world.update, trace=True, at=at)
        with findings.at(done.struck):
            assert not world.prefix.is_symlink() or world.which() == "new"
            again = ask(*world.update)
            assert again.status == 0, again
            world.settled()
    findings.none()
