"""What a runtime keeps and what it leaves out, for either platform; wheels from an index; and refusals."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from envforge.demo.index import Wheel, wheel_bytes
from envforge.demo.packages import File, Package, Symlink, package_bytes
from envforge.edges.fetch import Fetcher
from envforge.edges.store import Store
from envforge.edges.ustar import END, header, padding
from envforge.errors import EnvforgeError, InputError
from envforge.formats.elf import read_elf
from envforge.formats.gzip_members import gzip_members, is_canonical
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.runtime import RUNTIME_PLATFORMS, runtime_key, runtime_rows, runtime_text
from envforge.reporting import Reporter
from envforge.runtime import MadeRuntime, make_runtime
from envforge.runtime.wheels import _Links, find_wheel, pinned_wheels

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AARCH64, X86_64 = 183, 62
LIB = "lib/python3.12"


def elf(machine: int, *needed: str) -> bytes:
    """A library that is linked to others, as far as a linker's tables say."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    places, at = [], 1
    for name in needed:
        places.append(at)
        at += len(name) + 1
    dynamic = 64 + 2 * 56
    names = dynamic + 16 * (len(needed) + 3)
    tags = [*((1, place) for place in places), (5, names), (10, len(strings)), (0, 0)]
    body = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    end = names + len(strings)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, end, end, 4096)
    table = struct.pack("<IIQQQQQQ", 2, 4, dynamic, dynamic, dynamic, len(body), len(body), 8)
    return head + load + table + body + strings


def pyc(source: bytes, *, magic: bytes = b"\xcb\r\r\n", size: int | None = None) -> bytes:
    """Bytecode by time and size, as conda-build leaves it."""
    length = len(source) if size is None else size
    return magic + bytes(4) + struct.pack("<II", 1700000000, length) + b"code of " + source


def python_files(machine: int = AARCH64) -> dict[str, File | Symlink]:
    """A Python for another machine, with something of everything that is left out."""
    source, cache = b"import sys\n", f"{LIB}/__pycache__"
    contents = {
        "bin/python3.12": elf(machine, "libc.so.6", "libz.so.1"),
        "bin/pip": b"#!/x/python\n",
        f"{LIB}/os.py": source,
        f"{cache}/os.cpython-312.pyc": pyc(source),
        f"{cache}/os.cpython-312.opt-1.pyc": pyc(source),
        f"{cache}/gone.cpython-312.pyc": pyc(source),
        f"{LIB}/stale.py": source,
        f"{cache}/stale.cpython-312.pyc": pyc(source, size=4),
        f"{cache}/stale.cpython-311.pyc": pyc(source),
        f"{LIB}/test/test_os.py": b"",
        f"{LIB}/ctypes/test/__init__.py": b"",
        f"{LIB}/unittest/__init__.py": b"",
        f"{LIB}/contest.py": b"",
        f"{LIB}/config-3.12-aarch64-linux-gnu/Makefile": b"",
        f"{LIB}/lib-dynload/_hashlib.so": elf(machine, "libcrypto.so.3", "libc.so.6"),
        f"{LIB}/lib-dynload/_ssl.so": elf(machine, "libssl.so.3"),
        f"{LIB}/site-packages/pip/__init__.py": b"",
        "lib/libz.so.1.3.1": elf(machine, "libc.so.6", "libdeep.so.1"),
        "lib/libdeep.so.1": elf(machine),
        "lib/libc.so.6": elf(machine),
        "lib/libssl.so.3": elf(machine, "libcrypto.so.3"),
        "lib/libcrypto.so.3": elf(machine),
        "lib/libpython3.12.a": b"!<arch>",
        "include/python3.12/Python.h": b"",
        "share/terminfo/x": b"",
    }
    made: dict[str, File | Symlink] = {path: File(data=data) for path, data in contents.items()}
    made["bin/python3.12"] = File(data=contents["bin/python3.12"], executable=True)
    made["lib/libz.so.1"] = Symlink(target="libz.so.1.3.1")
    made["lib/libz.so"] = Symlink(target="libz.so.1.3.1")
    return made


def python(contents: Mapping[str, File | Symlink], platform: str = "linux-aarch64", **more: Any) -> Package:
    return Package(
        name="python", version="3.12.1", build="h0_0_cpython", subdir=platform, files=contents, **more
    )


def row(directory: Path, package: Package | Wheel, platform: str) -> LockedPackage:
    """Write an artifact and lock it."""
    if isinstance(package, Package):
        path = directory / package.subdir / f"{package.stem}.conda"
        data, manager = package_bytes(package, ".conda"), "conda"
    else:
        path, data, manager = directory / package.filename, wheel_bytes(package), "pip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() if manager == "conda" else None
    return LockedPackage(
        name=package.name, version=package.version, manager=manager, platform=platform,
        url=path.as_uri(), sha256=hashlib.sha256(data).hexdigest(), md5=md5,
    )  # fmt: skip


