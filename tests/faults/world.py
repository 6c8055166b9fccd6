"""A small world to be destroyed: an old environment at a prefix, a new one to install over it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envforge.demo.packages import PLACEHOLDER, File, Symlink
from tests.node.world import conda, library, mirror, snapshot

__all__ = ["Answer", "Faults", "World", "faults", "left_over", "make_world"]

_LEFT = re.compile(r"^\.(work|gone)-|\.switch-|\.(new|lock|tmp|part)$|\.json\.\d+$")


@dataclass(frozen=True)
class Answer:
    """How a command ended. ``count`` is the number of calls that change the world, ``struck`` the one that
    was killed or failed."""

    status: int
    out: str
    err: str
    count: int
    struck: str | None
    calls: list[str]

    def assert_three_lines(self) -> None:
        lines = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert self.status == 3, f"status {self.status}: {self.err}"
        assert [line[:6] for line in lines] == ["envfor", "  at: ", "  do: "], self.err
        assert "Traceback" not in self.err, self.err
        assert "a mistake in envforge" not in self.err, self.err


class Faults:
    """Commands that are killed, or given errors, at a call of a given number."""

    def __init__(self, process: subprocess.Popen[str], root: Path) -> None:
        self._process = process
        self.directory = root

    def __call__(self, *words: object, **how: Any) -> Answer:
        """Run a command line; with ``trace=True`` count calls, with ``at=N`` kill, or fail with ``error``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"argv": [str(word) for word in words], "kept": f"{self.directory}/", **how}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Answer(**json.loads(self._process.stdout.readline()))


@contextmanager
def faults(root: Path) -> Iterator[Faults]:
    """A server of :mod:`tests.faults.server`; calls on paths below ``root`` count."""
    home = root.with_name(f"{root.name}-home")
    home.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.server"],
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        ask = Faults(process, root)
        tried = ask("--version", trace=True)
        if tried.status != 0:
            pytest.skip(f"no system call can be traced here: {tried.err.strip()}")
        yield ask


@dataclass(frozen=True)
class World:
    """``root`` is changed and put back; ``pristine`` is how it was with the old environment in it.

    ``before`` and ``after`` are the generations as an undisturbed run makes them, ``names`` all names of the
    world after one.
    """

    root: Path
    pristine: Path
    mirrors: Path
    before: dict[str, object]
    after: dict[str, object]
    names: frozenset[str]
    identities: tuple[str, str]

    @property
    def prefix(self) -> Path:
        return self.root / "p"

    @property
    def update(self) -> tuple[object, ...]:
        return ("install", self.mirrors / "new", "--prefix", self.prefix)

    def reset(self) -> None:
        """Put the old environment back."""
        shutil.rmtree(self.root)
        subprocess.run(["cp", "-a", self.pristine, self.root], check=True)

    def which(self) -> str:
        """``"old"`` or ``"new"``, whole; anything else is an error."""
        name = self.prefix.readlink().name
        found = snapshot(self.prefix.resolve(strict=True))
        assert name in self.identities, name
        old = name == self.identities[0]
        wanted = self.before if old else self.after
        wrong = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
        assert not wrong, f"a third state of {name}: {wrong}"
        return "old" if old else "new"

    def settled(self) -> None:
        """The new environment is there, and nothing that an undisturbed run would not have left."""
        assert self.which() == "new"
        left = left_over(self.root)
        assert not left, f"left over: {left}"
        names = _names(self.root)
        # What a tree holds is written down for deltas to come; where that fails, it is as if it never was.
        other = {name for name in names ^ self.names if name in names or "/store/lists/" not in name}
        assert not other, f"more or fewer names: {sorted(other)}"


def left_over(root: Path) -> list[str]:
    """What only a run that is still going on may have: work, and names on their way."""
    found = [name for name in _names(root) if _LEFT.search(Path(name).name)]
    return sorted(found)


def _names(root: Path) -> frozenset[str]:
    names = (path.relative_to(root).as_posix() for path in root.rglob("*"))
    return frozenset(name for name in names if not name.endswith("/log.txt"))


def make_world(directory: Path, ask: Faults) -> World:
    """About thirty files in two packages, and another version of both."""
    root, pristine, mirrors = directory / "world", directory / "pristine", directory / "mirrors"
    root.mkdir(exist_ok=True)
    for name, text in (("old", b"old"), ("new", b"new, and longer")):
        files: dict[str, bytes | File | Symlink] = {f"lib/a/{n}.txt": b"%d %s" % (n, text) for n in range(8)}
        files |= {
            "etc/a.conf": f"prefix={PLACEHOLDER}\n{name}".encode(),
            "lib/liba.so": File(data=f"\0{PLACEHOLDER}\0{name}".encode(), executable=True),
            "lib/liba.so.1": Symlink(target="liba.so"),
        }
        same: dict[str, bytes | File | Symlink] = {f"share/b/{n}.txt": b"the same %d" % n for n in range(18)}
        same["bin/b"] = File(data=b"#!/bin/sh\necho " + text, executable=True)
        mirror(mirrors / name, conda(library("a", files)), conda(library("b", same)))
    prefix = root / "p"
    assert ask("install", mirrors / "old", "--prefix", prefix).status == 0
    before, old = snapshot(prefix.resolve()), prefix.readlink().name
    subprocess.run(["cp", "-a", root, pristine], check=True)
    assert ask("install", mirrors / "new", "--prefix", prefix).status == 0
    after, new = snapshot(prefix.resolve()), prefix.readlink().name
    world = World(root, pristine, mirrors, before, after, _names(root), (old, new))
    with suppress(FileNotFoundError):
        world.reset()
    return world
