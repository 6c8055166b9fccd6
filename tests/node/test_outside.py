"""What was made for a prefix outside it is remembered, and nothing else is ever removed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from envforge.errors import InputError
from envforge.node.outside import Made, check_place, forget, made, make_files, remember


@pytest.fixture
def generations(tmp_path: Path) -> Path:
    directory = tmp_path / "p.generations"
    directory.mkdir()
    return directory


def text(generations: Path, more: str = "") -> bytes:
    return f"exec {generations}/0a1b/bin/x {more}\n".encode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_what_was_made_is_removed_with_the_directories_that_were_made(
    generations: Path, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    one, two = tmp_path / "there" / "one", tmp_path / "new" / "deep" / "two"
    done = make_files(generations, {one: text(generations), two: text(generations)}, mode=0o755)
    assert done == ([one, two], True)
    assert one.stat().st_mode & 0o777 == 0o755
    assert {entry.path for entry in made(generations)} == {one, two, two.parent, two.parent.parent}
    assert set(forget(generations)) == {one, two, two.parent, two.parent.parent}
    assert (tmp_path / "there").is_dir()
    assert not (tmp_path / "new").exists()
    assert not list(generations.iterdir())
    assert forget(generations) == ()


def test_what_was_changed_stays_and_so_does_what_lies_beside_it(generations: Path, tmp_path: Path) -> None:
    one, two, three = (tmp_path / "new" / name for name in ("one", "two", "three"))
    make_files(generations, {path: text(generations) for path in (one, two, three)})
    two.write_text("mine now")
    three.unlink()
    three.symlink_to(one)
    assert forget(generations) == (one,)
    assert two.read_text() == "mine now"
    assert three.is_symlink()


def test_the_same_for_another_generation_is_made_again(generations: Path, tmp_path: Path) -> None:
    path = tmp_path / "x"
    make_files(generations, {path: text(generations)})
    newer = text(generations).replace(b"0a1b", b"2c3d")
    make_files(generations, {path: newer})
    assert path.read_bytes() == newer
    make_files(generations, {path: text(generations, "other options")})  # remembered, so any content
    (generations / "made.json").unlink()  # as for who may not write beside the prefix
    again = text(generations, "other options").replace(b"0a1b", b"2c3d")
    make_files(generations, {path: again})
    (generations / "made.json").unlink()
    with pytest.raises(InputError, match="not made for this prefix"):
        check_place(generations, path, text(generations))
    assert path.read_bytes() == again


def test_where_nothing_can_be_remembered_the_files_are_made_all_the_same(tmp_path: Path) -> None:
    for generations in (tmp_path / "gone.generations", tmp_path / "image"):
        path = tmp_path / generations.name.split(".")[0] / "x"
        assert make_files(generations, {path: text(generations)}) == ([path], False)
        assert path.is_file()
        assert made(generations) == ()


def test_a_list_that_somebody_wrote_does_no_harm(
    generations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"precious")
    ours = tmp_path / "ours"
    ours.write_bytes(text(generations))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(text(generations))
    (tmp_path / "link").symlink_to(ours)
    os.mkfifo(tmp_path / "pipe")
    right = sha256(text(generations))
    entries: list[object] = [
        {"path": str(theirs), "sha256": sha256(b"precious")},  # the right hash, but it names no prefix
        {"path": str(ours), "sha256": "0" * 64},
        {"path": "ours", "sha256": right},
        {"path": f"{tmp_path}/full/../ours", "sha256": right},
        {"path": str(tmp_path / "link"), "sha256": right},
        {"path": str(tmp_path / "pipe"), "sha256": right},
        {"path": str(tmp_path / "full")},
        {"path": str(tmp_path / "full"), "sha256": right},
        {"path": f"{ours}\0", "sha256": right},
        {"path": str(ours), "sha256": right.upper()},
        {"path": str(ours), "sha256": 5},
        {"path": 5}, "x", None, {}, {"path": ""},
    ]  # fmt: skip
    documents: list[object] = [{"envforge_made": 1, "made": entries}, {"made": {}}, [], 5, {"made": "x"}]
    for document in documents:
        (generations / "made.json").write_text(json.dumps(document))
        assert forget(generations) == ()
    for content in (b"", b"\xff", b"[" * 100_000, b" " * 2_000_000):
        (generations / "made.json").write_bytes(content)
        assert made(generations) == ()
    (generations / "made.json").unlink()
    os.mkfifo(generations / "made.json")
    assert made(generations) == ()
    assert theirs.read_bytes() == b"precious"
    assert ours.is_file()
    assert (tmp_path / "full" / "file").is_file()


def test_the_list_is_the_same_whatever_the_order(generations: Path) -> None:
    one, two = Made(path=Path("/b"), sha256="1" * 64), Made(path=Path("/a\udcff"))
    remember(generations, [one])
    remember(generations, [two])
    first = (generations / "made.json").read_bytes()
    (generations / "made.json").unlink()
    remember(generations, [two, one])
    assert (generations / "made.json").read_bytes() == first
    assert made(generations) == (two, one)
    assert not list(generations.glob(".*"))
