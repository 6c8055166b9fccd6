"""What goes wrong on the way, and what is left then."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envforge.edges.answers import Body, NotFoundError
from envforge.edges.fetch import Fetcher
from envforge.errors import BusyError, CouldNotError, EnvforgeError, InputError
from envforge.mirror import writer
from envforge.model.lockfile import Lockfile
from envforge.node.sources.mirrors import check_files, read_manifest
from envforge.reporting import Recorder
from tests.mirror.world import Faults, Site, input_of, lock, mirrored, serve, tree

MARKER = ".envforge-mirror"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "mirror"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Site, Faults]]:
    (tmp_path / "site").mkdir()
    with serve(tmp_path / "site") as (url, faults):
        yield Site(tmp_path / "site", url), faults


def no_temporary_files(directory: Path) -> bool:
    return not (directory / MARKER).exists() or not any((directory / MARKER).iterdir())


@pytest.mark.parametrize("fault", ["404", "500", "half"])
def test_a_failing_download_leaves_indexes_and_manifest(
    world: tuple[Site, Faults], directory: Path, fault: str
) -> None:
    site, faults = world
    mirrored(directory, lock(site.conda("old"), name="a"))
    before = tree(directory)
    faults.by_suffix["two-1.0-0.conda"] = fault
    new = lock(site.conda("one"), site.conda("two"), site.conda("three"), name="b")
    with pytest.raises(NotFoundError if fault == "404" else CouldNotError) as caught:
        mirrored(directory, new, jobs=1)
    assert (caught.value.at or "").endswith("two-1.0-0.conda")
    after = tree(directory)
    landed = after.keys() - before.keys()
    assert {path for path in after if after[path] != before.get(path)} <= landed
    halves = {path for path in landed if "/part-" in path}
    assert len(halves) == (fault == "half")
    landed -= {*halves, MARKER}
    assert landed <= {"conda/forge/noarch/one-1.0-0.conda", "conda/forge/noarch/three-1.0-0.conda"}
    faults.by_suffix.clear()
    result = mirrored(directory, new)
    assert result.downloaded + result.kept == 4
    assert check_files(directory, read_manifest(directory)) == ()
    assert not (directory / MARKER).exists()


def test_what_is_queued_behind_a_failure_is_not_begun(world: tuple[Site, Faults], directory: Path) -> None:
    site, faults = world
    rows = [site.conda(f"p{n:02}") for n in range(30)]
    faults.by_suffix["p00-1.0-0.conda"] = "404"

    class Slow(Fetcher):
        @contextmanager
        def _opened(self, url: str, start: int, *, decode: bool, accept: str | None = None) -> Iterator[Body]:
            with super()._opened(url, start, decode=decode, accept=accept) as body:
                yield body
            time.sleep(0.05)

    with pytest.raises(NotFoundError):
        mirrored(directory, lock(*rows), jobs=1, fetcher=Slow(retries=0))
    assert len(faults.requests) < 30
    assert no_temporary_files(directory)
    assert not (directory / "manifest.json").exists()


def test_a_first_run_that_brought_nothing_leaves_nothing(world: tuple[Site, Faults], directory: Path) -> None:
    site, faults = world
    faults.by_suffix[".conda"] = "404"
    with pytest.raises(NotFoundError):
        mirrored(directory, lock(site.conda("one")))
    assert not directory.exists()


def test_a_wrong_hash_does_not_land(world: tuple[Site, Faults], directory: Path) -> None:
    site, _ = world
    row = site.conda("one")
    (site.root / "forge/noarch/one-1.0-0.conda").write_bytes(b"something else")
    with pytest.raises(CouldNotError, match="wrong sha256"):
        mirrored(directory, lock(row))
    assert not directory.exists()


def test_an_altered_or_missing_file_is_fetched_again_and_said(
    world: tuple[Site, Faults], directory: Path
) -> None:
    site, _ = world
    given = lock(site.conda("one"), site.conda("two"), site.conda("three"), site.wheel("w"), name="a")
    mirrored(directory, given)
    before = tree(directory)
    noarch = directory / "conda/forge/noarch"
    content = (noarch / "one-1.0-0.conda").read_bytes()
    (noarch / "one-1.0-0.conda").write_bytes(b"?" + content[1:])
    (noarch / "two-1.0-0.conda").unlink()
    (noarch / "three-1.0-0.conda").rename(noarch / "aside")
    (noarch / "three-1.0-0.conda").symlink_to("aside")
    recorder = Recorder()
    result = mirrored(directory, lock(site.conda("other"), name="b"), recorder=recorder)
    assert (result.downloaded, result.kept) == (4, 1)
    assert result.altered == ("conda/forge/noarch/one-1.0-0.conda", "conda/forge/noarch/three-1.0-0.conda")
    assert [note.split(" ")[0] for note in recorder.notes] == list(result.altered)
    after = tree(directory)
    assert {path for path in before if before[path] != after[path]} == {
        "manifest.json", "conda/forge/noarch/repodata.json", "conda/forge/noarch/repodata.json.zst",
    }  # fmt: skip


def test_an_md5_that_belongs_to_another_file_is_refused(world: tuple[Site, Faults], directory: Path) -> None:
    site, _ = world
    row = site.conda("one")
    mirrored(directory, lock(row))
    with pytest.raises(InputError, match=r"md5 of one-1\.0-0\.conda is not that of the file"):
        mirrored(directory, lock(dataclasses.replace(row, md5="0" * 32)))
    assert (directory / "manifest.json").exists()


def test_a_package_that_is_not_what_its_row_says_is_not_indexed(
    world: tuple[Site, Faults], directory: Path
) -> None:
    site, _ = world
    mirrored(directory, lock(site.conda("old"), name="a"))
    manifest = (directory / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="holds another package"):
        mirrored(directory, _liar(site))
    assert (directory / "manifest.json").read_bytes() == manifest
    assert no_temporary_files(directory)


def _liar(site: Site) -> Lockfile:
    row = site.conda("honest")
    (site.root / "forge/noarch/liar-1.0-0.conda").write_bytes(
        (site.root / "forge/noarch/honest-1.0-0.conda").read_bytes()
    )
    return lock(dataclasses.replace(row, name="liar", url=row.url.replace("honest", "liar")), name="b")


class FullDisk(Fetcher):
    """A disk that is full after a few bytes of one file."""

    @contextmanager
    def _opened(self, url: str, start: int, *, decode: bool, accept: str | None = None) -> Iterator[Body]:
        def chunks(whole: Iterator[bytes]) -> Iterator[bytes]:
            for chunk in whole:
                yield chunk[:10]
                if url.endswith("two-1.0-0.conda"):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                yield chunk[10:]

        with super()._opened(url, start, decode=decode, accept=accept) as body:
            yield dataclasses.replace(body, chunks=chunks(body.chunks))


def test_a_full_disk(world: tuple[Site, Faults], directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, _ = world
    mirrored(directory, lock(site.conda("old"), name="a"))
    before = tree(directory)
    new = lock(site.conda("one"), site.conda("two"), name="b")
    with pytest.raises(CouldNotError, match="No space left"):
        mirrored(directory, new, fetcher=FullDisk())
    after = tree(directory)
    landed = {path for path in after.keys() - before.keys() if not path.startswith(MARKER)}
    assert landed <= {"conda/forge/noarch/one-1.0-0.conda"}
    assert all(after[path] == before[path] for path in before)

    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:  # for the pages
        if len(content) > 300:
            real(path, content[:300])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CouldNotError, match="No space left") as caught:
        mirrored(directory, new)
    assert "make room" in (caught.value.do or "")
    assert no_temporary_files(directory)
    assert tree(directory)["manifest.json"] == before["manifest.json"]
    monkeypatch.undo()
    assert mirrored(directory, new).downloaded == 0


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a place that not even root can write to")
def test_a_place_that_cannot_be_written_to(world: tuple[Site, Faults]) -> None:
    with pytest.raises(CouldNotError, match="cannot make the directory") as caught:
        mirrored(Path("/sys/kernel/mirror"), lock(world[0].conda("one")))
    assert caught.value.do is not None


# -- writers -----------------------------------------------------------------------------------------


def test_two_writers_wait_for_each_other(world: tuple[Site, Faults], directory: Path) -> None:
    site, faults = world
    slow, fast = lock(site.conda("slow"), name="a"), lock(site.conda("fast"), name="b")
    faults.by_suffix["slow-1.0-0.conda"] = "stall"
    results: list[object] = []
    first = threading.Thread(target=lambda: results.append(mirrored(directory, slow)))
    first.start()
    assert faults.stalled.wait(10)
    recorder = Recorder()
    with pytest.raises(BusyError, match="writes to this mirror") as caught:
        mirrored(directory, fast, recorder=recorder, wait=0.1)
    assert f"process {os.getpid()} on {platform.node()}" in caught.value.what
    assert str(directory / MARKER / "writer") in (caught.value.do or "")
    assert recorder.notes == [
        f"waiting for process {os.getpid()} on {platform.node()}, which writes to this mirror"
    ]
    second = threading.Thread(target=lambda: results.append(mirrored(directory, fast)))
    second.start()
    time.sleep(0.1)
    assert len(faults.requests) == 1
    faults.gate.set()
    first.join(10)
    second.join(10)
    assert len(results) == 2
    assert read_manifest(directory).locks == ("a", "b")
    assert check_files(directory, read_manifest(directory)) == ()
    assert not (directory / MARKER).exists()


def test_many_writers_at_once(world: tuple[Site, Faults], directory: Path) -> None:
    site, _ = world
    locks = [lock(site.conda(f"p{n}"), site.conda("common"), name=f"env{n}") for n in range(6)]
    errors: list[EnvforgeError] = []

    def work(given: Lockfile) -> None:
        try:
            mirrored(directory, given)
        except EnvforgeError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(given,)) for given in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert read_manifest(directory).locks == tuple(f"env{n}" for n in range(6))
    assert check_files(directory, read_manifest(directory)) == ()


PROGRAM = """
import os, sys
from pathlib import Path
from envforge.edges.fetch import Fetcher
from envforge.formats import conda_lock
from envforge.mirror import LockfileInput, MirrorOptions, mirror
from envforge.reporting import Reporter
content = Path(sys.argv[1]).read_bytes()
given = LockfileInput(
    content=content, filename="conda-lock.yml", lockfile=conda_lock.read(content.decode(), source="x")
)
try:
    mirror([given], Path(sys.argv[2]), fetcher=Fetcher(), options=MirrorOptions(jobs=2), reporter=Reporter())
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_is_continued(
    world: tuple[Site, Faults], directory: Path, tmp_path: Path, how: signal.Signals
) -> None:
    site, faults = world
    given = lock(*[site.conda(f"p{n}") for n in range(5)])
    (tmp_path / "conda-lock.yml").write_bytes(input_of(given).content)
    faults.by_suffix["p3-1.0-0.conda"] = "stall"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, tmp_path / "conda-lock.yml", directory],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert faults.stalled.wait(30)
        until = time.monotonic() + 10
        while len(list(directory.glob("conda/forge/noarch/*.conda"))) < 4 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(how)
        if how == signal.SIGINT:
            time.sleep(0.1)
            faults.gate.set()
        out, _ = child.communicate(timeout=20)
    faults.by_suffix.clear()
    if how == signal.SIGKILL:
        assert len(list((directory / MARKER).iterdir())) == 2  # the lock and half a file
    else:
        assert out == "interrupted\n"
        assert [path.name[:5] for path in (directory / MARKER).iterdir()] in ([], ["part-"])
    with pytest.raises(InputError, match="the mirror is not finished"):
        read_manifest(directory)
    result = mirrored(directory, given)
    assert (result.downloaded, result.kept) == (1, 4)
    assert not (directory / MARKER).exists()
    assert check_files(directory, read_manifest(directory)) == ()


