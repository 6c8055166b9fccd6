from __future__ import annotations

import ctypes
import hashlib
import io
import json
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.demo.channel import ChannelBuilder, DemoChannel, libgreet_package
from envforge.demo.interpreter import host_platform
from envforge.demo.library import compiled, find_compiler, library_name, written
from envforge.demo.packages import (
    PLACEHOLDER,
    Archive,
    File,
    Package,
    Symlink,
    noarch_python,
    package_bytes,
    read_tree,
    zstd_stored,
)
from envforge.errors import CouldNotError, InputError

from .support import conda_install, in_child, run

SAMPLE = Package(
    name="sample",
    version="1.0",
    subdir="linux-64",
    build="h1_3",
    build_number=3,
    depends=("libgreet >=1",),
    constrains=("other <2",),
    files={
        "bin/tool": File(data=b"#!/bin/sh\necho tool\n", executable=True),
        "bin/.sample-post-link.sh": File(data=b"#!/bin/sh\n", executable=True),
        "etc/text.conf": File(data=f"at {PLACEHOLDER}/etc\n".encode()),
        "lib/binary": File(data=f"\0{PLACEHOLDER}\0".encode()),
        "lib/link": Symlink(target="./binary"),
        "lib/nowhere": Symlink(target="absent"),
        "share/kept": File(data=b"as it is"),
    },
    no_link=("share/kept",),
    info={"run_exports.json": b"{}"},
)
NOARCH = noarch_python(
    "a-tool", "2", {"a_tool.py": b"def main(): print('hello')\n"}, entry_points=("a-tool = a_tool:main",)
)


def read_by_peer(data: bytes, name: str) -> dict[str, bytes]:
    """The members of a package as conda-package-streaming reads them."""
    streaming = pytest.importorskip("conda_package_streaming.package_streaming")
    found: dict[str, bytes] = {}
    components = ("pkg",) if name.endswith(".tar.bz2") else ("pkg", "info")
    for component in components:
        for tar, member in streaming.stream_conda_component(name, io.BytesIO(data), component):
            assert (member.uid, member.gid, member.uname, member.mtime) == (0, 0, "", SAMPLE.timestamp)
            file = tar.extractfile(member) if member.isfile() else None
            found[member.name] = file.read() if file else b"-> " + member.linkname.encode()
    return found


def paths_json(package: Package) -> dict[str, Any]:
    members = read_by_peer(package_bytes(package), f"{package.stem}.conda")
    return {entry.pop("_path"): entry for entry in json.loads(members["info/paths.json"])["paths"]}


def test_the_same_package_is_the_same_bytes_everywhere() -> None:
    digest = hashlib.sha256(package_bytes(SAMPLE)).hexdigest()
    assert digest == "70d7e58dc1f01a436d68f8ed5a84ace81f87f7858dd0e7fe2216d5bd80dc160c"
    digest = hashlib.sha256(package_bytes(SAMPLE, ".tar.bz2")).hexdigest()
    assert digest == "6fc60afbc538898d81fec7d17229603fbcb3193d35600f766918645bececc9e3"


def test_the_order_of_files_does_not_count() -> None:
    shuffled = replace(SAMPLE, files=dict(reversed(list(SAMPLE.files.items()))))
    assert package_bytes(shuffled) == package_bytes(SAMPLE)


@given(st.binary(max_size=99) | st.sampled_from([1 << 17, (1 << 17) - 1, (1 << 17) + 1, 400_000]).map(bytes))
def test_stored_zstd_is_read_by_the_library(data: bytes) -> None:
    zstandard = pytest.importorskip("zstandard")
    assert zstandard.ZstdDecompressor().decompress(zstd_stored(data)) == data


@pytest.mark.parametrize("archive", [".conda", ".tar.bz2"])
def test_conda_package_streaming_reads_it(archive: Archive) -> None:
    found = read_by_peer(package_bytes(SAMPLE, archive), f"{SAMPLE.stem}{archive}")
    payload = {name: data for name, data in found.items() if not name.startswith("info/")}
    assert payload == {
        name: item.data if isinstance(item, File) else b"-> " + item.target.encode()
        for name, item in SAMPLE.files.items()
    }
    assert found["info/files"].decode().split() == sorted(SAMPLE.files)
    assert json.loads(found["info/index.json"])["depends"] == ["libgreet >=1"]
    assert json.loads(found["info/about.json"])["license"] == "BSD-3-Clause"
    assert found["info/run_exports.json"] == b"{}"


