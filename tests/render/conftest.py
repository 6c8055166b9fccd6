from __future__ import annotations

from pathlib import Path

import pytest

from .world import conda_row, lock_of, write_mirror


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def digest(tmp_path: Path) -> str:
    """The sha256 of the one lock of ``./mirror``."""
    lockfile = lock_of(conda_row("python"), conda_row("zlib"), name="analysis")
    return write_mirror(tmp_path / "mirror", {"analysis": lockfile})["analysis"]
