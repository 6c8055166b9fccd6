"""Whatever bytes stand where an image is expected: an answer or an error in words, and nothing else."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envforge.edges import ustar
from envforge.edges.images import image_kind
from envforge.edges.sif import read_sif
from envforge.edges.tarstream import read_tar
from envforge.errors import EnvforgeError
from envforge.formats import image_json, oci_json
from envforge.model.image import ImageFacts
from tests.image.world import DEBIAN, base_config, layer, make_base

WHOLE = layer(DEBIAN)
LONG = ustar.extended_header("a/" * 120 + "é", mode=0o644, size=3) + b"abc" + bytes(509) + ustar.END
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def altered(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file with some bytes of it exchanged, cut, or followed by others."""
    patch = st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=12))

    def apply(patches: list[tuple[int, bytes]], end: int, more: bytes) -> bytes:
        made = bytearray(whole)
        for at, content in patches:
            made[at : at + len(content)] = content
        return bytes(made[: end or None]) + more

    return st.builds(
        apply, st.lists(patch, max_size=4), st.integers(-600, 0), st.just(b"") | st.binary(max_size=600)
    )


def walk(content: bytes) -> list[str]:
    names = []
    for entry, pieces in read_tar(io.BytesIO(content), at="a tar"):
        assert ".." not in entry.name.split("/")
        assert not entry.name.startswith("/")
        assert sum(map(len, pieces())) == entry.size
        names.append(entry.name)
    return names


@settings(max_examples=100)
@given(altered(WHOLE) | altered(LONG) | st.binary(max_size=2000))
def test_a_tar_is_read_or_refused(content: bytes) -> None:
    with suppress(EnvforgeError):
        walk(content)


def test_a_tar_is_read_as_it_was_written() -> None:
    assert walk(WHOLE) == list(DEBIAN)
    assert walk(LONG) == ["a/" * 120 + "é"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/../x"])
def test_no_member_leads_out(name: str) -> None:
    with pytest.raises(EnvforgeError, match="leads out"):
        walk(ustar.extended_header(name, mode=0o644, size=0) + ustar.END)


def test_a_header_has_the_size_of_a_header() -> None:
    huge = bytearray(ustar.extended_header("x" * 300, mode=0o644, size=0))
    huge[124:136] = b"77777777777\0"
    block = bytes(huge[:148]) + b" " * 8 + bytes(huge[156:512])
    huge[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(EnvforgeError, match="too large"):
        walk(bytes(huge))


BASE = make_base()
DOCUMENTS: dict[Callable[[bytes], object], dict[str, object]] = {
    oci_json.read_index: {"schemaVersion": 2, "manifests": [BASE.entry]},
    oci_json.read_manifest: json.loads(BASE.blobs[BASE.entry["digest"]]),
    oci_json.read_config: base_config([WHOLE]),
}


@settings(max_examples=100)
@given(st.sampled_from(list(DOCUMENTS)), st.data())
def test_documents_are_read_or_refused(read: Callable[[bytes], object], data: st.DataObject) -> None:
    document = dict(DOCUMENTS[read])
    read(json.dumps(document).encode())
    key = data.draw(st.sampled_from(sorted(document)))
    inner = document[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        document[key] = {**inner, data.draw(st.sampled_from(sorted(inner))): data.draw(anything)}
    else:
        document[key] = data.draw(anything)
    with suppress(EnvforgeError):
        read(json.dumps(document).encode())


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.just(b"[" * 100_000))
def test_what_is_no_document_is_refused(content: bytes) -> None:
    for read in (*DOCUMENTS, oci_json.media_type):
        with pytest.raises(EnvforgeError):
            read(content)


FACTS = ImageFacts(
    kind="root",
    prefix="/opt/env",
    platform="linux-64",
    name="made",
    lock="1" * 64,
    receipt="2" * 64,
    version="1.0",
)


def test_what_an_image_says_of_itself_is_read_back() -> None:
    assert image_json.read(image_json.write(FACTS)) == FACTS
    assert ImageFacts.of_labels(FACTS.labels()) == FACTS
    assert "\n" not in image_json.write(FACTS)
    newer = image_json.write(FACTS).replace('"envforge_image":1', '"envforge_image":2')
    with pytest.raises(EnvforgeError, match="format version 2"):
        image_json.read(newer)


@settings(max_examples=100)
@given(altered(image_json.write(FACTS).encode()))
def test_a_trailer_is_read_or_refused(content: bytes) -> None:
    with suppress(EnvforgeError):
        image_json.read(content.decode("utf-8", "replace"))


SIF = (
    struct.pack(
        "<32s10s3s3s16sqqqqqqqq", b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC", b"01", b"02", b"",
        0, 0, 0, 1, 128, 585, 713, 4,
    )
    + struct.pack(
        "<i?IIIqqqqqqq128s384s", 0x4004, 1, 1, 0, 0, 713, 4, 4, 0, 0, 0, 0, b"", struct.pack("<ii", 1, 2),
    )
    + b"hsqs"
)  # fmt: skip


@settings(max_examples=100)
@given(altered(SIF) | st.binary(max_size=300))
def test_a_sif_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.sif"
    path.write_bytes(content)
    image_kind(path)
    with suppress(EnvforgeError):
        assert 0 <= read_sif(path).offset <= len(content)


def test_a_sif_is_found_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.sif"
    path.write_bytes(SIF)
    assert read_sif(path).offset == 713
