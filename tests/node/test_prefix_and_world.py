"""What a node may be like: odd paths, rubbish in the environment, no home, other users, killed runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import PLACEHOLDER, noarch_python
from envforge.edges.scratch import abandoned, owner_mark, scratch, sweep
from tests.conftest import Shell
from tests.node.world import Artifact, conda, library, mirror, pip, python, run_all, snapshot

ROOT = os.geteuid() == 0
DAY = 24 * 3600


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as name:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", name], capture_output=True, check=False
        )
        return done.returncode == 0 and subprocess.run(["umount", name], check=False).returncode == 0


def small() -> list[Artifact]:
    """An environment without Python."""
    return [
        conda(library("a", {"etc/a.conf": f"prefix={PLACEHOLDER}\n".encode(), "bin/a": b"#!/bin/sh\n"})),
        conda(library("b", {"lib/b": b"b"})),
    ]


def whole(channel: DemoChannel) -> list[Artifact]:
    """Python, a package with a command, and a wheel with one."""
    module = b"import sys\ndef f(): print(sys.prefix)\n"
    return [
        python(channel),
        conda(noarch_python("tool", "1.0", {"tool.py": module}, entry_points=("tool = tool:f",))),
        pip(Wheel(name="w", version="1.0", files={"w.py": module}, console_scripts={"w-tool": "w:f"})),
    ]


def test_a_prefix_may_have_any_name_that_scripts_can_bear(
    envforge: Shell, tmp_path: Path, channel: DemoChannel
) -> None:
    place = mirror(tmp_path / "mirror", *whole(channel))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    odd = [
        tmp_path / "a % {x} #1, [y]*" / "p",
        tmp_path / "ünï-日本",
        tmp_path / ("long" * 40),
        tmp_path / "link" / "p",
    ]
    store = ("--store", tmp_path / "store")
    calls: list[tuple[object, ...]] = [("install", place, "--prefix", p, *store) for p in odd]
    calls += [("verify", p, "--against", place, *store) for p in odd[:2]]
    for call, done in zip(calls, run_all(envforge, calls, env={"LC_ALL": "C"}), strict=True):
        assert done.status == 0, (call, done)
    for prefix in odd:
        for command in ("tool", "w-tool"):
            said = subprocess.run([prefix / "bin" / command], capture_output=True, check=True).stdout
            assert os.fsdecode(said).strip() == str(prefix.parent / prefix.readlink())


def test_a_prefix_that_scripts_cannot_bear_is_refused(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small())
    bad = ["a\nb", "a'b", 'a"b', "a$b", "a`b", "a\\b", "a:b", "x" * 220, "a\x1bb"]
    calls = [("install", place, "--prefix", tmp_path / name) for name in bad]
    for name, done in zip(bad, run_all(envforge, calls), strict=True):
        assert done.status == 2, (name, done)
        done.assert_error(2)
    done = envforge("install", place, "--prefix", os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), status=None)
    done.assert_error(2)
    run_all(envforge, [("install", place, "--prefix", "/")])[0].assert_error(2, "cannot be a prefix")
    assert {p.name for p in tmp_path.iterdir()} == {"mirror", "home", "work"}


def test_a_path_with_dots_is_what_the_kernel_takes_it_for(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small())
    deep = tmp_path / "real" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    done = envforge("install", place, "--prefix", f"{tmp_path}/link/../p/", "--json")
    assert done.json["prefix"] == str(tmp_path / "real" / "p")
    relative = envforge("install", place, "--prefix", "q", "--json")
    assert relative.json["prefix"] == str(envforge.cwd / "q")
    config = (envforge.cwd / "q" / "etc" / "a.conf").read_text()
    assert config == f"prefix={envforge.cwd}/{(envforge.cwd / 'q').readlink()}\n"


def test_rubbish_in_the_environment_changes_nothing(
    envforge: Shell, tmp_path: Path, channel: DemoChannel
) -> None:
    place = mirror(tmp_path / "mirror", *whole(channel))
    one, other = tmp_path / "one" / "p", tmp_path / "other"
    envforge("install", place, "--prefix", one)
    before = snapshot(one.resolve())
    (tmp_path / "one").rename(other)
    # Nothing but the prefix's own directory may be written to: no home, no place for temporary files.
    nowhere, proxy = "/nonexistent", "http://127.0.0.1:1"
    rubbish = {
        "HOME": nowhere, "TMPDIR": nowhere, "XDG_CACHE_HOME": nowhere, "CONDA_PREFIX": nowhere,
        "RATTLER_CACHE_DIR": nowhere, "UV_CACHE_DIR": nowhere, "UV_INDEX_URL": "https://nowhere.example.org",
        "UV_PYTHON": "3.8", "UV_NO_BINARY": "1", "UV_LINK_MODE": "x", "PIP_TARGET": nowhere,
        "PYTHONDONTWRITEBYTECODE": "1", "LANG": "en_US.ISO-8859-1", "COLUMNS": "1", "HTTPS_PROXY": proxy,
        "SSL_CERT_FILE": "/dev/null",
    }  # fmt: skip
    done = envforge("install", place, "--prefix", one, env=rubbish, umask=0)
    assert done.err == ""
    assert snapshot(one.resolve()) == before
    argv = [sys.executable, "-m", "envforge", "verify", str(one), "--against", str(place)]
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- ', "sh", *argv],
        env=envforge.environment(rubbish),
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.returncode == 0, closed.stderr


def test_the_story_of_a_failure_lies_beside_the_prefix(envforge: Shell, tmp_path: Path) -> None:
    package = library("bad", {"a": b"x"})
    place = mirror(tmp_path / "mirror", conda(package, data=b"PK\x03\x04"))
    done = envforge("install", place, "--prefix", tmp_path / "p", status=None)
    done.assert_error(2, str(tmp_path / "p.generations" / "log.txt"))
    assert not list(envforge.home.iterdir())


def can_become_another() -> bool:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "envforge", "--version"], user=65534, check=False, cwd="/"
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not ROOT or not can_become_another(), reason="nobody else may run this interpreter")
def test_another_user_proves_with_a_store_of_their_own(envforge: Shell, channel: DemoChannel) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        place = mirror(base / "mirror", *whole(channel))
        envforge("install", place, "--prefix", base / "p", umask=0o077)
        mine = base / "mine"
        mine.mkdir()
        os.chown(mine, 65534, 65534)
        layers = ("--store", base / "p.generations" / "store", "--store", mine)
        for more in (layers, layers[2:]):
            envforge("verify", base / "p", "--against", place, *more, user=65534, cwd=base)
        refused = envforge("verify", base / "p", "--against", place, user=65534, cwd=base, status=None)
        refused.assert_error(3, "cannot make the directory")


@pytest.mark.skipif(not ROOT or not can_mount(), reason="a small file system cannot be mounted")
def test_a_proof_writes_to_its_own_store_alone(envforge: Shell, tmp_path: Path, channel: DemoChannel) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", disk], check=True)
    try:
        place = mirror(disk / "mirror", *whole(channel))
        prefix, mine = disk / "p", ("--store", tmp_path / "mine")
        envforge("install", place, "--prefix", prefix)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        site = ("--store", disk / "p.generations" / "store")
        calls = [("verify", prefix), ("verify", prefix, "--against", place, *mine)]
        calls += [("verify", prefix, "--against", place, *site, *mine)]
        calls += [("verify", prefix, "--against", place), ("install", place, "--prefix", disk / "q")]
        calls += [
            ("install", place, "--prefix", tmp_path / "q", *site)
        ]  # all of it is there: nothing to write
        *proofs, no_store, no_prefix, read_only = run_all(envforge, calls)
        assert [proof.status for proof in proofs] == [0, 0, 0], proofs
        assert read_only.status == 0, read_only.err
        no_store.assert_error(3, "cannot make the directory: Read-only", "--store DIR")
        no_prefix.assert_error(3, "cannot be written to")
        assert not list((tmp_path / "mine" / "tmp").iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_an_edit_through_a_hard_link_is_an_answer_and_not_an_error(envforge: Shell, tmp_path: Path) -> None:
    """The store beside a prefix shares its files: what an editor does to the one, it does to the other."""
    place = mirror(tmp_path / "mirror", *small())
    prefix = tmp_path / "p"
    envforge("install", place, "--prefix", prefix)
    victim = prefix / "lib" / "b"
    assert victim.stat().st_nlink > 1
    victim.chmod(0o644)
    with victim.open("ab") as file:
        file.write(b"edited")
    (prefix / "bin" / "a").chmod(0o644)
    (prefix / "bin").chmod(0o755)
    calls = [
        ("verify", prefix, "--against", place, "--json"),
        ("install", place, "--prefix", tmp_path / "q", "--store", tmp_path / "p.generations" / "store"),
    ]
    proof, other = run_all(envforge, calls)
    assert {d["path"] for d in json.loads(proof.out)["differences"]} >= {"lib/b"}
    assert proof.status == 1
    other.assert_error(3, "altered", "rm -rf")


def test_a_mode_changed_through_a_hard_link_is_found(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small())
    envforge("install", place, "--prefix", tmp_path / "p")
    (tmp_path / "p" / "lib" / "b").chmod(0o755)
    store = tmp_path / "p.generations" / "store"
    done = envforge("install", place, "--prefix", tmp_path / "q", "--store", store, status=None)
    done.assert_error(3, "altered", "lib/b")


def test_what_is_broken_by_hand_is_made_again(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small())
    prefix = tmp_path / "p"
    again = ("install", place, "--prefix", prefix, "--json")
    envforge(*again)
    generation = prefix.resolve()
    before = snapshot(generation)
    (generation / ".envforge" / "receipt.json").unlink()
    done = envforge(*again)
    assert done.json["changed"] is True
    assert "damaged" in done.err
    assert snapshot(generation) == before
    shutil.rmtree(generation)
    assert envforge(*again).json["changed"] is True
    assert snapshot(generation) == before
    assert envforge(*again).json["changed"] is False


def test_what_a_killed_run_left_goes_with_the_next(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small())
    prefix = tmp_path / "p"
    envforge("install", place, "--prefix", prefix)
    tell = "from envforge.edges.scratch import owner_mark; print(owner_mark())"
    mark = subprocess.check_output([sys.executable, "-c", tell], text=True).strip()
    generations = tmp_path / "p.generations"
    for parent in (generations, generations / "store" / "tmp"):
        (parent / f".work-{mark}-abc" / "tree").mkdir(parents=True)
        (parent / ".gone-x").mkdir()
        (parent / f".work-{owner_mark()}-mine").mkdir()
    (tmp_path / f".p.switch-{mark}").symlink_to("nowhere")
    envforge("install", place, "--prefix", prefix)
    mine = f".work-{owner_mark()}-mine"
    assert {path.name for path in generations.glob(".*")} == {mine}
    assert not (tmp_path / f".p.switch-{mark}").is_symlink()
    (generations / mine).rmdir()
    (generations / prefix.readlink().name / ".envforge" / "receipt.json").unlink()
    envforge("install", place, "--prefix", prefix)
    assert [path.name for path in (generations / "store" / "tmp").iterdir()] == [mine]


def test_who_is_at_work_is_told_by_the_name(tmp_path: Path) -> None:
    now = time.time()
    host, pid, start = owner_mark().split("-")
    assert not abandoned(f".work-{owner_mark()}-x", now - 2 * DAY)
    assert abandoned(f".work-{host}-{pid}-{int(start) + 1}-x", now)  # the number is somebody else's by now
    assert abandoned(f".work-{host}-99999999999-1-x", now)
    other = "0" * 8 if host != "0" * 8 else "1" * 8
    assert not abandoned(f".work-{other}-1-1-x", now)
    assert abandoned(f".work-{other}-1-1-x", now - 2 * DAY)
    assert not abandoned(".work-abc", now)
    with scratch(tmp_path / "there") as directory:
        (directory / "locked").mkdir(mode=0o500)
        sweep(tmp_path / "there")
        assert directory.is_dir()
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.skipif(not ROOT or not can_mount(), reason="a small file system cannot be mounted")
def test_a_full_disk_leaves_the_old_environment(
    envforge: Shell, tmp_path: Path, channel: DemoChannel
) -> None:
    old = mirror(tmp_path / "old", *small())
    new = mirror(tmp_path / "new", *whole(channel))
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=41m", "tmpfs", disk], check=True)
    try:
        prefix, store = disk / "p", ("--store", tmp_path / "store")
        envforge("install", old, "--prefix", prefix, *store)
        before = snapshot(prefix.resolve())
        seen = set()
        for left in (0, 1, 5, 20, 30, 33):
            room = os.statvfs(disk)
            fill = disk / "fill"
            fill.write_bytes(b"\0" * max(0, room.f_bavail * room.f_frsize - (left << 20)))
            ignored = ("--ignore-check", "space")
            done = envforge("install", new, "--prefix", prefix, *store, *ignored, status=None)
            fill.unlink()
            if done.status == 0:
                break
            done.assert_error(3, "df -h")
            assert "mistake" not in done.err
            seen.add(next(line for line in done.err.splitlines() if not line.startswith("note: "))[:40])
            assert snapshot(prefix.resolve()) == before
            assert {p.name for p in disk.iterdir()} == {"p", "p.generations"}
            assert not list((disk / "p.generations").glob(".*"))
        assert len(seen) >= 2, seen  # it was full at different steps
        envforge("verify", prefix)
    finally:
        subprocess.run(["umount", disk], check=True)
