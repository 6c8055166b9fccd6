from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envforge.edges.fetch import Fetcher

from ._index import Index
from ._resolving import Ask


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index")


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """A resolver whose temporary directory is empty again afterwards."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/not-to-be-asked")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/not-to-be-asked")
    yield Ask(tmp_path / "cache", Fetcher(retries=0))
    assert list(scratch.iterdir()) == []
