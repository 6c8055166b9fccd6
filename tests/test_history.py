"""The life of a prefix: generations that are kept, gone back to, removed; what it says of itself."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envforge.demo.packages import PLACEHOLDER
from envforge.edges.scratch import owner_mark
from envforge.errors import BusyError
from envforge.node.prefix import Prefix
from tests.conftest import Journey, Shell, Warmed
from tests.node.world import Call, conda, library, mirror, run_all, snapshot


def versions(root: Path, count: int = 4) -> list[Path]:
    """Mirrors of environments that differ in one package."""
    same = conda(library("same", {"etc/same": f"{PLACEHOLDER}\n".encode()}))
    return [
        mirror(root / f"mirror-{number}", same, conda(library("b", {"lib/b": str(number).encode()})))
        for number in range(count)
    ]


def installs(mirrors: list[Path], prefix: Path, *more: object) -> list[Call]:
    return [("install", place, "--prefix", prefix, "--json", *more) for place in mirrors]


def names(prefix: Path) -> set[str]:
    found = (prefix.parent / f"{prefix.name}.generations").iterdir()
    return {path.name for path in found if path.is_dir() and path.name != "store"}


def test_one_generation_is_kept_beside_the_new_one_and_gone_back_to(envforge: Shell, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    done = run_all(envforge, [*installs(versions(tmp_path), prefix), ("history", prefix, "--json")])
    made = [ended.json["generation"].rsplit("/", 1)[1] for ended in done[:4]]
    assert [ended.json["removed"] for ended in done[:4]] == [[], [], [made[0]], [made[1]]]
    assert names(prefix) == {made[2], made[3]}
    told = done[4].json["generations"]
    assert [(one["generation"], one["current"]) for one in told] == [(made[3], True), (made[2], False)]
    assert told[0]["changes"] == "updated b 1.0 (another build)"

    back, forth, again = run_all(
        envforge, [("rollback", prefix), ("rollback", prefix), ("rollback", prefix, made[2][:6], "--json")]
    )
    assert back.out == f"{prefix} -> {made[2]}\n"
    assert forth.out == f"{prefix} -> {made[3]}\n"
    assert again.json["generation"] == made[2]
    assert (prefix / "lib/b").read_bytes() == b"2"
    envforge("verify", prefix)
    # What was gone back to is there: nothing to make, and the one that was current before is kept.
    last = envforge("install", tmp_path / "mirror-3", "--prefix", prefix, "--json").json
    assert last["changed"]
    assert names(prefix) == {made[2], made[3]}


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (2, 3), (9, 4)])
def test_keep_says_how_many(envforge: Shell, tmp_path: Path, keep: int, left: int) -> None:
    prefix = tmp_path / "p"
    run_all(envforge, installs(versions(tmp_path), prefix, "--keep", keep))
    assert len(names(prefix)) == left
    assert (prefix / "lib/b").read_bytes() == b"3"
    # Nothing is to do, and fewer are to be kept.
    envforge("install", tmp_path / "mirror-3", "--prefix", prefix, "--keep", 0)
    assert len(names(prefix)) == 1
    notes = list((tmp_path / "p.generations").glob("*.json"))
    assert [note.stem for note in notes] == list(names(prefix))


def test_a_generation_in_which_a_process_runs_is_kept(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    prefix = warmed(tmp_path / "p")
    envforge("install", journey.mirror, "--prefix", prefix)
    old = prefix.resolve()
    program = (
        "import sys, time; print('up', flush=True); sys.stdin.readline(); import colorsys; print(colorsys)"
    )
    with subprocess.Popen(
        [old / "bin" / "python", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        place = versions(tmp_path, 1)[0]
        done = envforge("install", place, "--prefix", prefix, "--keep", 0)
        assert f"{old.name} is kept" in done.err
        said, _ = running.communicate("\n")
    assert str(old) in said
    envforge("install", place, "--prefix", prefix, "--keep", 0)
    assert not old.exists()


def test_there_is_nothing_to_go_back_to(envforge: Shell, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    place = versions(tmp_path, 1)[0]
    calls: list[Call] = [
        ("history", prefix), ("rollback", prefix), ("uninstall", prefix), ("id", prefix),
        ("install", place, "--prefix", prefix), ("rollback", prefix), ("rollback", prefix, "zz"),
    ]  # fmt: skip
    done = run_all(envforge, calls)
    for ended in done[:4]:
        ended.assert_error(2)
    done[5].assert_error(1, "no other generation")
    done[6].assert_error(2, "envforge history")
    assert {path.name for path in tmp_path.iterdir()} == {"home", "work", "mirror-0", "p", "p.generations"}


def test_a_damaged_note_makes_history_say_less_and_nothing_fail(envforge: Shell, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    run_all(envforge, installs(versions(tmp_path, 3), prefix, "--keep", 5))
    first, second, third = (tmp_path / "p.generations").glob("*.json")
    first.unlink()
    second.write_text('{"envforge_installation": 2, "made": 3}')
    third.write_text(
        '{"envforge_installation": 1, "time": "2020-01-01T00:00:00Z", "host": "h", "user": "u", "tool": "t"}'
    )
    told = envforge("history", prefix, "--json").json["generations"]
    assert len(told) == 3
    assert {one["made"][:4] for one in told} >= {"2020"}
    envforge("rollback", prefix, third.stem)
    assert prefix.resolve().name == third.stem


def test_uninstall_leaves_nothing(envforge: Shell, tmp_path: Path) -> None:
    prefix, other = tmp_path / "p", tmp_path / "store"
    place = versions(tmp_path, 1)[0]
    calls: list[Call] = [
        ("install", place, "--prefix", prefix, "--store", other),
        ("uninstall", prefix, "--dry-run"),
        ("uninstall", prefix, "--json"),
    ]
    _, dry, wet = run_all(envforge, calls)
    assert dry.out == f"would remove {prefix}\nwould remove {prefix}.generations\n"
    assert wet.json["removed"] == [str(prefix), f"{prefix}.generations"]
    assert {path.name for path in tmp_path.iterdir()} == {"home", "work", "mirror-0", "store"}
    assert list((other / "trees").glob("*/*"))


def test_an_uninstall_that_was_killed_is_finished_by_the_next(envforge: Shell, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    place = versions(tmp_path, 1)[0]
    envforge("install", place, "--prefix", prefix)
    prefix.unlink()
    envforge("uninstall", prefix)
    assert not (tmp_path / "p.generations").exists()
    envforge("install", place, "--prefix", prefix)
    prefix.unlink()
    (tmp_path / "p.generations").rename(tmp_path / ".p.gone-deadbeef-1-1")
    envforge("install", place, "--prefix", prefix)
    assert not list(tmp_path.glob(".p.*"))


def test_uninstall_removes_nothing_that_is_not_ours(envforge: Shell, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("real", "link"):
        envforge("uninstall", tmp_path / name, status=None).assert_error(2)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").is_dir()


def test_id_is_one_line_that_says_which(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    prefix = warmed(tmp_path / "p")
    lock = envforge("install", journey.mirror, "--prefix", prefix, "--json").json["lock"]
    receipt = hashlib.sha256((prefix / ".envforge/receipt.json").read_bytes()).hexdigest()
    (line,) = envforge("id", prefix).out.splitlines()
    assert line.split()[:1] == ["greet"]
    assert f"lock=sha256:{lock}" in line
    assert f"receipt=sha256:{receipt}" in line
    told = envforge("id", prefix.resolve(), "--json").json
    assert (told["lock"], told["receipt"]) == (f"sha256:{lock}", f"sha256:{receipt}")
    envforge("verify", prefix, "--expect", told["receipt"])


# -- one at a time ---------------------------------------------------------------------------------------


def test_whoever_changes_a_prefix_waits_for_the_other(tmp_path: Path) -> None:
    """Eight processes, each adding one to a number twenty times, in turn."""
    counter = tmp_path / "number"
    counter.write_text("0")
    program = (
        "import sys, pathlib\n"
        "from envforge.node.prefix import Prefix\n"
        "number = pathlib.Path(sys.argv[2])\n"
        "for _ in range(20):\n"
        "    with Prefix(pathlib.Path(sys.argv[1])).turn():\n"
        "        number.write_text(str(int(number.read_text()) + 1))\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path / "p"), str(counter)]
    running = [subprocess.Popen(argv) for _ in range(8)]
    assert [process.wait() for process in running] == [0] * 8
    assert counter.read_text() == "160"
    assert not list((tmp_path / "p.generations").iterdir())


def test_the_turn_of_a_process_that_is_gone_is_taken_and_that_of_another_is_waited_for(
    envforge: Shell, tmp_path: Path
) -> None:
    prefix = Prefix(tmp_path / "p")
    prefix.generations.mkdir()
    dead = subprocess.run(
        [sys.executable, "-c", "from envforge.edges.scratch import owner_mark; print(owner_mark())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    turn = prefix.generations / ".turn"
    turn.symlink_to(f"{dead}-0000")
    with prefix.turn(seconds=5):
        assert os.readlink(turn).startswith(owner_mark())
    program = (
        "import sys; from envforge.edges.scratch import owner_mark\n"
        "print(owner_mark(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        held = f"{other.stdout.readline().strip()}-0000"
        turn.symlink_to(held)
        with pytest.raises(BusyError) as caught, prefix.turn(seconds=0.2):
            pass
        other.communicate("")
    assert caught.value.exit_code == 75
    assert os.readlink(turn) == held


def test_a_rollback_and_installs_at_once_never_leave_a_dangling_link(envforge: Shell, tmp_path: Path) -> None:
    prefix = tmp_path / "p"
    mirrors = versions(tmp_path, 3)
    store = tmp_path / "store"
    run_all(envforge, installs(mirrors, prefix, "--store", store))
    calls = {
        "one": [list(map(str, call)) for call in installs(mirrors, prefix, "--keep", 0, "--store", store)]
        * 3,
        "two": [["rollback", str(prefix)]] * 12,
    }
    program = (
        "import json, os, sys; from envforge.cli.app import run\n"
        "codes = [run(argv) for argv in json.loads(sys.argv[1])]\n"
        "os._exit(0 if set(codes) <= {0, 1, 2} else 1)\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, json.dumps(work)],
            env=envforge.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for work in calls.values()
    ]  # fmt: skip
    looked = 0
    while any(process.poll() is None for process in running):
        assert (prefix / "lib/b").exists() or (prefix / "lib/b").exists()  # a link read just before its end
        looked += 1
    assert [process.returncode for process in running] == [0, 0]
    assert looked > 10
    envforge("verify", prefix)
    assert snapshot(prefix.resolve())
