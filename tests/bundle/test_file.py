"""Writing the file: what is hashed beside the copying is what was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from envforge.bundle.file import Member, write_bundle
from envforge.errors import CouldNotError
from tests.bundle.test_header import PLAIN

SIZES = (0, 1, 511, 512, 200_000, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 700_000)


def some_members(place: Path) -> list[Member]:
    """Files of sizes around those that are read at once, with small contents from memory between them."""
    members: list[Member] = []
    for number in range(90):
        data = os.urandom(SIZES[number % len(SIZES)])
        content: bytes | Path = data
        if number % 4:
            content = place / f"{number}"
            content.write_bytes(data)
        members.append((f"m{number:03}", len(data), hashlib.sha256(data).hexdigest(), content))
    return members


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    """However far the threads that hash are behind."""
    members = some_members(tmp_path)
    told: list[int] = []
    for number in range(5):
        out = tmp_path / f"{number}.sh"
        sha256, size = write_bundle(out, PLAIN, members, told.append)
        assert (sha256, size) == (hashlib.sha256(out.read_bytes()).hexdigest(), out.stat().st_size)
    assert sum(told) == 5 * sum(size for _, size, _, _ in members)


@pytest.mark.parametrize("change", ["altered", "shorter", "longer"])
def test_a_file_that_is_not_what_is_claimed_of_it_is_refused(tmp_path: Path, change: str) -> None:
    members = some_members(tmp_path)
    path = members[7][3]
    assert isinstance(path, Path)
    data = path.read_bytes()
    path.write_bytes({"altered": b"x" + data[1:], "shorter": data[:-1], "longer": data + b"x"}[change])
    with pytest.raises(CouldNotError, match=r"m007 is not the file that was locked") as caught:
        write_bundle(tmp_path / "b.sh", PLAIN, members, lambda _: None)
    assert caught.value.at == str(path)
