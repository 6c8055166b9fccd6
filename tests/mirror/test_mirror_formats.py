"""Repodata, zstd frames and index pages."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.formats.repodata import merged_depends, record, repodata_json, zstd_frame
from envforge.formats.simple_index import IndexedFile, project_json, project_page, root_page
from envforge.model.lockfile import LockedPackage, join_specs

HASHES = {"md5": "0" * 32, "sha256": "1" * 64, "size": 7}


def a_row(**changes: object) -> LockedPackage:
    keys: dict[str, object] = {
        "name": "numpy",
        "version": "2.1",
        "manager": "conda",
        "platform": "linux-64",
        "url": "https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1-py312_0.conda",
        "md5": "0" * 32,
        "sha256": "1" * 64,
    }
    return LockedPackage(**(keys | changes))  # type: ignore[arg-type]


def an_index(**changes: object) -> dict[str, object]:
    return {
        "name": "numpy", "version": "2.1", "build": "py312_0", "build_number": 0, "subdir": "linux-64",
        "depends": ["python >=3.12,<3.13.0a0", "__glibc >=2.17"], "constrains": ["foo <1"], "license": "BSD",
    } | changes  # fmt: skip


# -- records -----------------------------------------------------------------------------------------


def test_a_record_is_the_index_with_the_hashes_of_the_file() -> None:
    index = an_index()
    row = a_row(dependencies=join_specs(index["depends"]))  # type: ignore[arg-type]
    assert record(row, index, md5="0" * 32, sha256="1" * 64, size=7) == index | HASHES


def test_depends_of_the_lock_win_where_they_differ_and_the_rest_stays_verbatim() -> None:
    index = an_index(depends=["python  >=3.12", "libblas >=3.9", "old", "__glibc >=2.17"])
    row = a_row(dependencies={"python": ">=3.12", "libblas": ">=3.9,<4", "new": "*", "__glibc": ">=2.17"})
    found = record(row, index, md5="0" * 32, sha256="1" * 64, size=7)["depends"]
    assert found == ["python  >=3.12", "libblas >=3.9,<4", "__glibc >=2.17", "new"]


def test_what_conda_lock_leaves_out_is_no_change() -> None:
    own = ["python >=3.12", "python_abi 3.12.* *_cp312", "__glibc >=2.17", "a >=1", "a <2", "libx >=1"]
    locked = {"python": ">=3.12", "python_abi": "3.12.*", "a": ">=1,<2", "libx": ">=1,<2", "z": ""}
    expected = [*own[:-1], "libx >=1,<2", "z"]
    assert merged_depends(own, locked, whole=False) == expected
    assert merged_depends(own, locked, whole=True) != expected


def test_keys_that_could_mislead_a_client_are_dropped() -> None:
    index = an_index(url="https://evil.example/x.conda", fn="x", channel="evil")
    row = a_row(dependencies=join_specs(index["depends"]))  # type: ignore[arg-type]
    found = record(row, index, md5="0" * 32, sha256="1" * 64, size=7)
    assert not {"url", "fn", "channel"} & found.keys()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "evil"}, "its name is 'evil'"),
        ({"version": "2.2"}, "its version is '2.2'"),
        ({"build": "py313_0"}, "its build is 'py313_0'"),
        ({"subdir": "osx-64"}, "its subdir is 'osx-64'"),
        ({"depends": "python"}, "depends is not a list of strings"),
        ({"depends": [1]}, "depends is not a list of strings"),
    ],
)
def test_another_package_than_the_row_says_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        record(a_row(), an_index(**changes), md5="0" * 32, sha256="1" * 64, size=7)
    assert caught.value.at is not None
    assert caught.value.do is not None


def test_a_file_name_that_is_not_the_packages_is_refused() -> None:
    row = a_row(url="https://conda.anaconda.org/conda-forge/linux-64/other-2.1-py312_0.conda")
    with pytest.raises(InputError, match="is not that of numpy"):
        record(row, an_index(), md5="0" * 32, sha256="1" * 64, size=7)


NAMES = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)
RESTS = st.sampled_from(["", ">=1", "1.2.*", ">=1,<2", "1.2.* *_cp312", "==1.0 h1_0", ">=3 *_cpu"])
SPECS = st.lists(st.builds(lambda name, rest: f"{name} {rest}".strip(), NAMES, RESTS), max_size=8)


@given(SPECS)
def test_depends_that_agree_come_out_verbatim(specs: list[str]) -> None:
    assert merged_depends(specs, join_specs(specs)) == specs


@given(SPECS, SPECS)
def test_merged_depends_says_what_the_lock_says(own: list[str], locked: list[str]) -> None:
    mapping = join_specs(locked)
    assert join_specs(merged_depends(own, mapping)) == mapping


@given(st.lists(NAMES, unique=True, max_size=5))
def test_repodata_is_sorted_and_split_by_kind(names: list[str]) -> None:
    records = {f"{name}-1-0{end}": {"name": name} for name in names for end in (".conda", ".tar.bz2")}
    text = repodata_json("linux-64", records)
    assert text == repodata_json("linux-64", dict(reversed(records.items())))
    document = json.loads(text)
    assert document["info"] == {"subdir": "linux-64"}
    assert list(document["packages"]) == sorted(f"{name}-1-0.tar.bz2" for name in names)
    assert list(document["packages.conda"]) == sorted(f"{name}-1-0.conda" for name in names)


# -- zstd --------------------------------------------------------------------------------------------


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_a_frame_holds_the_data(data: bytes, times: int) -> None:
    data *= times
    frame = zstd_frame(data)
    assert zstandard.ZstdDecompressor().decompress(frame) == data
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == data
    assert zstandard.frame_content_size(frame) == len(data)


@pytest.mark.parametrize("size", [0, 1, 255, 256, (128 << 10) - 1, 128 << 10, (128 << 10) + 1, 20 << 20])
def test_a_frame_of_any_size_passes_default_decoders(size: int, tmp_path: Path) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    frame = zstd_frame(data)
    assert zstandard.get_frame_parameters(frame).window_size == 128 << 10
    assert zstandard.ZstdDecompressor(max_window_size=1 << 20).decompress(frame) == data
    if shutil.which("zstd"):
        path = tmp_path / "data.zst"
        path.write_bytes(frame)
        done = subprocess.run(["zstd", "-d", "-c", "-q", path], capture_output=True, check=True)
        assert done.stdout == data


# -- simple index ------------------------------------------------------------------------------------


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self._open: dict[str, str | None] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = dict(attrs) if tag == "a" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((self._open, data))
            self._open = None


VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"]), min_size=1)
FILES = st.lists(
    st.builds(
        IndexedFile,
        filename=VISIBLE.filter(lambda text: "/" not in text),
        path=VISIBLE.map(lambda text: f"../../files/{text}"),
        version=VISIBLE,
        sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        size=st.integers(0, 10**12),
        requires_python=st.none() | VISIBLE,
        metadata_sha256=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    ),
    max_size=5,
    unique_by=lambda file: (file.filename, file.sha256),
)


@settings(max_examples=50)
@given(FILES)
def test_page_and_document_say_what_was_put_in(files: list[IndexedFile]) -> None:
    ordered = sorted(files, key=lambda file: (file.filename, file.sha256))
    page = project_page("some-project", files).decode()
    found = Links(page).found
    assert [text for _, text in found] == [file.filename for file in ordered]
    document = json.loads(project_json("some-project", reversed(files)))
    assert document["meta"] == {"api-version": "1.1"}
    assert document["versions"] == sorted({file.version for file in files})
    for (attributes, _), entry, file in zip(found, document["files"], ordered, strict=True):
        url, fragment = urldefrag(attributes["href"] or "")
        assert (unquote(url), fragment) == (file.path, f"sha256={file.sha256}")
        assert unquote(entry["url"]) == file.path
        assert entry["hashes"] == {"sha256": file.sha256}
        assert entry["size"] == file.size
        assert attributes.get("data-requires-python") == entry.get("requires-python") == file.requires_python
        core = attributes.get("data-core-metadata")
        assert core == attributes.get("data-dist-info-metadata")
        assert (core or None) == (file.metadata_sha256 and f"sha256={file.metadata_sha256}")
        assert entry.get("core-metadata", {}).get("sha256") == file.metadata_sha256


@given(st.lists(VISIBLE.filter(lambda text: "/" not in text)))
def test_the_root_page_lists_each_project_once(projects: list[str]) -> None:
    found = Links(root_page(projects).decode()).found
    assert [text for _, text in found] == sorted(set(projects))
    assert [unquote(attributes["href"] or "") for attributes, _ in found] == [
        f"{name}/" for name in sorted(set(projects))
    ]
