from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.utils import parse_wheel_filename

from envforge.demo.index import DemoIndex, IndexBuilder, Wheel, build_demo_index, wheel_bytes

from .support import digests, pip, run, served, uv

RICH = Wheel(
    name="Rich.Sample",
    version="1.5",
    build="7",
    requires=("greet-wire", 'greet-core>=1; extra == "all"'),
    extras=("all",),
    requires_python=">=3.10",
    tag="py2.py3-none-any",
    files={"rich_sample/__init__.py": b"def main(): print('sample')\n", "rich_sample/data.txt": b"x"},
    console_scripts={"rich-sample": "rich_sample:main"},
    scripts={"rich-script": b"#!python\nimport sys\nprint(sys.prefix)\n"},
    data={"share/rich/readme.txt": b"read me"},
)


def test_the_same_wheel_is_the_same_bytes_everywhere() -> None:
    assert (
        hashlib.sha256(wheel_bytes(RICH)).hexdigest()
        == "48efc6e6b6ebd062b6f197d8351f8fb2b46f0f6c0c3d97bcb365bc1127981558"
    )


def test_names_and_metadata_are_as_the_standards_have_them() -> None:
    name, version, build, tags = parse_wheel_filename(RICH.filename)
    assert (name, str(version), build) == ("rich-sample", "1.5", (7, ""))
    assert sorted(map(str, tags)) == ["py2-none-any", "py3-none-any"]
    metadata = Metadata.from_email(RICH.metadata())
    assert metadata.provides_extra == ["all"]
    assert [str(requirement) for requirement in metadata.requires_dist or []] == [
        "greet-wire",
        'greet-core>=1; extra == "all"',
    ]


def test_record_lists_every_member_with_its_hash() -> None:
    with zipfile.ZipFile(io.BytesIO(wheel_bytes(RICH))) as archive:
        rows = list(csv.reader(archive.read("rich_sample-1.5.dist-info/RECORD").decode().splitlines()))
        assert [row[0] for row in rows] == archive.namelist()
        for path, digest, size in rows[:-1]:
            data = archive.read(path)
            text = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            assert (digest, size) == (f"sha256={text}", str(len(data)))


def test_binary_wheels_say_all_their_tags() -> None:
    wheel = Wheel(name="x", version="1", tag="cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64")
    with zipfile.ZipFile(io.BytesIO(wheel_bytes(wheel))) as archive:
        lines = archive.read("x-1.dist-info/WHEEL").decode().splitlines()
    assert lines[2:] == [
        "Root-Is-Purelib: false",
        "Tag: cp311-cp311-manylinux_2_17_x86_64",
        "Tag: cp311-cp311-manylinux2014_x86_64",
    ]


def test_pages_link_to_files_with_hashes(tmp_path: Path) -> None:
    builder = IndexBuilder(tmp_path)
    path = builder.add(RICH, yanked="a <bad> one")
    builder.write_index()
    page = (tmp_path / "simple" / "rich-sample" / "index.html").read_text()
    assert f'href="../../files/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"' in page
    core = hashlib.sha256(path.with_name(f"{path.name}.metadata").read_bytes()).hexdigest()
    assert f'data-core-metadata="sha256={core}" data-dist-info-metadata="sha256={core}"' in page
    assert 'data-requires-python="&gt;=3.10" data-yanked="a &lt;bad&gt; one"' in page
    assert '<a href="rich-sample/">rich-sample</a>' in (tmp_path / "simple" / "index.html").read_text()


def test_two_indexes_are_the_same_bytes(tmp_path: Path, demo_index: DemoIndex) -> None:
    assert digests(build_demo_index(tmp_path).path) == digests(demo_index.path)


@pytest.mark.parametrize("tool", ["pip", "uv"])
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_pip_and_uv_install_from_it(tool: str, scheme: str, venv: Path, demo_index: DemoIndex) -> None:
    with served(demo_index.path) as server:
        url = demo_index.url if scheme == "file" else f"{server.url}/simple"
        if tool == "pip":
            pip("--python", venv / "bin" / "python", "install", "--index-url", url, "greet-client")
        else:
            uv("pip", "install", "--python", venv / "bin" / "python", "--index-url", url, "greet-client")
    assert run(venv / "bin" / "greet-client").stdout == "core 1.9 from pypi\nwire 0.3\n"
    if scheme == "http":
        assert "/files/greet_client-2.0-py3-none-any.whl.metadata" in server.requests


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_extras_scripts_and_data_are_installed(
    tool: str, tmp_path: Path, venv: Path, demo_index: DemoIndex
) -> None:
    builder = IndexBuilder(tmp_path / "index")
    builder.add(RICH)
    builder.write_index()
    options = ["--index-url", builder.url, "--extra-index-url", demo_index.url, "rich-sample[all]"]
    if tool == "pip":
        pip("--python", venv / "bin" / "python", "install", *options)
    else:
        uv("pip", "install", "--python", venv / "bin" / "python", *options)
    assert run(venv / "bin" / "rich-sample").stdout == "sample\n"
    assert run(venv / "bin" / "rich-script").stdout == f"{venv}\n"
    assert (venv / "share" / "rich" / "readme.txt").read_bytes() == b"read me"
    found = json.loads(uv("pip", "list", "--python", venv / "bin" / "python", "--format", "json").stdout)
    assert {row["name"] for row in found} == {"rich-sample", "greet-wire", "greet-core"}
