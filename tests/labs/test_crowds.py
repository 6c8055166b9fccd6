"""Many installations at once: at one prefix and at many, of one user and of two, with one store."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import noarch_python
from tests.conftest import Ended
from tests.faults.world import left_over
from tests.labs.places import mounted, need_root, open_directory, small, start, whole_of
from tests.node.world import Artifact, conda, mirror, pip, python

pytestmark = pytest.mark.lab

MANY = 32
ONE, TWO = 61001, 61002


@pytest.fixture
def place() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


def real(channel: DemoChannel) -> list[Artifact]:
    """Python, a command and a wheel."""
    module = b"import sys\ndef f(): print(sys.prefix)\n"
    return [
        python(channel),
        conda(noarch_python("tool", "1.0", {"tool.py": module}, entry_points=("tool = tool:f",))),
        pip(Wheel(name="w", version="1.0", files={"w.py": module}, console_scripts={"w-tool": "w:f"})),
    ]


def all_good(ended: list[Ended]) -> None:
    bad = [done for done in ended if done.status != 0]
    assert not bad, f"{len(bad)} of {len(ended)} failed, such as {bad[0]}"


def verify(*prefixes: Path, home: Path, user: int | None = None) -> None:
    all_good([start("verify", prefix, home=home, user=user).end() for prefix in prefixes])


def test_many_at_one_prefix(place: Path) -> None:
    source = mirror(place / "mirror", *small())
    words = ("install", source, "--prefix", place / "p")
    all_good([one.end() for one in [start(*words, home=place) for _ in range(MANY)]])
    verify(place / "p", home=place)
    assert left_over(place) == []
    assert len([path for path in (place / "p.generations").iterdir() if (path / ".envforge").is_dir()]) == 1


def test_many_that_want_different_things_at_one_prefix(place: Path) -> None:
    """Every one is whole, and one of them is the last."""
    sources = [mirror(place / f"mirror{n}", *small(str(n))) for n in range(4)]
    started = [
        start("install", sources[n % 4], "--prefix", place / "p", home=place) for n in range(MANY // 2)
    ]
    all_good([one.end() for one in started])
    verify(place / "p", home=place)
    for path in (place / "p.generations").iterdir():
        if (path / ".envforge").is_dir():
            verify(path, home=place)
    assert left_over(place) == []


def test_many_prefixes_and_one_store(place: Path) -> None:
    source = mirror(place / "mirror", *small())
    prefixes = [place / f"p{n}" for n in range(MANY)]
    words = [("install", source, "--prefix", prefix, "--store", place / "store") for prefix in prefixes]
    all_good([one.end() for one in [start(*line, home=place) for line in words]])
    verify(*prefixes[::8], home=place)
    assert left_over(place) == []
    for prefix in prefixes:  # out of one store: the same file, linked
        assert (prefix / "share/b/0").samefile(prefixes[0] / "share/b/0")


def test_several_real_environments_and_one_store(place: Path, channel: DemoChannel) -> None:
    source = mirror(place / "mirror", *real(channel))
    prefixes = [place / f"p{n}" for n in range(4)]
    words = [("install", source, "--prefix", prefix, "--store", place / "store") for prefix in prefixes]
    all_good([one.end() for one in [start(*line, home=place) for line in words]])
    verify(*prefixes, home=place)
    for prefix in prefixes:
        said = subprocess.run([prefix / "bin/w-tool"], capture_output=True, text=True, check=True).stdout
        assert said.strip() == str(prefix.resolve())


def homes(place: Path) -> dict[int, Path]:
    """A directory of each user's own, and a store that both may write to."""
    need_root()
    (place / "store").mkdir()
    (place / "store").chmod(0o1777)
    found = {}
    for user in (ONE, TWO):
        found[user] = place / f"user{user}"
        found[user].mkdir()
        os.chown(found[user], user, user)
    return found


def reaches_us(home: Path, user: int) -> None:
    if start("--version", home=home, user=user).end().status != 0:
        pytest.skip("another user cannot read this installation of envforge")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_two_users_take_turns_with_one_store(place: Path, umask: int) -> None:
    source, own = mirror(place / "mirror", *small()), homes(place)
    reaches_us(own[ONE], ONE)
    trees = []
    for user in (ONE, TWO):
        words = ("install", source, "--prefix", own[user] / "p", "--store", place / "store")
        done = start(*words, home=own[user], user=user, umask=umask).end()
        assert done.status == 0, done
        verify(own[user] / "p", home=own[user], user=user)
        trees.append(done)
    # The kernel lets nobody link to somebody else's files; one sentence says what that costs.
    guarded = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    notes = [line for line in trees[1].err.splitlines() if "cop" in line]
    assert len(notes) == guarded, trees[1]
    linked = (own[ONE] / "p/share/b/0").samefile(own[TWO] / "p/share/b/0")
    assert linked != guarded
    assert os.stat(own[TWO] / "p/share/b/0").st_uid == (TWO if guarded else ONE)


