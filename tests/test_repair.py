"""Repairing: a damaged environment is made anew beside itself, and the store is healed with it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from tests.conftest import Journey, Shell, Warmed
from tests.node.world import Call, conda, library, mirror, pip, run_all, snapshot


def test_a_damaged_environment_is_made_anew(
    envforge: Shell, journey: Journey, tmp_path: Path, warmed: Warmed
) -> None:
    prefix = warmed(tmp_path / "p")
    envforge("install", journey.mirror, "--prefix", prefix)
    old = prefix.resolve()
    (source,) = (path for path in old.rglob("greet/__init__.py"))
    for victim in (source, next(old.rglob("greet_client/__pycache__/cli.*.pyc"))):
        with victim.open("ab") as file:  # the same file as in the store
            file.write(b"#")
    damaged = snapshot(old)
    done = envforge("verify", prefix, "--repair", journey.mirror, "--json").json
    assert not done["equal"]
    assert done["repaired"] == f"{old}.2"
    assert prefix.resolve() == Path(f"{old}.2")
    assert snapshot(old) == damaged, "jobs may still run in it"
    said = envforge("verify", prefix, "--against", journey.mirror).out
    assert "is equal" in said
    assert envforge("verify", prefix, "--repair", journey.mirror, "--json").json["repaired"] is None
    assert "already" in envforge("install", journey.mirror, "--prefix", prefix).out
    assert "0 altered" in envforge("store", "verify", "-p", prefix).out
    # And once more: the first is gone by then, the second is kept.
    (prefix / "bin" / "greet").unlink()
    envforge("verify", prefix, "--repair", journey.mirror)
    assert prefix.resolve() == Path(f"{old}.3")
    assert not old.exists()


def test_a_damaged_receipt_is_repaired_too(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", conda(library("l", {"lib/l": b"l"})))
    prefix = tmp_path / "p"
    envforge("install", place, "--prefix", prefix)
    receipt = prefix / ".envforge/receipt.json"
    receipt.write_text(receipt.read_text()[:-20])
    envforge("verify", prefix, status=2)
    done = envforge("verify", prefix, "--repair", place)
    assert "made anew" in done.out
    envforge("verify", prefix, "--against", place)


def test_what_cannot_be_repaired_is_said_and_left_alone(envforge: Shell, tmp_path: Path) -> None:
    place = mirror(tmp_path / "mirror", conda(library("l", {"lib/l": b"l"})))
    other = mirror(tmp_path / "other", conda(library("l", {"lib/l": b"other"})))
    prefix = tmp_path / "p"
    run_all(envforge, [("install", place, "--prefix", prefix), ("install", other, "--prefix", prefix)])
    current = prefix.resolve()
    (earlier,) = (p for p in current.parent.iterdir() if p.is_dir() and p.name not in (current.name, "store"))
    for tree in (current, earlier):
        (tree / "lib/l").unlink()
    copy = tmp_path / "copy"
    shutil.copytree(current, copy, symlinks=True)
    calls: list[tuple[Call, str]] = [
        (("verify", prefix, "--repair", place), "another lock"),
        (("verify", earlier, "--repair", place), "does not point to this generation"),
        (("verify", copy, "--repair", other), "not a generation"),
        (("verify", prefix, "--repair", tmp_path / "absent"), "no such bundle, mirror or lockfile"),
    ]
    for (_, word), done in zip(calls, run_all(envforge, [call for call, _ in calls]), strict=True):
        done.assert_error(2, word)
    assert prefix.resolve() == current
    envforge("verify", prefix, "--repair", other)


@pytest.mark.parametrize("kind", ["tree", "artifact"])
def test_a_virtual_environment_and_a_lockfile_are_repaired_from(
    envforge: Shell, journey: Journey, channel: DemoChannel, tmp_path: Path, kind: str
) -> None:
    prefix = tmp_path / "p"
    if kind == "tree":
        place = mirror(tmp_path / "mirror", pip(Wheel(name="w", version="1.0", files={"w.py": b"W = 1\n"})))
        envforge("install", place, "--prefix", prefix, "--python", sys.executable)
        (victim,) = prefix.resolve().rglob("w.py")
    else:
        place = journey.lockfile
        envforge("install", place, "--prefix", prefix)
        (victim,) = prefix.resolve().rglob("greet/__init__.py")
    victim.unlink()
    envforge("verify", prefix, "--repair", place)
    envforge("verify", prefix, "--against", place)
