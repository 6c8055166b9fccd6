"""The command that a bundle leaves in a generation, however it is called."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from envforge.node.using.launcher import LAUNCHER, write_launcher
from tests.bundle.world import RECORDER, SHELLS, recorded


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """``my env``, a symlink to a generation with the command and a runtime in it."""
    generation = tmp_path / "my env.generations" / "3f2a9c000000"
    python = generation / ".envforge" / "runtime" / "bin" / "python3"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    write_launcher(generation)
    (tmp_path / "my env").symlink_to("my env.generations/3f2a9c000000")
    return tmp_path / "my env"


def called(
    prefix: Path, argv: Sequence[str | Path], cwd: Path, env: Mapping[str, str] | None = None
) -> list[str]:
    """The words that the runtime of the generation was given, but for ``-I -B -m envforge``."""
    record = prefix.with_name("record")
    variables = {"RECORD": str(record), "PATH": "/usr/bin:/bin", "CDPATH": "/:/usr", **(env or {})}
    done = subprocess.run([*argv, "a b", ""], cwd=cwd, env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    program, *words = recorded(record)
    record.unlink()
    assert Path(program) == prefix.resolve() / ".envforge/runtime/bin/python3"
    assert words[:4] == ["-I", "-B", "-m", "envforge"]
    return words[4:]


def test_the_command_is_the_same_everywhere(tmp_path: Path) -> None:
    texts = set()
    for name in ("one", "two"):
        (tmp_path / name / ".envforge").mkdir(parents=True)
        write_launcher(tmp_path / name)
        path = tmp_path / name / LAUNCHER
        assert path.stat().st_mode & 0o777 == path.parent.stat().st_mode & 0o777 == 0o755
        texts.add(path.read_bytes())
    assert len(texts) == 1


def test_called_by_its_path_or_from_a_search_path(prefix: Path, tmp_path: Path) -> None:
    bin_ = prefix / ".envforge" / "bin"
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "forge").symlink_to("../my env/.envforge/bin/envforge")
    (tmp_path / "forge").symlink_to(tmp_path / "usr" / "forge")
    for argv, cwd, path in (
        ([bin_ / "envforge"], Path("/"), ""),
        (["my env/.envforge/bin/envforge"], tmp_path, ""),
        (["./envforge"], bin_, ""),
        (["sh", "-c", 'envforge "$@"', "sh"], tmp_path, str(bin_)),
        (["sh", "-c", 'envforge "$@"', "sh"], bin_, "."),
        (["./forge"], tmp_path, ""),
        ([tmp_path / "usr" / "forge"], Path("/"), ""),
    ):
        env = {"PATH": f"{path}:/usr/bin:/bin"} if path else {}
        assert called(prefix, argv, cwd, env) == ["a b", ""]


@pytest.mark.parametrize("shell", SHELLS)
def test_in_every_shell(shell: str, prefix: Path, tmp_path: Path) -> None:
    argv = SHELLS[shell]
    assert called(prefix, [*argv, "my env/.envforge/bin/envforge"], tmp_path) == ["a b", ""]
    assert called(prefix, [*argv, "-eu", "envforge"], prefix / ".envforge" / "bin") == ["a b", ""]


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_runtime_it_says_so(shell: str, prefix: Path) -> None:
    (prefix / ".envforge/runtime/bin/python3").unlink()
    argv = [*SHELLS[shell], str(prefix / LAUNCHER)]
    done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert [line[:6] for line in lines] == ["envfor", "  at: ", "  do: "]