@pytest.mark.parametrize("archive", [".conda", ".tar.bz2"])
def test_rattler_reads_it(tmp_path: Path, archive: Archive) -> None:
    path = ChannelBuilder(tmp_path).add(SAMPLE, archive=archive)
    record = in_child(
        "import asyncio, rattler\n"
        "async def read(path): return await rattler.RepoDataRecord.from_package_archive(path)\n"
        "answer = json.loads(asyncio.run(read(given['path'])).to_json())",
        path=str(path),
    )
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record["name"], record["build"], record["build_number"]) == ("sample", "h1_3", 3)
    assert (record["depends"], record["constrains"]) == (["libgreet >=1"], ["other <2"])
    assert record["timestamp"] == SAMPLE.timestamp * 1000


def test_paths_say_what_holds_the_prefix() -> None:
    paths = paths_json(SAMPLE)
    assert paths["etc/text.conf"]["file_mode"] == "text"
    assert paths["lib/binary"]["file_mode"] == "binary"
    assert paths["lib/binary"]["prefix_placeholder"] == PLACEHOLDER
    assert "prefix_placeholder" not in paths["bin/tool"]
    assert paths["share/kept"]["no_link"] is True
    assert paths["lib/link"] == {
        "path_type": "softlink",
        "sha256": paths["lib/binary"]["sha256"],
        "size_in_bytes": paths["lib/binary"]["size_in_bytes"],
    }
    assert paths["lib/nowhere"] == {"path_type": "softlink"}
    assert len(PLACEHOLDER) == 255


def test_entry_points_are_in_link_json() -> None:
    members = read_by_peer(package_bytes(NOARCH), f"{NOARCH.stem}.conda")
    assert json.loads(members["info/link.json"]) == {
        "noarch": {"entry_points": ["a-tool = a_tool:main"], "type": "python"},
        "package_metadata_version": 1,
    }
    assert "site-packages/a_tool-2.dist-info/RECORD" in members


def test_rattler_build_writes_the_same_metadata(tmp_path: Path) -> None:
    """The format is right if the tool that owns it says the same about the same files."""
    pytest.importorskip("rattler_build")
    staged = tmp_path / "staged"
    for name, item in SAMPLE.files.items():
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # It knows no placeholders of staged files, and leaves out hidden ones.
        if isinstance(item, File) and PLACEHOLDER.encode() not in item.data and "/." not in name:
            target.write_bytes(item.data)
            target.chmod(0o755 if item.executable else 0o644)
    in_child(
        "import datetime, rattler_build\n"
        "rattler_build.assemble_package(name='sample', version='1.0', target_platform='linux-64',\n"
        "    build_string='h1_3', build_number=3, output_dir=given['to'], files_dir=given['staged'],\n"
        "    license='BSD-3-Clause', depends=['libgreet >=1'], constrains=['other <2'],\n"
        "    timestamp=datetime.datetime.fromtimestamp(given['time'], datetime.timezone.utc))\n"
        "answer = None",
        to=str(tmp_path), staged=str(staged), time=SAMPLE.timestamp,
    )  # fmt: skip
    [path] = tmp_path.rglob("*.conda")
    ours = Package(**{**vars(SAMPLE), "files": read_tree(staged), "no_link": (), "info": {}})
    with zipfile.ZipFile(path) as theirs, zipfile.ZipFile(io.BytesIO(package_bytes(ours))) as own:
        assert sorted(theirs.namelist()) == sorted(own.namelist())
        assert json.loads(theirs.read("metadata.json")) == json.loads(own.read("metadata.json"))
    streaming = pytest.importorskip("conda_package_streaming.package_streaming")
    found = {}
    with path.open("rb") as stream:
        for tar, member in streaming.stream_conda_component(path.name, stream, "info"):
            found[member.name] = (file := tar.extractfile(member)) and file.read()
    index = ours.index_json()
    assert {name: index.get(name) for name in json.loads(found["info/index.json"])} == json.loads(
        found["info/index.json"]
    )
    entries = {entry.pop("_path"): entry for entry in json.loads(found["info/paths.json"])["paths"]}
    assert entries == paths_json(ours)