def make(tmp_path: Path, *packages: Package | Wheel, platform: str = "linux-aarch64") -> MadeRuntime:
    """The runtime of a site's own lockfile."""
    rows = tuple(row(tmp_path, package, platform) for package in packages)
    lock = Lockfile(packages=rows, channels=(), platforms=(platform,))
    return made_of(tmp_path, platform, Lockfile(packages=(), channels=(), platforms=()), runtime_lock=lock)


def made_of(tmp_path: Path, platform: str, lock: Lockfile, **more: Any) -> MadeRuntime:
    work = tmp_path / "work"
    work.mkdir()
    return make_runtime(
        lock, platform, None, work=work, store=Store(tmp_path / "store"),
        fetcher=Fetcher(offline=True), reporter=Reporter(), **more,
    )  # fmt: skip


def members(made: MadeRuntime) -> dict[str, bytes]:
    with gzip.open(made.path) as stream, tarfile.open(fileobj=stream) as tar:
        return {m.name.removeprefix("runtime/"): tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]


# -- what is kept ------------------------------------------------------------------------------------------


def test_a_runtime_for_another_machine(tmp_path: Path) -> None:
    tool = Wheel(
        name="tool", version="1.0", files={"tool.py": b"x = 1\n"}, console_scripts={"tool": "tool:x"}
    )
    found = members(make(tmp_path, python(python_files()), tool))
    ours = {name for name in found if f"{LIB}/site-packages/envforge/" in name}
    assert f"{LIB}/site-packages/envforge/cli/app.py" in ours
    assert set(found) - ours == {
        "bin/python3",
        f"{LIB}/os.py", f"{LIB}/__pycache__/os.cpython-312.pyc", f"{LIB}/stale.py", f"{LIB}/contest.py",
        f"{LIB}/lib-dynload/_hashlib.so", "lib/libcrypto.so.3", "lib/libz.so.1", "lib/libdeep.so.1",
        f"{LIB}/site-packages/tool.py", f"{LIB}/site-packages/tool-1.0.dist-info/METADATA",
        f"{LIB}/site-packages/tool-1.0.dist-info/WHEEL",
        f"{LIB}/site-packages/tool-1.0.dist-info/entry_points.txt",
    }  # fmt: skip
    assert read_elf(io.BytesIO(found["bin/python3"])).machine == AARCH64  # type: ignore[union-attr]
    assert found["lib/libz.so.1"] == elf(AARCH64, "libc.so.6", "libdeep.so.1")


def test_bytecode_of_the_package_is_not_checked_any_more(tmp_path: Path) -> None:
    code = members(make(tmp_path, python(python_files())))[f"{LIB}/__pycache__/os.cpython-312.pyc"]
    assert code[:8] == b"\xcb\r\r\n" + (1).to_bytes(4, "little")
    assert code[16:] == b"code of import sys\n"


def test_a_library_of_another_machine_is_refused(tmp_path: Path) -> None:
    contents = python_files()
    contents["lib/libdeep.so.1"] = File(data=elf(X86_64))
    with pytest.raises(InputError, match=r"libdeep\.so\.1 of the runtime is not for linux-aarch64") as caught:
        make(tmp_path, python(contents))
    assert "--no-runtime" in str(caught.value.do)


def test_a_link_out_of_the_tree_is_not_followed(tmp_path: Path) -> None:
    contents = python_files()
    contents[f"{LIB}/secret.py"] = Symlink(target="/etc/hostname")
    assert f"{LIB}/secret.py" not in members(make(tmp_path, python(contents)))


def test_the_lowest_glibc_is_that_of_the_most_demanding_part(tmp_path: Path) -> None:
    tool = Wheel(
        name="tool", version="1.0", files={"tool.py": b""},
        tag="cp310-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.manylinux_2_28_aarch64",
    )  # fmt: skip
    assert make(tmp_path, python(python_files()), tool).glibc == "2.17"
    newer = python(python_files(), depends=("__glibc >=2.34,<3.0.a0",))
    (tmp_path / "other").mkdir()
    assert make(tmp_path / "other", newer, tool).glibc == "2.34"


# -- what is made once -------------------------------------------------------------------------------------


def test_the_same_is_made_once_and_something_else_anew(tmp_path: Path) -> None:
    first = make(tmp_path, python(python_files()))
    content = first.path.read_bytes()
    shutil.rmtree(tmp_path / "work")
    again = make(tmp_path, python(python_files()))
    assert again.path.read_bytes() == content
    assert again == replace(first, path=tmp_path / "store/artifacts" / first.sha256[:2] / first.sha256)
    (tmp_path / "work").rmdir()  # nothing was made in it
    contents = python_files() | {f"{LIB}/more.py": File(data=b"")}
    other = make(tmp_path, python(contents))
    assert other.sha256 != first.sha256


