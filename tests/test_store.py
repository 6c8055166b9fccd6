"""The store: what is kept is used again, is not believed, is looked after, and is shared."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import noarch_python
from tests.conftest import Journey, Shell
from tests.node.world import Artifact, Call, conda, library, mirror, pip, python, run_all, snapshot

ROOT = os.geteuid() == 0


def small(channel: DemoChannel) -> list[Artifact]:
    return [
        python(channel),
        conda(noarch_python("c", "1.0", {"c_mod.py": b"C = 1\n"})),
        conda(library("l", {"lib/l": b"library"})),
        pip(Wheel(name="w", version="1.0", files={"w_mod.py": b"W = 1\n"}, scripts={"w": b"#!python\n"})),
    ]


def without_paths(prefix: Path) -> dict[str, object]:
    """The tree of a prefix without what names its path."""
    tree = prefix.resolve()
    return {
        name: item
        for name, item in snapshot(tree).items()
        if not (isinstance(item, tuple) and str(tree).encode() in item[1]) and ".envforge" not in name
    }


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_bytecode_is_compiled_once_and_a_change_of_one_package_compiles_that_package(
    envforge: Shell, channel: DemoChannel, tmp_path: Path
) -> None:
    first = mirror(tmp_path / "first", *small(channel))
    other = pip(Wheel(name="w", version="1.1", files={"w_mod.py": b"W = 2\n", "w_new.py": b""}))
    second = mirror(tmp_path / "second", *small(channel)[:3], other)
    store = ("--store", tmp_path / "store")
    envforge("install", first, "--prefix", tmp_path / "p", *store)

    def traced(*words: object) -> str:
        trace = tmp_path / "trace"
        calls = "execve,openat"
        envforge(
            *words, *store, before=("strace", "-f", "-s", "4096", "-e", f"trace={calls}", "-o", str(trace))
        )
        return trace.read_text()

    def compiled(trace: str) -> set[str]:
        found = {line.split('"')[1] for line in trace.splitlines() if ".pyc." in line and "O_CREAT" in line}
        return {Path(name).name.split(".")[0] for name in found}

    with_paths = compiled(traced("install", first, "--prefix", tmp_path / "q"))
    assert {name.partition("_")[2].partition("_")[0] for name in with_paths} <= {"sysconfigdata", "sysconfig"}
    changed = compiled(traced("install", second, "--prefix", tmp_path / "q"))
    assert changed == with_paths | {"w_mod", "w_new"}
    envforge("verify", tmp_path / "q", "--against", second, "--store", tmp_path / "fresh")


def test_warm_or_cold_one_store_or_another_the_tree_is_the_same(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    warm, cold = ("--store", tmp_path / "warm"), ("--store", tmp_path / "cold")
    one = tmp_path / "p"
    calls: list[Call] = [
        ("install", journey.mirror, "--prefix", tmp_path / "q", *warm),
        ("install", journey.mirror, "--prefix", one, *warm),
    ]
    run_all(envforge, calls)
    before = snapshot(one.resolve())
    shutil.rmtree(tmp_path / "p.generations")
    one.unlink()
    envforge("install", journey.mirror, "--prefix", one, *cold, "-j", 1)
    assert snapshot(one.resolve()) == before


@pytest.mark.parametrize(
    "name", ["w_mod.py", "c_mod.py", "lib/l", "__pycache__/w_mod.cpython-*.pyc", "email/__init__.py"]
)
def test_an_edit_in_one_environment_is_found_before_it_reaches_another(
    envforge: Shell, channel: DemoChannel, tmp_path: Path, name: str
) -> None:
    place = mirror(tmp_path / "mirror", *small(channel))
    store = tmp_path / "store"
    envforge("install", place, "--prefix", tmp_path / "p", "--store", store)
    (victim,) = (
        path for path in (tmp_path / "p").resolve().rglob(name.rpartition("/")[2]) if path.match(name)
    )
    assert victim.stat().st_nlink > 1
    status = victim.stat()
    content = victim.read_bytes()
    with victim.open("r+b") as file:  # in place, as an editor does that keeps hard links
        file.write(bytes([content[0] ^ 1]))
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = envforge("install", place, "--prefix", tmp_path / "q", "--store", store, status=None)
    done.assert_error(3, "altered", "rm -rf")
    assert not (tmp_path / "q").is_symlink()
    assert envforge("store", "verify", "--store", store, status=1).out.count("altered  ") == 1
    envforge("store", "verify", "--remove", "--store", store)
    envforge("install", place, "--prefix", tmp_path / "q", "--store", store)
    envforge("verify", tmp_path / "q", "--against", place, "--store", store)


def test_store_commands(envforge: Shell, channel: DemoChannel, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small(channel))
    store, lower = tmp_path / "store", tmp_path / "lower"
    lower.mkdir()
    here = ("--store", lower, "--store", store)
    calls: list[Call] = [
        ("install", place, "--prefix", tmp_path / "p", *here),
        ("store", "dir", *here),
        ("store", "size", *here, "--json"),
        ("store", "verify", *here),
        ("store", "prune", *here, "--json"),
        ("store", "prune", *here, "--unused-for", "0", "--dry-run"),
    ]
    done = run_all(envforge, calls)
    assert [ended.status for ended in done] == [0] * 6
    assert done[1].out.split() == [str(store), str(lower)]
    top, bottom = done[2].json["layers"]
    assert [top[kind]["entries"] for kind in ("trees", "lists", "bytecode")] == [4, 4, 3]
    assert bottom["trees"]["entries"] == 0
    assert "0 altered" in done[3].out
    assert done[4].json["removed"] == []
    assert done[5].out.startswith("would remove 11 entries")
    old = time.time() - 40 * 24 * 3600
    for tree in (store / "trees").glob("*/*"):
        os.utime(tree, (old, old))
    before = snapshot((tmp_path / "p").resolve())
    assert len(envforge("store", "prune", *here, "--json").json["removed"]) == 4
    assert snapshot((tmp_path / "p").resolve()) == before
    envforge("install", place, "--prefix", tmp_path / "q", *here)  # unpacked again, with the bytecode kept
    envforge("store", "size", "-p", tmp_path / "q", status=None).assert_error(2, "no store here")
    envforge("store", "size", status=None).assert_error(2, "which store")
    envforge("store", "size", env={"ENVFORGE_STORE": str(store)})


def test_what_is_used_is_not_pruned(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", conda(library("l", {"lib/l": b"library"})))
    store = tmp_path / "store"
    envforge("install", place, "--prefix", tmp_path / "p", "--store", store)
    (tree,) = (store / "trees").glob("*/*")
    os.utime(tree, (1, 1))
    envforge("install", place, "--prefix", tmp_path / "q", "--store", store)
    assert "removed 0" in envforge("store", "prune", "--store", store).out


@pytest.mark.skipif(not ROOT, reason="needs a second user")
def test_bytecode_of_somebody_else_is_not_used(envforge: Shell, channel: DemoChannel, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", *small(channel))
    store = tmp_path / "store"
    envforge("install", place, "--prefix", tmp_path / "p", "--store", store)
    for kept in (store / "bytecode").glob("*/*/*"):
        os.chown(kept, 12345, -1)
    victim = next(path for path in (store / "bytecode").rglob("*") if path.is_file())
    victim.write_bytes(b"evil")
    envforge("install", place, "--prefix", tmp_path / "q", "--store", store)
    envforge("verify", tmp_path / "q", "--against", place, "--store", store)


def test_files_are_copied_where_they_cannot_be_linked_and_that_is_said_once(
    envforge: Shell, journey: Journey, tmp_path: Path
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    import tempfile

    with tempfile.TemporaryDirectory(dir=memory) as name:
        done = envforge("install", journey.mirror, "--prefix", tmp_path / "p", "--store", name)
        (line,) = [line for line in done.err.splitlines() if "copied" in line]
        assert "another file system" in line
    envforge("verify", tmp_path / "p", "--against", journey.mirror)
    subprocess.run([tmp_path / "p/bin/greet"], check=True, capture_output=True)
