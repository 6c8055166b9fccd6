"""Files from outside, hostile until checked."""

from __future__ import annotations

import bz2
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.edges import archive
from envforge.edges.archive import (
    check_member,
    conda_files,
    conda_index,
    conda_info_files,
    wheel_members,
    wheel_metadata,
)
from envforge.errors import CouldNotError, InputError
from tests.mirror.world import conda_archive, conda_package, wheel


def put(directory: Path, filename: str, content: bytes) -> Path:
    path = directory / filename
    path.write_bytes(content)
    return path


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_reading_a_conda_package(tmp_path: Path, suffix: str) -> None:
    filename, content = conda_package("one", payload={"lib/x": b"x", "lib/y": b"y"}, suffix=suffix)
    path = put(tmp_path, filename, content)
    assert conda_index(path, filename)["name"] == "one"
    names = ["lib/y", "info/files", "nothing"]
    assert conda_files(path, filename, names) == {"lib/y": b"y", "info/files": b"lib/x\nlib/y\n"}
    info = conda_info_files(path, filename)
    assert set(info) == {"info/index.json", "info/paths.json", "info/files", "info/about.json"}


def test_an_artifact_without_its_name(tmp_path: Path) -> None:
    filename, content = conda_package("one")
    path = put(tmp_path, "ab12", content)
    (tmp_path / "scratch").mkdir()
    assert conda_index(path, filename, scratch=tmp_path / "scratch")["name"] == "one"
    assert conda_info_files(path, filename).keys() >= {"info/paths.json"}
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({}, "no info/index.json"),
        ({"info/index.json": b"{"}, "info/index.json: "),
        ({"info/index.json": b"[1]"}, "is no mapping"),
        ({"info/index.json": b"\xff"}, "info/index.json: "),
        ({"info/index.json": b"[" * 100_000}, "info/index.json: "),
    ],
)
def test_an_index_that_is_none(tmp_path: Path, info: dict[str, bytes], text: str) -> None:
    filename = "one-1.0-0.conda"
    path = put(tmp_path, filename, conda_archive(filename, info or {"info/x": b""}, {}))
    with pytest.raises(InputError, match=text) as caught:
        conda_index(path, filename)
    assert caught.value.at == str(path)
    assert caught.value.do is not None


@pytest.mark.parametrize("filename", ["one-1.0-0.conda", "one-1.0-0.tar.bz2"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 50])
def test_what_is_no_archive(tmp_path: Path, filename: str, content: bytes) -> None:
    with pytest.raises(InputError, match="cannot be used") as caught:
        conda_index(put(tmp_path, filename, content), filename)
    assert caught.value.do is not None


def test_a_name_that_is_no_conda_package(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not that of a conda package"):
        conda_index(put(tmp_path, "x.zip", b""), "x.zip")
    with pytest.raises(CouldNotError, match="is missing"):
        conda_index(tmp_path / "x.conda", "x.conda")


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("evil", ["info/../../x", "info/a/../../../x"])
def test_a_member_that_escapes(tmp_path: Path, suffix: str, evil: str) -> None:
    filename = f"one-1.0-0{suffix}"
    path = put(tmp_path, filename, conda_archive(filename, {"info/index.json": b"{}", evil: b"x"}, {}))
    with pytest.raises(InputError):
        conda_info_files(path, filename)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("info/index.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    path = put(tmp_path, "one-1.0-0.tar.bz2", bz2.compress(buffer.getvalue()))
    with pytest.raises(InputError, match="is a link"):
        conda_index(path, path.name)
    assert conda_info_files(path, path.name) == {}


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filename, content = conda_package("one", payload={f"f{n}": b"" for n in range(20)})
    path = put(tmp_path, filename, content)
    monkeypatch.setattr(archive, "FILE_LIMIT", 10)
    with pytest.raises(InputError, match="is too large"):
        conda_index(path, filename)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "INFO_LIMIT", 200)
    with pytest.raises(InputError, match="is too large"):
        conda_info_files(path, filename)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "ENTRY_LIMIT", 5)
    with pytest.raises(InputError, match="more than 5 members"):
        conda_files(path, filename, ["f19"])