def test_a_kept_runtime_is_hashed_before_it_is_used(tmp_path: Path) -> None:
    first = make(tmp_path, python(python_files()))
    content = first.path.read_bytes()
    shutil.rmtree(tmp_path / "work")
    kept = tmp_path / "store/artifacts" / first.sha256[:2] / first.sha256
    kept.chmod(0o644)
    kept.write_bytes(content[:-1] + b"x")
    again = make(tmp_path, python(python_files()))
    assert again.path.read_bytes() == content
    assert kept.read_bytes() == content  # healed


@pytest.mark.parametrize("text", ["", "{}", '{"envforge_runtime": 2}', '{"envforge_runtime": 1}', "\xff"])
def test_a_note_that_says_nothing_is_no_trouble(tmp_path: Path, text: str) -> None:
    first = make(tmp_path, python(python_files()))
    shutil.rmtree(tmp_path / "work")
    (note,) = (path for path in (tmp_path / "store/runtimes").rglob("*") if path.is_file())
    note.write_bytes(text.encode("latin-1"))
    assert make(tmp_path, python(python_files())).sha256 == first.sha256


def test_a_store_that_cannot_be_written_to_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "add_artifact", refuse)
    made = make(tmp_path, python(python_files()))
    assert made.path == tmp_path / "work/runtime.tar.gz"
    assert made.path.stat().st_size == made.size


# -- refusals ----------------------------------------------------------------------------------------------


def a_row(platform: str = "linux-64", **more: str) -> LockedPackage:
    fields = {"url": f"https://example.org/c/{platform}/python-3.12.1-h0_0_cpython.conda", **more}
    return LockedPackage(
        name="python", version="3.12.1", manager="conda", platform=platform,
        sha256="0" * 64, md5="0" * 32, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def lock_with(text: str | None, platform: str = "linux-64") -> Lockfile:
    custom = {} if text is None else {runtime_key(platform): text}
    return Lockfile(packages=(), channels=(), platforms=(platform,), custom=custom)


@pytest.mark.parametrize(
    ("platform", "text", "words"),
    [
        ("osx-arm64", None, "no runtime for osx-arm64"),
        ("linux-64", None, "locks no runtime"),
        ("linux-64", runtime_text([a_row()]), "--offline"),
    ],
)
def test_what_cannot_be_had_names_the_way_without(
    tmp_path: Path, platform: str, text: str | None, words: str
) -> None:
    with pytest.raises(EnvforgeError) as caught:
        made_of(tmp_path, platform, lock_with(text))
    assert words in caught.value.what
    assert caught.value.do is not None
    assert "--no-runtime" in caught.value.do
    assert "\n" not in caught.value.do


def test_an_artifact_that_is_another_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "python.conda").write_bytes(b"not it")
    lock = lock_with(runtime_text([a_row()]))
    (tmp_path / "work").mkdir()
    with pytest.raises(EnvforgeError) as caught:
        make_runtime(
            lock, "linux-64", lambda _: tmp_path / "python.conda", work=tmp_path / "work",
            store=Store(tmp_path / "store"), fetcher=Fetcher(offline=True), reporter=Reporter(),
        )  # fmt: skip
    assert "--no-runtime" in str(caught.value.do)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "[1]", "[[]]", '[["a","b","c"]]', "[" * 100_000, "[]", '{"a": 1}',
        json.dumps([["https://example.org/c/linux-64/../../python-3.12-0.conda/..", "0" * 64, "0" * 32]]),
        json.dumps([["https://example.org/c/osx-64/python-3.12-0.conda", "0" * 64, "0" * 32]]),
        json.dumps([["https://example.org/c/linux-64/python.conda", "0" * 64, "0" * 32]]),
        json.dumps([["https://example.org/c/linux-64/zlib-1-0.conda", "0" * 64, "0" * 32]]),
        json.dumps([["https://example.org/c/linux-64/python-3.12-0.conda", "0" * 64, None]]),
        json.dumps([["https://example.org/c/linux-64/python-3.12-0.conda", "0" * 64, "0" * 32]] * 2),
    ],
)  # fmt: skip
def test_a_lockfile_from_outside_may_say_anything(text: str) -> None:
    with pytest.raises(InputError) as caught:
        runtime_rows(lock_with(text), "linux-64")
    assert caught.value.at == "metadata: custom_metadata: envforge.runtime.linux-64"


