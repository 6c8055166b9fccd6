"""Asking envforge in this process: most questions need no process of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envforge.cli.app import run
from tests.conftest import Ended

Ask = Callable[..., Ended]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """``ask(...)`` runs the command in ``tmp_path``, which is the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("HOME", str(tmp_path)), ("XDG_STATE_HOME", str(tmp_path / "state"))):
        monkeypatch.setenv(name, text)
    for name in ("COLUMNS", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)

    def asked(*words: object, status: int | None = 0) -> Ended:
        capsys.readouterr()
        code = run([str(word) for word in words])
        captured = capsys.readouterr()
        ended = Ended(code, captured.out, captured.err)
        assert status is None or code == status, ended
        return ended

    return asked
