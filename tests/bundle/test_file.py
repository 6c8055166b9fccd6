"""The file that a bundle is, written while others hash it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from envforge.bundle import file
from envforge.model.bundle import ALIGNMENT, HEADER_SIZE, Header
from tests.node.world import HERE


class Slow:
    """A sha256 of a thread that the machine has forgotten, while others get ahead."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def update(self, data: bytes) -> None:
        time.sleep(0.002)
        self._digest.update(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@pytest.mark.parametrize("sizes", [[100] * 40, [1 << 18, 0, 7, 3 << 18] * 8])
def test_no_memory_is_used_again_before_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    members: list[file.Member] = []
    for number, size in enumerate(sizes):
        path, content = tmp_path / f"p{number}", bytes([number + 1]) * size
        path.write_bytes(content)
        members.append((path.name, size, hashlib.sha256(content).hexdigest(), path))
    place = HEADER_SIZE + ALIGNMENT
    header = Header(
        version="1", platform=HERE, name="x", manifest="0" * 64, manifest_at=place, manifest_size=1
    )
    made = iter([hashlib.sha256])  # that of the whole file, which is made first, is as fast as ever
    monkeypatch.setattr(file, "hashlib", SimpleNamespace(sha256=lambda: next(made, Slow)()))
    sha256, size = file.write_bundle(tmp_path / "x.sh", header, members, lambda _: None)
    written = (tmp_path / "x.sh").read_bytes()
    assert (sha256, size) == (hashlib.sha256(written).hexdigest(), len(written))