def test_what_no_reader_takes_is_refused() -> None:
    with pytest.raises(InputError, match=r"^package x: noarch=None in subdir noarch$"):
        Package(name="x", version="1", subdir="noarch")
    with pytest.raises(InputError, match=r"^package x: noarch=python in subdir linux-64$"):
        Package(name="x", version="1", subdir="linux-64", noarch="python")
    with pytest.raises(InputError, match="only a noarch python package has entry points"):
        Package(name="x", version="1", subdir="noarch", noarch="generic", entry_points=("x = x:x",))


def test_a_hostile_path_is_written_as_it_is() -> None:
    package = replace(SAMPLE, files={"../../outside": File(data=b"x")})
    assert list(paths_json(package)) == ["../../outside"]


def test_a_channel_does_not_depend_on_the_order_of_adding(tmp_path: Path) -> None:
    for folder, packages in (("one", [SAMPLE, NOARCH]), ("two", [NOARCH, SAMPLE])):
        builder = ChannelBuilder(tmp_path / folder)
        for package in packages:
            builder.add(package)
        builder.write_index()
    for name in ("noarch/repodata.json", "linux-64/repodata.json", "linux-64/repodata.json.zst"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_hotfix_is_in_the_repodata_only(tmp_path: Path) -> None:
    builder = ChannelBuilder(tmp_path)
    path = builder.add(SAMPLE, hotfix={"depends": ["libgreet >=1,<2"]})
    builder.write_index()
    repodata = json.loads((tmp_path / "linux-64" / "repodata.json").read_text())
    row = repodata["packages.conda"]["sample-1.0-h1_3.conda"]
    assert row["depends"] == ["libgreet >=1,<2"]
    assert row["md5"] == hashlib.md5(path.read_bytes()).hexdigest()
    assert row["size"] == path.stat().st_size
    assert json.loads(read_by_peer(path.read_bytes(), path.name)["info/index.json"])["depends"] == [
        "libgreet >=1"
    ]


def test_the_legacy_format_is_installed_from_a_channel(tmp_path: Path, demo_channel: DemoChannel) -> None:
    builder = ChannelBuilder(tmp_path / "legacy")
    builder.add(NOARCH, archive=".tar.bz2")
    builder.add(libgreet_package(demo_channel.platform), archive=".tar.bz2")
    builder.write_index()
    prefix = tmp_path / "prefix"
    channels = [builder.url, demo_channel.url]
    found = conda_install(prefix, channels, ["a-tool", "libgreet"], demo_channel.platform)
    assert (found["a-tool"], found["libgreet"]) == ("2", "1.2")
    assert run(prefix / "bin" / "a-tool").stdout == "hello\n"
    assert (prefix / "etc" / "greet.conf").read_text() == f"prefix = {prefix}\n"


def string_in(path: Path) -> str:
    symbol = ctypes.c_char.in_dll(ctypes.CDLL(str(path)), "greet_prefix")
    return ctypes.string_at(ctypes.addressof(symbol)).decode()


def test_the_library_written_by_hand_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / library_name(host_platform(), "1")
    path.write_bytes(written(host_platform()))
    assert string_in(path) == PLACEHOLDER


def test_the_compiled_library_is_loaded_and_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C compiler here")
    data = compiled(compiler, host_platform())
    path = tmp_path / library_name(host_platform(), "1")
    path.write_bytes(data)
    assert string_in(path) == PLACEHOLDER
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert compiled(compiler, host_platform()) == data


def test_the_library_for_the_other_machine_is_an_elf_file_of_it(tmp_path: Path) -> None:
    path = tmp_path / "libgreet.so.1"
    path.write_bytes(written("linux-aarch64"))
    done = subprocess.run(
        ["readelf", "-h", "-d", "-s", "-W", path], capture_output=True, text=True, check=False
    )
    assert "AArch64" in done.stdout
    assert "Library soname: [libgreet.so.1]" in done.stdout


def test_without_a_compiler_macos_is_refused() -> None:
    with pytest.raises(CouldNotError, match="no C compiler") as caught:
        written("osx-arm64")
    assert caught.value.do == "install one"


def test_a_compiler_that_fails_is_named() -> None:
    with pytest.raises(CouldNotError, match="the C compiler false failed"):
        compiled("false", host_platform())
