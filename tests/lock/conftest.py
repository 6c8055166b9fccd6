from __future__ import annotations

from pathlib import Path

import pytest

from tests.lock.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """An empty channel, an empty index and an empty specification."""
    return World(tmp_path)