def test_two_users_at_once_with_one_store(place: Path) -> None:
    """Also where what is new is not the same: each adds to directories that the other has made."""
    own = homes(place)
    reaches_us(own[ONE], ONE)
    sources = [mirror(place / f"mirror{n}", *small(str(n))) for n in range(4)]
    started = []
    for n in range(MANY):
        user = (ONE, TWO)[n % 2]
        words = ("install", sources[n // 2 % 4], "--prefix", own[user] / f"p{n}", "--store", place / "store")
        started.append(start(*words, home=own[user], user=user))
    all_good([one.end() for one in started])
    for user in (ONE, TWO):
        verify(own[user] / f"p{user - ONE}", home=own[user], user=user)
    assert left_over(place) == []


def test_what_another_user_has_left_in_the_store_does_no_harm(place: Path) -> None:
    """Nobody can remove it but who left it; who tries must not close the directory to all others."""
    source, own = mirror(place / "mirror", *small()), homes(place)
    reaches_us(own[ONE], ONE)
    words = ("install", source, "--store", place / "store", "--prefix")
    assert start(*words, own[ONE] / "p", home=own[ONE], user=ONE).end().status == 0
    left = place / "store" / "tmp" / ".gone-11111111-1-1-x"
    left.mkdir(mode=0o700)
    (left / "file").touch()
    for path in (left, left / "file"):
        os.chown(path, TWO, TWO)
    before = (place / "store" / "tmp").stat().st_mode
    assert start(*words, own[ONE] / "q", home=own[ONE], user=ONE).end().status == 0
    assert (place / "store" / "tmp").stat().st_mode == before
    assert start(*words, own[TWO] / "p", home=own[TWO], user=TWO).end().status == 0
    assert not left.exists()


def test_one_user_cannot_change_what_the_other_is_given(place: Path) -> None:
    """What the other has altered in the shared store is found, not linked."""
    source, own = mirror(place / "mirror", *small()), homes(place)
    reaches_us(own[ONE], ONE)
    store, words = ("--store", place / "store"), ("install", source, "--prefix")
    assert (
        start("install", source, "--prefix", own[ONE] / "p", *store, home=own[ONE], user=ONE).end().status
        == 0
    )
    victim = next((place / "store").rglob("share/b/0"))
    victim.chmod(0o644)
    victim.write_bytes(b"x" * victim.stat().st_size)
    done = start(*words, own[TWO] / "p", *store, home=own[TWO], user=TWO).end()
    if done.status == 0:  # unpacked once more
        verify(own[TWO] / "p", home=own[TWO], user=TWO)
        assert b"x" * 10 not in (own[TWO] / "p/share/b/0").read_bytes()
    else:
        done.assert_error(3, "altered")
        assert not (own[TWO] / "p").is_symlink()


def test_a_store_below_that_may_only_be_read(place: Path) -> None:
    source, own = mirror(place / "mirror", *small()), homes(place)
    reaches_us(own[ONE], ONE)
    site, mine = place / "site", own[TWO] / "mine"
    words = ("install", source, "--prefix")
    assert start(*words, place / "p", "--store", site, home=place).end().status == 0
    shutil.rmtree(place / "p.generations")
    (place / "p").unlink()
    subprocess.run(["chmod", "-R", "a-w", site], check=True)
    before = whole(site)
    done = start(*words, own[TWO] / "p", "--store", site, "--store", mine, home=own[TWO], user=TWO).end()
    assert done.status == 0, done
    verify(own[TWO] / "p", home=own[TWO], user=TWO)
    assert whole(site) == before


def whole(directory: Path) -> list[tuple[str, int, int, int]]:
    """Every entry with what would show that it was touched."""
    status = ((path, path.lstat()) for path in sorted(directory.rglob("*")))
    return [(str(path), found.st_mode, found.st_ino, found.st_mtime_ns) for path, found in status]


def test_a_store_below_on_a_read_only_mount(place: Path) -> None:
    source = mirror(place / "mirror", *small())
    site, words = place / "site", ("install", source, "--prefix")
    assert start(*words, place / "p", "--store", site, home=place).end().status == 0
    with mounted("--bind", "-o", "ro", str(site), at=place / "mounted") as lower:
        done = start(*words, place / "q", "--store", lower, "--store", place / "mine", home=place).end()
        assert done.status == 0, done
        assert not list((place / "mine" / "trees").glob("*/*"))
    verify(place / "q", home=place)
    assert set(whole_of(place / "q")) == set(whole_of(place / "p"))
