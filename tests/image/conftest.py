"""The command line in this process, with a cache of its own; and a mirror to make images of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from envforge.cli.app import run
from tests.conftest import Ended
from tests.image.world import NAMED, packages
from tests.node.world import mirror

Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of small packages without Python; do not write into it."""
    return mirror(tmp_path_factory.mktemp("made") / "mirror", *packages(), custom=NAMED)


@pytest.fixture
def envforge_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """``envforge_here(WORD…)`` runs a command in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENVFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for name in [name for name in os.environ if name.startswith("ENVFORGE_") and name != "ENVFORGE_CACHE"]:
        monkeypatch.delenv(name)

    def call(*words: object, status: int | None = 0) -> Ended:
        capsys.readouterr()
        code = run([str(word) for word in words])
        told = capsys.readouterr()
        assert status is None or code == status, f"{words}: {told.err}"
        return Ended(code, told.out, told.err)

    return call
