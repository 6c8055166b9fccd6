"""The file that a bundle is, written while others hash it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from envforge.bundle import file
from envforge.errors import CouldNotError
from tests.bundle.test_header import PLAIN


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
    made = iter([hashlib.sha256])  # that of the whole file, which is made first, is as fast as ever
    monkeypatch.setattr(file, "hashlib", SimpleNamespace(sha256=lambda: next(made, Slow)()))
    sha256, size = file.write_bundle(tmp_path / "x.sh", PLAIN, members, lambda _: None)
    written = (tmp_path / "x.sh").read_bytes()
    assert (sha256, size) == (hashlib.sha256(written).hexdigest(), len(written))


@pytest.mark.parametrize("change", ["altered", "shorter", "longer"])
def test_a_file_that_is_not_what_is_claimed_of_it_is_refused(tmp_path: Path, change: str) -> None:
    data = b"abc" * 100_000
    content = {"altered": b"x" + data[1:], "shorter": data[:-1], "longer": data + b"x"}[change]
    path = tmp_path / "artifact"
    path.write_bytes(content)
    members: list[file.Member] = [("conda/a.conda", len(data), hashlib.sha256(data).hexdigest(), path)]
    with pytest.raises(CouldNotError, match=r"a\.conda is not the file that was locked") as caught:
        file.write_bundle(tmp_path / "b.sh", PLAIN, members, lambda _: None)
    assert caught.value.at == str(path)
