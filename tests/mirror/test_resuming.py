"""A download that broke off goes on where it stopped; the sha256 of the whole decides."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from envforge.download import fetch_packages
from envforge.edges import answers, fetch, partial
from envforge.edges.fetch import Downloaded, Fetcher, NotFoundError
from envforge.edges.store import Store
from envforge.errors import CouldNotError
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.node.sources.mirrors import check_files, read_manifest
from envforge.reporting import Reporter
from tests.conftest import Shell
from tests.mirror.world import Faults, Site, input_of, lock, mirrored, serve

CONTENT = random.Random(7).randbytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PART = f"part-{DIGEST}"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, Faults]]:
    monkeypatch.setattr(fetch, "_PAUSE", 0)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/file").write_bytes(CONTENT)
    with serve(tmp_path / "site") as (url, faults):
        yield Site(tmp_path / "site", url), faults


class Getting:
    """A download of the file to a place where something may lie already."""

    def __init__(self, url: str, place: Path, *, retries: int = 0) -> None:
        self.url = f"{url}/file"
        self.place = place
        self.shown = 0
        self.fetcher = Fetcher(retries=retries, timeout=10)

    def advance(self, amount: int) -> None:
        self.shown += amount

    def __call__(self, sha256: str | None = DIGEST) -> Downloaded:
        got = self.fetcher.download(self.url, self.place, sha256=sha256, resume=True, advance=self.advance)
        assert self.place.read_bytes() == CONTENT
        assert (got.sha256, got.size, self.shown) == (DIGEST, len(CONTENT), len(CONTENT))
        assert got.md5 == hashlib.md5(CONTENT).hexdigest()
        return got


def ranges(faults: Faults) -> list[str | None]:
    return [headers.get("Range") for headers in faults.headers]


@pytest.mark.parametrize(
    ("kind", "resumed", "asked"),
    [
        ("honoured", 100, ["bytes=100-"]),
        ("ignored", 0, ["bytes=100-"]),
        ("another", 0, ["bytes=100-", None]),
        ("several", 0, ["bytes=100-", None]),
        ("odd", 0, ["bytes=100-", None]),
        ("416", 0, ["bytes=100-", None]),
        ("403", 0, ["bytes=100-", None]),
        ("501", 0, ["bytes=100-", None]),
    ],
)
def test_whatever_a_server_makes_of_a_range(
    world: tuple[Site, Faults], tmp_path: Path, kind: str, resumed: int, asked: list[str | None]
) -> None:
    site, faults = world
    faults.ranges = kind
    get = Getting(site.url, tmp_path / "part")
    get.place.write_bytes(CONTENT[:100])
    assert get().resumed == resumed
    assert ranges(faults) == asked


def test_a_server_that_sends_less_than_the_rest_is_asked_again(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    faults.ranges = "short"
    get = Getting(site.url, tmp_path / "part", retries=30)
    get.place.write_bytes(CONTENT[:100])
    assert get().resumed == 100
    assert ranges(faults)[1] == f"bytes={100 + (len(CONTENT) - 99) // 2}-"


@pytest.mark.parametrize(
    "begun",
    [b"x" * 100, CONTENT[:50] + b"x" + CONTENT[51:200], CONTENT + b"more", b"x" * len(CONTENT)],
    ids=["other", "one byte", "longer", "as long"],
)
@pytest.mark.parametrize("kind", ["honoured", "ignored"])
def test_a_wrong_beginning_means_once_more_from_the_start(
    world: tuple[Site, Faults], tmp_path: Path, begun: bytes, kind: str
) -> None:
    site, faults = world
    faults.ranges = kind
    get = Getting(site.url, tmp_path / "part")
    get.place.write_bytes(begun)
    assert get().resumed == 0
    assert ranges(faults) == [f"bytes={len(begun)}-", None][: 2 if kind == "honoured" else 1]


def test_what_is_whole_already_is_not_asked_for(world: tuple[Site, Faults], tmp_path: Path) -> None:
    get = Getting(world[0].url, tmp_path / "part")
    get.place.write_bytes(CONTENT)
    assert get().resumed == len(CONTENT)
    assert world[1].requests == []


def test_a_file_that_is_wrong_on_the_server_is_asked_for_twice_and_leaves_nothing(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    faults.ranges = "honoured"
    (site.root / "file").write_bytes(CONTENT[:-1] + b"?")
    get = Getting(site.url, tmp_path / "part")
    get.place.write_bytes(CONTENT[:100])
    with pytest.raises(CouldNotError, match="wrong sha256"):
        get()
    assert ranges(faults) == ["bytes=100-", None]
    assert not get.place.exists()


def test_a_lost_connection_is_gone_on_with_in_the_same_run(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    faults.ranges, faults.cuts = "honoured", [100_000, 50_000, 0]
    Getting(site.url, tmp_path / "part", retries=3)()
    assert ranges(faults) == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]


def test_a_file_that_changed_between_two_attempts(world: tuple[Site, Faults], tmp_path: Path) -> None:
    site, faults = world
    faults.ranges, faults.cuts = "honoured", [100_000]
    get = Getting(site.url, tmp_path / "part")
    (site.root / "file").write_bytes(b"y" * len(CONTENT))
    with pytest.raises(CouldNotError, match="half"):
        get()
    assert get.place.read_bytes() == b"y" * 100_000
    (site.root / "file").write_bytes(CONTENT)
    get.shown = 0
    assert get().resumed == 0
    assert ranges(faults) == [None, "bytes=100000-", None]


def test_who_gets_on_may_break_off_often_and_who_does_not_may_not(
    world: tuple[Site, Faults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, faults = world
    for module in (fetch, answers):
        monkeypatch.setattr(module, "CHUNK", 10_000)
    faults.ranges, faults.cuts = "honoured", [20_000] * 10
    Getting(site.url, tmp_path / "one", retries=1)()
    assert len(faults.requests) == 11
    faults.ranges, faults.cuts = "ignored", [20_000] * 10
    with pytest.raises(CouldNotError, match="half"):
        Getting(site.url, tmp_path / "two", retries=2)()
    assert len(faults.requests) == 11 + 3


def test_of_a_file_whose_hash_nobody_knows_no_two_parts_are_put_together(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    faults.ranges, faults.cuts = "honoured", [100_000]
    Getting(site.url, tmp_path / "file", retries=1)(sha256=None)
    assert ranges(faults) == [None, None]
    faults.cuts = [100_000, 100_000]
    with pytest.raises(CouldNotError, match="half"):
        Getting(site.url, tmp_path / "other", retries=1)(sha256=None)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("fault", ["gzip", "gzip that is none"])
def test_a_content_encoding_that_nobody_asked_for(
    world: tuple[Site, Faults], tmp_path: Path, fault: str
) -> None:
    site, faults = world
    faults.by_suffix["file"] = fault
    Getting(site.url, tmp_path / "part")()


def test_a_file_that_is_gone_leaves_what_was_there(world: tuple[Site, Faults], tmp_path: Path) -> None:
    site, _ = world
    (site.root / "file").unlink()
    get = Getting(site.url, tmp_path / "part")
    with pytest.raises(NotFoundError):
        get()
    assert not get.place.exists()
    get.place.write_bytes(CONTENT[:100])
    with pytest.raises(NotFoundError):
        get()
    assert get.place.read_bytes() == CONTENT[:100]


def test_a_file_url_is_gone_on_with_too(world: tuple[Site, Faults], tmp_path: Path) -> None:
    get = Getting(world[0].root.as_uri(), tmp_path / "part")
    get.place.write_bytes(CONTENT[:100])
    assert get().resumed == 100


@pytest.mark.parametrize("kind", ["symlink", "hard link"])
def test_a_link_in_the_place_of_a_half_is_not_written_through(
    world: tuple[Site, Faults], tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    get = Getting(world[0].url, tmp_path / "part")
    if kind == "symlink":
        get.place.symlink_to(precious)
    else:
        get.place.hardlink_to(precious)
    assert get().resumed == 0
    assert precious.read_bytes() == b"precious"
    assert not get.place.is_symlink()


@pytest.mark.parametrize("known", ["url", "netrc"])
def test_a_range_is_asked_for_with_the_credentials_and_no_other_host_gets_them(
    world: tuple[Site, Faults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    site, faults = world
    with serve(site.root) as (other, theirs):
        faults.by_suffix["file"] = other.replace("127.0.0.1", "localhost")
        faults.ranges = theirs.ranges = "honoured"
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc") if known == "netrc" else os.devnull)
        url = site.url.replace("//", "//ada:secret@") if known == "url" else site.url
        get = Getting(url, tmp_path / "part")
        get.place.write_bytes(CONTENT[:100])
        assert get().resumed == 100
    assert [headers.get("Range") for headers in (*faults.headers, *theirs.headers)] == ["bytes=100-"] * 2
    assert faults.headers[0]["Authorization"].startswith("Basic ")
    assert "Authorization" not in theirs.headers[0]


# -- mirrors -----------------------------------------------------------------------------------------


def big(site: Site, name: str = "big") -> LockedPackage:
    return site.pip(name, f"{name}-1.0-py3-none-any.whl", CONTENT)


def half_of(directory: Path, content: bytes = CONTENT[:1000], digest: str = DIGEST) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"part-{digest}").write_bytes(content)
    return directory / f"part-{digest}"


def wheel_lock(site: Site) -> tuple[Lockfile, bytes]:
    row = site.wheel("big", body="#" * 200_000)
    return lock(row, name="big"), next((site.root / "wheels").glob("big-*")).read_bytes()


def test_a_mirror_goes_on_with_the_half_of_a_file_and_removes_halves_of_others(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    given, content = wheel_lock(site)
    directory = tmp_path / "mirror"
    half_of(directory / ".envforge-mirror", content[:1000], given.packages[0].sha256 or "")
    other = half_of(directory / ".envforge-mirror")
    faults.ranges, faults.cuts = "honoured", [500]
    with pytest.raises(CouldNotError, match="half"):
        mirrored(directory, given)
    assert [len(path.read_bytes()) for path in (directory / ".envforge-mirror").iterdir()] == [1500]
    assert not other.exists()
    result = mirrored(directory, given)
    assert (result.downloaded, result.bytes) == (1, len(content) - 1500)
    assert ranges(faults) == ["bytes=1000-", "bytes=1500-"]
    assert not (directory / ".envforge-mirror").exists()
    assert check_files(directory, read_manifest(directory)) == ()


def test_a_finished_mirror_with_a_half_in_it_serves_and_is_in_order(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    directory = tmp_path / "mirror"
    mirrored(directory, lock(site.wheel("old"), name="old"))
    faults.cuts = [500]
    with pytest.raises(CouldNotError, match="half"):
        mirrored(directory, wheel_lock(site)[0])
    assert list((directory / ".envforge-mirror").glob("part-*"))
    assert check_files(directory, read_manifest(directory)) == ()
    mirrored(directory, lock(site.wheel("old"), name="big"))  # the one that needed it is replaced
    assert not (directory / ".envforge-mirror").exists()


def test_a_file_that_lies_at_two_places_is_downloaded_once(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, faults = world
    one, two = site.conda("same", channel="one"), site.conda("same", channel="two")
    channels = [f"{site.url}/one", f"{site.url}/two"]
    result = mirrored(
        tmp_path / "mirror",
        lock(one, channels=channels[:1], name="a"),
        lock(two, channels=channels[1:], name="b"),
    )
    assert (result.downloaded, result.kept, len(faults.requests)) == (1, 1, 1)
    assert check_files(tmp_path / "mirror", read_manifest(tmp_path / "mirror")) == ()


# -- stores ------------------------------------------------------------------------------------------


def into(store: Store, *rows: LockedPackage, retries: int = 0) -> None:
    fetch_packages(rows, store, fetcher=Fetcher(retries=retries, timeout=10), reporter=Reporter())


def test_a_store_goes_on_with_the_half_of_a_file(world: tuple[Site, Faults], tmp_path: Path) -> None:
    site, faults = world
    row, store = big(site), Store(tmp_path / "store")
    faults.ranges, faults.cuts = "honoured", [100_000]
    with pytest.raises(CouldNotError, match="half"):
        into(store, row)
    assert [path.name for path in (tmp_path / "store/tmp").iterdir()] == [PART]
    store.clean()
    into(store, row)
    assert ranges(faults) == [None, "bytes=100000-"]
    assert (store.artifact(DIGEST) or tmp_path).read_bytes() == CONTENT
    assert list((tmp_path / "store/tmp").iterdir()) == []


def test_halves_are_removed_once_they_are_of_no_use(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    needed, old, landed = (letter * 64 for letter in "abc")
    for digest in (needed, old, landed):
        half_of(tmp_path / "store/tmp", digest=digest)
    week = time.time() - 8 * 24 * 3600
    os.utime(tmp_path / f"store/tmp/part-{old}", (week, week))
    store.add_artifact(landed, lambda path: path.write_bytes(b""))
    with partial.claimed(tmp_path / "store/tmp", old) as mine:
        store.clean()
        assert mine.exists()  # somebody is at it
        kept = {path.name for path in (tmp_path / "store/tmp").iterdir()}
        assert kept == {f"part-{needed}", mine.name}
    os.utime(tmp_path / f"store/tmp/part-{old}", (week, week))
    store.clean()
    assert {path.name for path in (tmp_path / "store/tmp").iterdir()} == {f"part-{needed}"}


def test_two_who_want_the_same_do_not_write_to_the_same_file(tmp_path: Path) -> None:
    half_of(tmp_path)
    with partial.claimed(tmp_path, DIGEST) as one, partial.claimed(tmp_path, DIGEST) as two:
        assert one != two
        assert (one.exists(), two.exists()) == (True, False)


FETCH = """
import json, os, sys
from pathlib import Path
from envforge.download import fetch_packages
from envforge.edges.fetch import Fetcher
from envforge.edges.store import Store
from envforge.formats import conda_lock
from envforge.reporting import Reporter
rows = conda_lock.read(Path(sys.argv[1]).read_text(), source="x").packages
fetch_packages(rows, Store(Path(sys.argv[2])), fetcher=Fetcher(), reporter=Reporter())
os._exit(0)
"""


def started(*argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, argv)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended_in_the_middle(
    faults: Faults, watched: Path, argv: Sequence[object], how: signal.Signals = signal.SIGKILL
) -> None:
    """Run a program until half a file has come, and send it a signal."""
    with started(*argv) as child:
        assert faults.stalled.wait(30), child.communicate()
        until = time.monotonic() + 20
        while not any(path.stat().st_size for path in watched.glob("**/part-*")):
            assert time.monotonic() < until
            time.sleep(0.01)
        child.send_signal(how)
        if how == signal.SIGINT:
            time.sleep(0.1)
            faults.gate.set()
        child.communicate(timeout=20)
    faults.by_suffix.clear()
    faults.gate.set()
    faults.headers.clear()


def begins(faults: Faults) -> int:
    (asked,) = {headers.get("Range") for headers in faults.headers}
    return int((asked or "bytes=0-").removeprefix("bytes=").removesuffix("-"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_was_ended_is_continued_from_where_it_was(
    world: tuple[Site, Faults], tmp_path: Path, how: signal.Signals
) -> None:
    site, faults = world
    content = random.Random(1).randbytes(3_000_000)
    row = site.pip("big", "big-1.0-py3-none-any.whl", content)
    (tmp_path / "conda-lock.yml").write_bytes(input_of(lock(row)).content)
    faults.ranges, faults.by_suffix["whl"] = "honoured", "stall"
    argv = ["-c", FETCH, tmp_path / "conda-lock.yml", tmp_path / "store"]
    ended_in_the_middle(faults, tmp_path / "store", argv, how)
    store = Store(tmp_path / "store")
    store.clean()
    into(store, row)
    assert begins(faults) > 0
    assert (store.artifact(row.sha256 or "") or tmp_path).read_bytes() == content
    assert list((tmp_path / "store/tmp").iterdir()) == []


def test_many_processes_that_fetch_into_one_store(world: tuple[Site, Faults], tmp_path: Path) -> None:
    site, faults = world
    rows = [big(site), *(site.wheel(f"w{number}") for number in range(5))]
    (tmp_path / "conda-lock.yml").write_bytes(input_of(lock(*rows)).content)
    half_of(tmp_path / "store/tmp")
    faults.ranges = "honoured"
    argv = ["-c", FETCH, tmp_path / "conda-lock.yml", tmp_path / "store"]
    children = [started(*argv) for _ in range(3)]
    assert [(child.communicate(timeout=60)[0], child.returncode) for child in children] == [("", 0)] * 3
    for row in rows:
        artifact = Store(tmp_path / "store").artifact(row.sha256 or "")
        assert artifact is not None
        assert hashlib.sha256(artifact.read_bytes()).hexdigest() == row.sha256


# -- commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["mirror", "bundle"])
def test_a_killed_command_goes_on(
    world: tuple[Site, Faults], tmp_path: Path, envforge: Shell, command: str
) -> None:
    site, faults = world
    payload = {"share/noise": random.Random(2).randbytes(3_000_000)}
    row = site.conda("noise", payload=payload, subdir="linux-64")
    size = (site.root / "forge/linux-64/noise-1.0-0.conda").stat().st_size
    given = lock(row, channels=[f"{site.url}/forge"], name="noise")
    (tmp_path / "conda-lock.yml").write_bytes(input_of(given).content)
    argv: list[object] = ["mirror", tmp_path / "conda-lock.yml", tmp_path / "m", "--json"]
    if command == "bundle":
        argv = ["bundle", tmp_path / "conda-lock.yml", "-o", tmp_path / "out.sh", "--no-runtime", "--json"]
    faults.ranges, faults.by_suffix["conda"] = "honoured", "stall"
    cache = tmp_path / "cache"
    argv_of_child = ["-m", "envforge", *argv]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("ENVFORGE_CACHE", str(cache))
        ended_in_the_middle(faults, tmp_path, argv_of_child)
        done = started(*argv_of_child)
        out, _ = done.communicate(timeout=60)
    assert done.returncode == 0, out
    assert 0 < begins(faults) < size
    if command == "mirror":
        assert json.loads(out[out.index("{") :])["bytes"] == size - begins(faults)
    left = list(tmp_path.glob("**/part-*"))
    assert left == []


def test_writers_and_a_reader_at_once(world: tuple[Site, Faults], tmp_path: Path, envforge: Shell) -> None:
    site, faults = world
    directory = tmp_path / "m"
    channel = [f"{site.url}/forge"]
    mirrored(directory, lock(site.conda("old"), channels=channel, name="old"))
    for name in ("one", "two", "three"):
        rows = [site.conda(f"{name}{number}") for number in range(4)]
        (tmp_path / f"{name}.conda-lock.yml").write_bytes(
            input_of(lock(*rows, channels=channel, name=name)).content
        )
    faults.by_suffix["one3-1.0-0.conda"] = "stall"
    writers = [
        started("-m", "envforge", "mirror", tmp_path / f"{name}.conda-lock.yml", directory)
        for name in ("one", "two", "three")
    ]
    assert faults.stalled.wait(30)
    done = envforge(
        "install", directory, "--lock", "old", "--prefix", tmp_path / "env", "--store", tmp_path / "store"
    )
    assert done.status == 0, done
    assert (tmp_path / "env/share/old.txt").read_text() == "old"
    faults.gate.set()
    outcomes = [(writer.communicate(timeout=60)[0], writer.returncode) for writer in writers]
    assert [status for _, status in outcomes] == [0, 0, 0], outcomes
    assert read_manifest(directory).locks == ("old", "one", "three", "two")
    assert check_files(directory, read_manifest(directory)) == ()
    assert not (directory / ".envforge-mirror").exists()


def test_prune_drops_what_no_lock_needs_and_halves_with_it(
    world: tuple[Site, Faults], tmp_path: Path
) -> None:
    site, _ = world
    directory = tmp_path / "m"
    row = site.conda("kept")
    mirrored(directory, lock(row, site.conda("dropped"), name="env"))
    half = half_of(directory / ".envforge-mirror")
    result = mirrored(directory, lock(row, name="env"))
    assert not half.exists()
    assert result.removed == ()
    dropped = "conda/forge/noarch/dropped-1.0-0.conda"
    assert (directory / dropped).exists()
    result = mirrored(directory, lock(dataclasses.replace(row), name="env"), prune=True)
    assert result.removed == (dropped,)
    assert not (directory / dropped).exists()
    assert check_files(directory, read_manifest(directory)) == ()
