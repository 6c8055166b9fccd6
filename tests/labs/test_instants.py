"""A real update, of an environment with Python and wheels, killed at random instants.

ENVFORGE_LAB_INSTANTS says how many; each is another delay, and the seed is printed with a failure.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import noarch_python
from tests.faults.world import Faults, faults, left_over
from tests.node.world import Artifact, conda, library, mirror, pip, python, snapshot

pytestmark = pytest.mark.lab

INSTANTS = int(os.environ.get("ENVFORGE_LAB_INSTANTS", "30"))
SEED = int(os.environ.get("ENVFORGE_LAB_SEED", "1"))


def artifacts(channel: DemoChannel, version: str) -> list[Artifact]:
    module = f"import sys\ndef f(): print({version!r}, sys.prefix)\n".encode()
    many = {f"big/m{n}.py": module for n in range(60)}
    return [
        python(channel),
        conda(library("text", {f"share/text/{n}": f"{version} {n}".encode() for n in range(100)})),
        conda(noarch_python("tool", version, {"tool.py": module}, entry_points=("tool = tool:f",))),
        pip(Wheel(name="w", version=version, files={"w.py": module}, console_scripts={"w-tool": "w:f"})),
        pip(Wheel(name="big", version=version, files=many)),
    ]


@dataclass(frozen=True)
class Update:
    """Two environments that take turns at one prefix."""

    root: Path
    sources: dict[str, Path]
    generations: dict[str, str]
    trees: dict[str, dict[str, object]]
    ask: Faults

    @property
    def prefix(self) -> Path:
        return self.root / "p"

    def argv(self, name: str) -> list[str]:
        return ["install", str(self.sources[name]), "--prefix", str(self.prefix)]

    def forget(self, name: str, *, store: bool) -> None:
        """Make it as if ``name`` had never been there, and, with ``store``, nothing at all."""
        place = self.root / "p.generations"
        shutil.rmtree(place / self.generations[name], ignore_errors=True)
        (place / f"{self.generations[name]}.json").unlink(missing_ok=True)
        if store:
            shutil.rmtree(place / "store")

    def start(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "envforge", *self.argv(name)],
            env={"PATH": os.environ["PATH"], "HOME": str(self.root)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def which(self) -> str:
        """The environment that is there, compared byte by byte with one that was made in peace."""
        generation = self.prefix.readlink().name
        name = next(name for name, known in self.generations.items() if known == generation)
        found, wanted = snapshot(self.prefix.resolve(strict=True)), self.trees[name]
        wrong = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
        assert not wrong, f"a third state of {name}: {wrong[:10]}"
        return name


@pytest.fixture(scope="module")
def update(tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel) -> Iterator[Update]:
    base = tmp_path_factory.mktemp("instants")
    root = base / "world"
    root.mkdir()
    sources = {
        name: mirror(base / name, *artifacts(channel, version))
        for name, version in (("A", "1.0"), ("B", "2.0"))
    }
    with faults(root) as ask:
        made = Update(root, sources, {}, {}, ask)
        for name in ("A", "B"):
            done = ask(*made.argv(name))
            assert done.status == 0, done
            made.generations[name] = made.prefix.readlink().name
            made.trees[name] = snapshot(made.prefix.resolve())
        yield made


def emptied(group: int) -> None:
    """Wait until the last process of a group is gone."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("what a killed installation had started went on for half a minute")


def undisturbed(update: Update, name: str, *, cold: bool) -> float:
    """Seconds that an installation takes in peace."""
    update.forget(name, store=cold)
    begun = time.monotonic()
    process = update.start(name)
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - begun


def test_killed_at_a_random_instant_it_is_the_old_or_the_new(update: Update) -> None:
    dice = random.Random(SEED)
    there = update.which()
    lasts = {}
    for cold in (True, False):
        there = "A" if there == "B" else "B"
        lasts[cold] = undisturbed(update, there, cold=cold)
    killed = 0
    for turn in range(INSTANTS):
        cold, alone = turn % 2 == 0, turn % 4 >= 2
        old, new = there, "A" if there == "B" else "B"
        update.forget(new, store=cold)
        delay = dice.uniform(0.1, lasts[cold] * 1.05)
        process = update.start(new)
        time.sleep(delay)
        # The whole job, as Slurm does it, or the process alone, as the kernel does where memory is short.
        (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        where = f"seed {SEED}, turn {turn}, after {delay:.3f} s"
        assert update.which() in (old, new), where
        answer = update.ask("verify", update.prefix)
        assert answer.status == 0, (where, answer)
        again = update.ask(*update.argv(new))
        assert again.status == 0, (where, again)
        assert update.which() == new, where
        if alone:  # what it had started may have gone on, and is tidied up by the run after that
            emptied(process.pid)
            assert update.ask(*update.argv(new)).status == 0
        assert left_over(update.root) == [], where
        there = new
    assert killed > INSTANTS // 2
