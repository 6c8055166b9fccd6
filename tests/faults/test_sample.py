"""A few of the calls that ``tests/labs/test_kills.py`` tries all of."""

from __future__ import annotations

import errno
from pathlib import Path

from tests.faults.world import faults, make_world


def test_killed_or_disturbed_it_is_the_old_or_the_new(tmp_path: Path) -> None:
    with faults(tmp_path / "world") as ask:
        world = make_world(tmp_path, ask)
        peaceful = ask(*world.update, trace=True, list=True)
        assert peaceful.status == 0, peaceful
        world.settled()
        # One in the middle of each kind of work, and the last: the rename that switches, and what follows it.
        points = [*range(5, peaceful.count, peaceful.count // 6), peaceful.count - 1, peaceful.count]
        for number, at in enumerate(points):
            world.reset()
            ended = ask(*world.update, trace=True, at=at, error=errno.ENOSPC if number % 2 else None)
            if ended.status not in (0, -9):
                ended.assert_three_lines()
                assert world.which() == "old", ended
            world.which()
            assert ask("verify", world.prefix).status == 0, ended
            assert ask(*world.update).status == 0, ended
            world.settled()


def test_every_call_counts_whoever_makes_it(tmp_path: Path) -> None:
    """The tracer sees what other threads do: the names that are on disk afterwards are names it has heard."""
    with faults(tmp_path / "world") as ask:
        world = make_world(tmp_path, ask)
        heard = ask(*world.update, "-j", 4, trace=True, list=True)
        assert heard.count == len(heard.calls)
        told = {call.partition(" ")[2].rpartition("/")[2] for call in heard.calls}
        made = {path.name for path in world.prefix.resolve().rglob("*")}
        assert made - told == set()
        assert any(call.endswith(str(world.prefix)) for call in heard.calls if call.startswith("rename"))
