"""Looking at a tree: whatever is changed in it is found and named, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envforge.errors import CouldNotError
from envforge.formats import receipt_json
from envforge.model.receipt import Receipt
from envforge.node.proving.scan import RECEIPT, looking, scan, state_of
from envforge.node.proving.scan_worker import look
from envforge.node.verify import Verification, verify_prefix
from envforge.reporting import Reporter

ROOT = os.geteuid() == 0
NAMES = st.sampled_from(["a", "b", ".c", "d e", "é", "\udcff", "x\ny", "__pycache__", "a.py", "-"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENTS = st.one_of(st.binary(max_size=20), st.just(b"x" * 300_000))
TREES = st.dictionaries(
    PATHS, st.one_of(CONTENTS, st.sampled_from(["link:/etc/passwd", "link:a", "link:."])), min_size=1
)
MUTATIONS = (
    "flip", "cut", "grow", "mode", "link", "delete", "add", "rename", "directory", "pipe", "touch",
)  # fmt: skip


@contextmanager
def tree_of(entries: dict[str, bytes | str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve() / "tree"
        tree.mkdir()
        for name, content in entries.items():
            path = tree / name
            if any(parent.is_symlink() or parent.is_file() for parent in path.parents) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif not path.is_symlink():
                path.symlink_to(content.removeprefix("link:"))
        leave_receipt(tree)
        yield tree


def leave_receipt(tree: Path) -> None:
    (tree / ".envforge").mkdir()
    files = scan(tree, jobs=1)
    receipt = Receipt(
        prefix=str(tree),
        generation=str(tree),
        platform="linux-64",
        groups=("main",),
        lock="0" * 64,
        lockfile=None,
        tools={},
        packages=(),
        files=tuple(files.values()),
    )
    (tree / RECEIPT).write_text(receipt_json.write(receipt))


def verify(tree: Path) -> Verification:
    return verify_prefix(tree, jobs=2, reporter=Reporter())


def found(tree: Path) -> dict[str, str]:
    answer = verify(tree)
    assert not answer.unread
    return {difference.path: difference.kind for difference in answer.differences}


def changed(content: bytes, how: str) -> bytes:
    if how == "flip" and content:
        return bytes([content[0] ^ 1]) + content[1:]
    return content[:-1] if how == "cut" and content else content + b"\0"


def mutate(tree: Path, victim: Path, how: str) -> dict[str, str]:
    """Do one thing to a file; returns what must be found."""
    name, new = victim.relative_to(tree).as_posix(), victim.with_name("new")
    content = victim.read_bytes()
    if how == "touch":
        os.utime(victim, (1, 1))
        return {}
    if how in ("add", "rename"):
        victim.rename(new)
        if how == "add":
            shutil.copy2(new, victim)
        gone = {} if how == "add" else {name: "missing"}
        return gone | {new.relative_to(tree).as_posix(): "added"}
    if how in ("flip", "cut", "grow"):
        victim.write_bytes(changed(content, how))
    elif how == "mode":
        victim.chmod(victim.stat().st_mode ^ 0o44)
    else:
        victim.unlink()
    if how == "link":
        (tree.parent / "copy").write_bytes(content)
        victim.symlink_to(tree.parent / "copy")
    elif how == "directory":
        victim.mkdir()
    elif how == "pipe":
        os.mkfifo(victim)
    return {name: "missing" if how == "delete" else "changed"}


@settings(max_examples=60, deadline=None)
@given(entries=TREES, how=st.sampled_from(MUTATIONS), data=st.data())
def test_any_single_change_is_found_and_nothing_else(
    entries: dict[str, bytes | str], how: str, data: st.DataObject
) -> None:
    with tree_of(entries) as tree:
        assert found(tree) == {}
        files = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink() and p.name[0] != "r")
        if files:
            expected = mutate(tree, data.draw(st.sampled_from(files)), how)
            assert found(tree) == expected


def test_a_directory_that_became_a_link_to_the_same_is_found() -> None:
    with tree_of({"lib/x": b"x", "lib/y": b"y"}) as tree:
        (tree / "lib").rename(tree.parent / "lib")
        (tree / "lib").symlink_to(tree.parent / "lib")
        assert found(tree) == {"lib": "changed", "lib/x": "missing", "lib/y": "missing"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than one process is started for."""
    tree = tmp_path_factory.mktemp("wide").resolve()
    for number in range(1500):
        folder = tree / f"d{number % 7}" / f"e{number % 50}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(b"%d" % number * (number % 40))
    (tree / "large").write_bytes(b"large" * 2_000_000)
    (tree / "d1" / "large too").write_bytes(bytes(9_000_000))
    (tree / "link").symlink_to("nowhere")
    (tree / "odd \udcfe").touch()
    os.mkfifo(tree / "door")
    return tree


