"""Post-link scripts: never run unless asked for, and then where the environment will be."""

from __future__ import annotations

from pathlib import Path

from envforge.demo.packages import File
from tests.conftest import Shell
from tests.node.world import Artifact, Call, conda, library, mirror, run_all


def scripted(name: str, text: str, **files: bytes) -> Artifact:
    script = File(data=text.encode(), executable=True)
    return conda(library(name, {f"bin/.{name}-post-link.sh": script, **files}))


def test_it_runs_when_its_package_is_named(envforge: Shell, tmp_path: Path) -> None:
    text = (
        'set -eu\necho "$PREFIX $PKG_NAME $PKG_VERSION $PKG_BUILDNUM" >"$PREFIX/made"\n'
        'echo changed >>"$PREFIX/given"\nrm "$PREFIX/unwanted"\nmkdir "$PREFIX/folder"\n'
        'echo "please read this" >>"$PREFIX/.messages.txt"\n'
    )
    wants = scripted("wants", text, given=b"given\n", unwanted=b"")
    place = mirror(tmp_path / "mirror", wants, scripted("other", "exit 9\n"))
    prefix, store = tmp_path / "p", ("--store", tmp_path / "store")
    calls: list[Call] = [
        ("install", place, "--prefix", prefix, *store),
        ("install", place, "--prefix", prefix, *store, "--run-scripts", "wants"),
        ("verify", prefix),
        ("verify", prefix, "--against", place, *store),
        ("install", place, "--prefix", prefix, *store, "--run-scripts", "wants"),
        ("install", place, "--prefix", tmp_path / "q", *store),
    ]
    plain, run, verified, against, again, untouched = run_all(envforge, calls)
    assert "not run: other, wants" in plain.err
    assert run.status == 0, run
    assert "not run: other" in run.err
    assert "wants says: please read this" in run.err
    generation = prefix.resolve()
    assert (prefix / "made").read_text() == f"{generation} wants 1.0 0\n"
    assert (prefix / "given").read_text() == "given\nchanged\n"
    assert not (prefix / ".messages.txt").exists()
    assert verified.status == 0
    assert against.status == 0, against
    assert "post-link" in against.err
    assert "already" in again.out
    assert untouched.status == 0, "the store was written into"
    assert (tmp_path / "q/given").read_text() == "given\n"


def test_one_that_fails_leaves_the_old_environment(envforge: Shell, tmp_path: Path) -> None:
    old = mirror(tmp_path / "old", conda(library("l", {"lib/l": b""})))
    new = mirror(tmp_path / "new", scripted("bad", "echo why >&2\nexit 3\n"))
    prefix = tmp_path / "p"
    calls: list[Call] = [
        ("install", old, "--prefix", prefix),
        ("install", new, "--prefix", prefix, "--run-scripts", "bad"),
        ("install", new, "--prefix", prefix, "--run-scripts", "absent"),
        ("verify", prefix),
    ]
    _, failed, absent, verified = run_all(envforge, calls)
    failed.assert_error(3, "bad", "status 3", "log.txt")
    absent.assert_error(2, "no post-link script", "bad")
    assert verified.status == 0
    assert (prefix / "lib/l").exists()
    assert "why" in (tmp_path / "p.generations/log.txt").read_text()
    kept = {path.name for path in (tmp_path / "p.generations").iterdir()}
    assert kept == {prefix.resolve().name, f"{prefix.resolve().name}.json", "log.txt", "store"}