@given(st.text(max_size=30))
def test_members_that_pass_stay_inside(name: str) -> None:
    try:
        check_member(name)
    except InputError:
        return
    base = "/base/dir"
    inside = os.path.normpath(os.path.join(base, name))
    assert inside.startswith(base + "/")
    assert inside == f"{base}/{name}"


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../x", "a//b", ".", "", "C:/x", "a\0b", "a/"])
def test_members_that_do_not_pass(name: str) -> None:
    with pytest.raises(InputError, match="does not stay inside"):
        check_member(name, at="x.conda")


def test_a_backslash_is_a_letter() -> None:
    assert check_member(r"lib/systemd/system-systemd\x2dcryptsetup.slice")


# -- wheels ------------------------------------------------------------------------------------------


def test_reading_a_wheel(tmp_path: Path) -> None:
    filename, content = wheel("Some.Project")
    path = put(tmp_path, filename, content)
    assert b"Name: Some.Project" in wheel_metadata(path)
    assert wheel_metadata(put(tmp_path, "ab12", content), filename) == wheel_metadata(path)
    assert [name for name in wheel_members(path) if name.endswith(".py")] == ["Some.Project.py"]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "0 .dist-info directories"),
        ({"a-1.dist-info/METADATA": b"", "b-1.dist-info/METADATA": b""}, "2 .dist-info directories"),
        ({"b-1.dist-info/METADATA": b""}, "another project"),
        ({"a-1.dist-info/WHEEL": b""}, "no item named"),
        ({"a-1.dist-info/METADATA": b"", "../x": b""}, "does not stay inside"),
        ({"a-1.dist-info/METADATA": b"", "/x": b""}, "does not stay inside"),
    ],
)
def test_a_wheel_that_is_none(tmp_path: Path, members: dict[str, bytes], text: str) -> None:
    path = put(tmp_path, "a-1-py3-none-any.whl", zipped(members))
    with pytest.raises(InputError, match=text):
        wheel_metadata(path)


def test_a_wheel_with_a_name_twice(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a-1.dist-info/METADATA", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("a-1.dist-info/METADATA", b"two")
    with pytest.raises(InputError, match="twice"):
        wheel_metadata(put(tmp_path, "a-1-py3-none-any.whl", buffer.getvalue()))


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a-1.dist-info/METADATA": bytes(1 << 20), "a.py": b"x" * 100}
    path = put(tmp_path, "a-1-py3-none-any.whl", zipped(members, zipfile.ZIP_DEFLATED))
    monkeypatch.setattr(archive, "METADATA_LIMIT", 1000)
    with pytest.raises(InputError, match="larger than 1000"):
        wheel_metadata(path)
    monkeypatch.undo()
    monkeypatch.setattr(archive, "WHEEL_LIMIT", 1000)
    with pytest.raises(InputError, match="no honest archive"):
        wheel_members(path)


def test_members_that_share_bytes(tmp_path: Path) -> None:
    """Central directory entries that point to the same data: a small file that unpacks to a large one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a-1.dist-info/METADATA", bytes(10_000))
        first = file.filelist[0]
        for number in range(5):
            copy = zipfile.ZipInfo(f"m{number}")
            copy.header_offset, copy.CRC = first.header_offset, first.CRC
            copy.file_size, copy.compress_size = first.file_size, first.compress_size
            file.filelist.append(copy)
            file.NameToInfo[copy.filename] = copy
    with pytest.raises(InputError, match="no honest archive"):
        wheel_metadata(put(tmp_path, "a-1-py3-none-any.whl", buffer.getvalue()))


@given(st.data())
def test_damaged_wheels_end_in_words(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    filename, content = wheel("a")
    damaged = bytearray(content)
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / filename
    path.write_bytes(bytes(damaged))
    with contextlib.suppress(InputError):
        wheel_metadata(path)
        wheel_members(path)


def test_damaged_conda_packages_end_in_words(tmp_path: Path) -> None:
    """In a process of its own: the engine is not ours, and could crash."""
    code = """
import os, random, sys
from pathlib import Path
from envforge.edges.archive import conda_info_files
from envforge.errors import InputError
path = Path(sys.argv[1])
content = path.read_bytes()
for seed in range(120):
    chance = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(chance.randint(1, 6)):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    path.write_bytes(bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]))
    try:
        conda_info_files(path, path.name)
    except InputError:
        pass
print("done", flush=True)
os._exit(0)
"""
    for suffix in (".conda", ".tar.bz2"):
        filename, content = conda_package("one", suffix=suffix)
        argv = [sys.executable, "-c", code, os.fspath(put(tmp_path, filename, content))]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout == "done\n", done.stderr