def a_lock(directory: Path, **changes: object) -> Path:
    owner = {
        "host": platform.node(),
        "pid": os.getpid(),
        "started": "1",
        "space": writer._pid_space(),
    } | changes
    path = directory / MARKER / "writer"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(owner))
    return path


def test_the_lock_of_a_process_number_that_was_given_away_is_taken_over(
    world: tuple[Site, Faults], directory: Path
) -> None:
    a_lock(directory)
    mirrored(directory, lock(world[0].conda("one")), wait=0)
    assert not (directory / MARKER).exists()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"space": "pid:[1]"}])
def test_of_another_machine_nothing_is_known(
    world: tuple[Site, Faults], directory: Path, changes: dict[str, object]
) -> None:
    path = a_lock(directory, **changes)
    with pytest.raises(BusyError):
        mirrored(directory, lock(world[0].conda("one")), wait=0)
    path.unlink()
    mirrored(directory, lock(world[0].conda("one")), wait=0)


def test_a_lock_that_never_got_its_name_is_left_after_a_while(
    world: tuple[Site, Faults], directory: Path
) -> None:
    path = a_lock(directory)
    path.write_text("")
    with pytest.raises(BusyError, match="somebody else"):
        mirrored(directory, lock(world[0].conda("one")), wait=0)
    os.utime(path, (time.time() - 60, time.time() - 60))
    mirrored(directory, lock(world[0].conda("one")), wait=0)


def test_a_lock_that_was_taken_over_meanwhile_is_put_back(directory: Path) -> None:
    path = a_lock(directory)
    dead = writer._Owner(host="x", pid=1, started="", space="")
    text = path.read_text()
    writer._take_away(path, dead)
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == ["writer"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nothing can be made")
def test_a_place_where_nothing_can_be_made_is_said(world: tuple[Site, Faults]) -> None:
    site, _ = world
    with pytest.raises(CouldNotError, match="cannot be made"):
        mirrored(Path("/proc/mirror"), lock(site.conda("one"), name="env"))