def oracle(tree: Path) -> dict[str, str | None]:
    names = {}
    for base, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(base, name)
            plain = stat.S_ISREG(path.lstat().st_mode)
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if plain else None
            names[path.relative_to(tree).as_posix()] = digest
    return names


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_many_processes_find_what_one_finds(wide: Path, jobs: int) -> None:
    records = scan(wide, {"large": ("conda:x", "packaged")}, jobs=jobs)
    assert {name: record.sha256 for name, record in records.items()} == oracle(wide)
    assert list(records) == sorted(records)
    assert records["large"].owner == "conda:x"
    assert {name: records[name].kind for name in ("door", "link", "d1", "d1/large too")} == {
        "door": "special", "link": "link", "d1": "directory", "d1/large too": "file",
    }  # fmt: skip
    with looking(wide, jobs=jobs) as states:
        assert states() == {name: state_of(record) for name, record in records.items()}


@pytest.mark.parametrize("python", ["/nowhere/python", shutil.which("false"), shutil.which("true"), ""])
def test_it_is_done_here_where_no_process_can_help(
    wide: Path, python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    assert {name: record.sha256 for name, record in scan(wide, jobs=2).items()} == oracle(wide)


def test_who_leaves_early_waits_for_no_answer(wide: Path) -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), looking(wide, jobs=2):
        raise KeyError
    assert threading.active_count() == before


def test_who_leaves_early_does_not_wait_for_a_file_without_end(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").touch()
    (tmp_path / "endless").touch()
    os.truncate(tmp_path / "endless", 1 << 40)
    before = threading.active_count()
    with looking(tmp_path, jobs=2):
        time.sleep(0.5)
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() == before


def test_a_tree_that_changes_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"d{number % 10}").mkdir(exist_ok=True)
        (tmp_path / f"d{number % 10}" / f"{number}").write_text("x")
    stop = threading.Event()

    def stir() -> None:
        while not stop.is_set():
            for number in range(0, 300, 3):
                path = tmp_path / f"d{number % 10}" / f"{number}"
                path.unlink()
                path.symlink_to("/etc")
                path.unlink()
                path.mkdir()
                path.rmdir()
                path.write_text("x")
            (tmp_path / "d1").rename(tmp_path / "gone")
            (tmp_path / "gone").rename(tmp_path / "d1")

    thread = threading.Thread(target=stir)
    thread.start()
    try:
        for _ in range(10):
            assert "d0/10" in scan(tmp_path, jobs=2)
    finally:
        stop.set()
        thread.join()


def test_what_is_no_tree_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "nowhere"):
        with pytest.raises(CouldNotError) as caught:
            scan(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.skipif(ROOT, reason="root reads everything; see test_verify for another user")
def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=0)
    with pytest.raises(CouldNotError, match="Permission"):
        scan(tmp_path)


def test_what_changes_each_time_it_is_looked_at_is_of_no_kind(tmp_path: Path) -> None:
    """It was a directory when it was listed, and when it was looked at again: each time it is a file."""
    (tmp_path / "x").write_text("x")
    mode = (tmp_path / "x").stat().st_mode & 0o7777
    root = os.fsencode(tmp_path)
    assert look(root, [b"dx"], 1 << 20) == ([], [b"Fx"])
    assert look(root, [b"Dx"], 1 << 20) == ([b"x", b"s%o" % mode], [])