def test_what_is_locked_is_read_again() -> None:
    zlib = a_row(url="https://example.org/c/linux-64/libzlib-ng-1.2-h1_2.tar.bz2")
    found = runtime_rows(lock_with(runtime_text([a_row(), zlib])), "linux-64")
    assert [(one.name, one.version, one.build_string) for one in found] == [
        ("libzlib-ng", "1.2", "h1_2"),
        ("python", "3.12.1", "h0_0_cpython"),
    ]


# -- the formats -------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_any_bytes_are_elf_or_not(data: bytes) -> None:
    read_elf(io.BytesIO(data))
    read_elf(io.BytesIO(elf(X86_64, "libc.so.6")[:70] + data))


def test_a_stream_of_many_members_is_one_file() -> None:
    data = bytes(range(256)) * 40_000
    pieces = [data[start : start + 77_777] for start in range(0, len(data), 77_777)]
    packed = b"".join(gzip_members(pieces))
    assert packed.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 3
    assert gzip.decompress(packed) == data
    assert packed == b"".join(gzip_members([data], jobs=1))
    assert is_canonical()
    for program in (["gzip", "-dc"], ["busybox", "gzip", "-dc"]):
        if shutil.which(program[0]) is not None:
            done = subprocess.run(program, input=packed, capture_output=True, check=True)
            assert done.stdout == data


def test_a_tar_with_long_names() -> None:
    names = ["a", "d" * 150 + "/" + "f" * 99, "x/" * 60 + "é"]
    tar = b"".join(header(name, size=3, mode=0o644) + b"abc" + padding(3) for name in names) + END
    with tarfile.open(fileobj=io.BytesIO(tar)) as read:
        assert [(m.name, m.size, m.mode, m.mtime) for m in read] == [(n, 3, 0o644, 315532800) for n in names]
    for name in ("f" * 101, "d" * 160 + "/f"):
        with pytest.raises(InputError):
            header(name, size=0, mode=0o644)


# -- wheels ------------------------------------------------------------------------------------------------


def test_the_pinned_wheels_fit_what_envforge_requires() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        required = {r.name: r for r in map(Requirement, tomllib.load(file)["project"]["dependencies"])}
    for platform in RUNTIME_PLATFORMS:
        wheels = pinned_wheels(platform)
        assert {wheel.name for wheel in wheels} == {"click", "py-rattler", "securesystemslib", "tomli"}
        for wheel in wheels:
            assert wheel.version in required[wheel.name].specifier
            assert wheel.is_wheel
            assert wheel.version in wheel.filename
    assert json.loads((files("envforge") / "runtime" / "wheels.json").read_text())["format"] == 1


def test_a_wheel_is_found_by_its_name_in_any_simple_index(tmp_path: Path) -> None:
    wheel = pinned_wheels("linux-64")[0]
    folder = tmp_path / "simple" / "click"
    folder.mkdir(parents=True)
    href = f"../../files/{wheel.filename}#sha256={wheel.sha256}"
    (folder / "index.html").write_text(f"<!doctype html><a href='{href}'>{wheel.filename}</a>")
    (tmp_path / "empty").mkdir()
    empty, simple = ((tmp_path / name).as_uri() for name in ("empty", "simple"))
    dead, fetcher = "http://127.0.0.1:1/simple", Fetcher(retries=0)
    found = find_wheel(wheel, [dead, empty, simple], fetcher)
    assert found == (tmp_path / "files" / wheel.filename).as_uri()
    with pytest.raises(EnvforgeError, match=r"no index has click-"):
        find_wheel(wheel, [empty], fetcher)
    with pytest.raises(EnvforgeError, match=r"connection to 127\.0\.0\.1 failed"):
        find_wheel(wheel, [dead, empty], fetcher)


def test_a_page_of_a_server_names_no_file_of_this_machine() -> None:
    text = (
        "<base href='https://b/'><a href='file:///etc/x.whl'>x</a><a>y</a><a href='a%20b.whl#sha256=0'>z</a>"
    )
    assert _Links.of(text, "https://h/simple/x/") == {"a b.whl": "https://b/a%20b.whl"}


@pytest.mark.internet
def test_the_real_index_has_every_pinned_wheel(tmp_path: Path) -> None:
    fetcher = Fetcher(retries=0)
    if not fetcher.reachable("https://pypi.org/simple/click/"):
        pytest.skip("PyPI is not reached")
    wheels = {wheel.filename: wheel for platform in RUNTIME_PLATFORMS for wheel in pinned_wheels(platform)}
    assert len(wheels) == 5
    for wheel in wheels.values():
        url = find_wheel(wheel, ["https://pypi.org/simple"], fetcher)
        if wheel.platform == "linux-64" or wheel.name == "click":  # the others are large, too
            fetcher.download(url, tmp_path / wheel.filename, sha256=wheel.sha256)
