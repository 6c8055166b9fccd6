"""Disks that are full, have no inodes left, cannot hard-link or lie on top of each other."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.faults.world import Faults, World, faults, left_over, make_world
from tests.labs.places import ext4, mounted, open_directory, small, start, tmpfs, whole_of
from tests.node.world import mirror, snapshot

pytestmark = pytest.mark.lab

LEFT = (0, 1, 4, 12, 24, 40, 64, 100, 150, 220, 320, 500)
"""Blocks of 4 KiB, or inodes, that are left before the update; it needs somewhat over a hundred."""


@pytest.fixture
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


def disk(kind: str, at: Path) -> AbstractContextManager[Path]:
    return tmpfs(at, size="24m") if kind == "tmpfs" else ext4(at, size=24 << 20, inodes=6000)


def fill(root: Path, left: int, what: str) -> Path:
    """Take all but ``left`` blocks or inodes; returns what to remove to have them back."""
    filler = root / "filler"
    filler.mkdir()
    found = os.statvfs(root)
    if what == "inodes":
        for n in range(found.f_favail - left):
            (filler / str(n)).touch()
        return filler
    with (filler / "file").open("wb") as file:
        size = 0
        for step in (1 << 16, 1 << 12):  # what lists the blocks takes some, too
            while os.statvfs(root).f_bavail * found.f_frsize >= left * 4096 + step:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
    return filler


def unchecked(ask: Faults) -> tuple[str, ...]:
    """The options with which it starts although it can see that there is no room."""
    told = ask("install", "--help").out
    return ("--ignore-check", "space", "--ignore-check", "inodes") if "--ignore-check" in told else ()


@pytest.mark.parametrize("what", ["blocks", "inodes"])
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_is_nearly_full(place: Path, kind: str, what: str) -> None:
    ends: dict[int, list[int]] = {0: [], 3: []}
    with disk(kind, place / "disk") as root, faults(root / "world") as ask:
        world = make_world(root, ask)
        for left in LEFT:
            for more in {(), unchecked(ask)}:
                world.reset()
                filler = fill(root, left, what)
                done = ask(*world.update, *more)
                where = f"{left} {what} left: {done}"
                if done.status == 0:
                    assert world.which() == "new", where
                else:
                    done.assert_three_lines()
                    assert any(word in done.err for word in ("room", "space", "inode")), where
                    assert world.which() == "old", where
                ends[done.status].append(left)
                assert ask("verify", world.prefix).status == 0, where
                subprocess.run(["rm", "-r", filler], check=True)
                again = ask(*world.update)
                assert again.status == 0, (where, again)
                world.settled()
    assert ends[0], "it never had room enough"
    assert ends[3], "it was never full"


# -- links -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faults(tmp_path_factory.mktemp("links") / "world") as server:
        yield server


@pytest.fixture(scope="module")
def world(ask: Faults) -> World:
    return make_world(ask.directory.parent, ask)


@pytest.mark.parametrize("error", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_hard_links_files_are_copied(world: World, ask: Faults, error: int) -> None:
    """As on exFAT, between two file systems, in some directories of BeeGFS and AFS; and it is said once."""
    world.reset()
    done = ask(*world.update, trace=True, deny={"link": error, "linkat": error})
    assert done.status == 0, done
    world.settled()
    for path in world.prefix.resolve().rglob("*"):
        assert path.is_dir() or path.lstat().st_nlink == 1, path
    assert sum("cop" in line for line in done.err.splitlines()) == 1, done.err


def test_where_the_kernel_neither_clones_nor_copies_it_is_done_by_hand(world: World, ask: Faults) -> None:
    world.reset()
    done = ask(*world.update, trace=True, deny={"ioctl": errno.EOPNOTSUPP, "copy_file_range": errno.ENOSYS})
    assert done.status == 0, done
    world.settled()


def test_the_store_on_another_file_system(place: Path) -> None:
    source = mirror(place / "mirror", *small())
    words = ("install", source, "--prefix", place / "p")
    assert start(*words, home=place).end().status == 0
    linked = whole_of(place / "p")
    subprocess.run(["rm", "-r", place / "p", place / "p.generations"], check=True)
    with tmpfs(place / "memory") as memory:
        done = start(*words, "--store", memory / "store", home=place).end()
        assert done.status == 0, done
        assert sum("cop" in line for line in done.err.splitlines()) == 1, done.err
    assert whole_of(place / "p") == linked
    assert start("verify", place / "p", home=place).end().status == 0


def test_the_prefix_on_an_overlay_and_the_store_below_it(place: Path) -> None:
    """As in a container: what is in the image cannot be changed, and what is written goes elsewhere."""
    source = mirror(place / "mirror", *small())
    with tmpfs(place / "memory") as memory:
        for name in ("lower", "upper", "work", "seen"):
            (memory / name).mkdir()
        store = ("--store", memory / "lower" / "store")
        words: tuple[object, ...] = ("install", source, "--prefix")
        assert start(*words, memory / "lower" / "old", *store, home=place).end().status == 0
        before = snapshot(memory / "lower")
        options = ",".join(f"{name}dir={memory / name}" for name in ("lower", "upper", "work"))
        with mounted("-t", "overlay", "-o", options, "overlay", at=memory / "seen") as seen:
            for more in (("--store", seen / "store"), ("--store", seen / "store", "--store", seen / "mine")):
                prefix = seen / f"p{len(more)}"
                done = start(*words, prefix, *more, home=place).end()
                assert done.status == 0, done
                verified = start("verify", prefix, "--against", source, *more, home=place).end()
                assert verified.status == 0, verified
            words = ("install", mirror(place / "newer", *small("2")), "--prefix", seen / "p2")
            done = start(*words, "--store", seen / "store", home=place).end()
            assert done.status == 0, done
            assert start("verify", seen / "p2", home=place).end().status == 0
            assert left_over(seen) == []
        assert snapshot(memory / "lower") == before
