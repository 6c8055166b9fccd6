"""The bytes of a bundle's header: written, read, and refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envforge
from envforge.errors import InputError
from envforge.formats import bundle_header
from envforge.model.bundle import ALIGNMENT, HEADER_SIZE, Header

quick = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
places = st.integers(33, 10**12).map(lambda count: count * 512)
sizes = st.integers(1, 10**15 - 1)
words = st.text("abzAZ019._+-", min_size=1, max_size=64)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    runtime: dict[str, Any] = {}
    if draw(st.booleans()):
        runtime = {"runtime": draw(digests), "runtime_at": draw(places), "runtime_size": draw(sizes)}
    return Header(
        version=draw(words),
        platform=draw(st.sampled_from(("linux-64", "linux-aarch64"))),
        name=draw(words),
        lock=draw(st.just("") | digests),
        glibc=draw(st.sampled_from(("", "2.0", "2.17", "2.28"))),
        kib=draw(st.integers(0, 10**15 - 1)),
        files=draw(st.integers(0, 10**15 - 1)),
        manifest=draw(digests),
        manifest_at=draw(places),
        manifest_size=draw(sizes),
        **runtime,
    )


PLAIN = Header(
    version="0.2.0", platform="linux-64", name="greet", manifest="a" * 64, manifest_at=16896, manifest_size=9
)
WRITTEN = bundle_header.write(PLAIN)


def resealed(change: Callable[[bytes], bytes]) -> bytes:
    """A changed header whose digest is right again."""
    start, body = WRITTEN[:97], change(WRITTEN[97:])
    return start[:32] + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@quick
@given(headers())
def test_what_is_written_is_read(header: Header) -> None:
    written = bundle_header.write(header)
    assert len(written) == HEADER_SIZE
    assert bundle_header.is_bundle(written[:28])
    assert bundle_header.read(written + b"and what follows") == header
    assert bundle_header.write(header) == written


def test_the_longest_values_leave_room() -> None:
    most = 10**15 - 1
    place = most // 512 * 512
    header = Header(
        version="v" * 64, platform="linux-aarch64", name="n" * 80, lock="1" * 64, glibc="2.9999",
        kib=most, files=most, runtime="2" * 64, runtime_at=place, runtime_size=most,
        manifest="3" * 64, manifest_at=place, manifest_size=most,
    )  # fmt: skip
    assert bundle_header.read(bundle_header.write(header)) == header


def test_what_earlier_releases_wrote_is_read() -> None:
    assert bundle_header.read((Path(__file__).parent / "golden" / "header-1.sh").read_bytes()) == replace(
        PLAIN, version="0.1.0.dev0", glibc="2.17", kib=812345, files=23456,
        lock="b" * 64, runtime="c" * 64, runtime_at=16896, runtime_size=45678901, manifest_at=45696512,
    )  # fmt: skip


def test_of_this_release_the_program_is_known() -> None:
    header = replace(PLAIN, version=envforge.__version__)
    written = bundle_header.write(header)
    assert bundle_header.read(written) == header
    body = written[97:].replace(b"rm -rf", b"rm -fr")
    changed = written[:32] + hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    with pytest.raises(InputError) as refused:
        bundle_header.read(changed)
    assert "program" in refused.value.what


def test_the_program_is_short_and_all_in_one_function() -> None:
    lines = bundle_header.write(PLAIN).decode("ascii").splitlines()
    assert len(lines) <= 80
    assert lines[:2] == ["#!/bin/sh", "# envforge bundle 1"]
    assert all(line.startswith("#") for line in lines[: lines.index("main() {")])
    assert lines[-2] == 'main "$@"; exit'
    assert re.fullmatch("# +", lines[-1])
    assert "@" not in re.sub(r"\$@|\+@%", "", "\n".join(lines)), "a place that was not filled in"


def test_only_values_differ_between_bundles() -> None:
    other = replace(PLAIN, name="other", kib=7, runtime="b" * 64, runtime_at=16896, runtime_size=4)
    pairs = zip(WRITTEN.splitlines(), bundle_header.write(other).splitlines(), strict=True)
    assert [number for number, (one, two) in enumerate(pairs) if one.rstrip() != two.rstrip()] == [2, 15, 16]


def test_it_travels_with_the_package() -> None:
    assert (files("envforge") / "templates" / "bundle.sh").is_file()


@pytest.mark.parametrize(
    "values",
    [
        {"platform": "osx-arm64"}, {"platform": ""}, {"name": "a b"}, {"name": ""}, {"name": "a'$(id)"},
        {"name": "a\n"}, {"version": ""}, {"version": "é"}, {"lock": "A" * 64}, {"lock": "1" * 63},
        {"glibc": "2"}, {"glibc": "3.1"}, {"glibc": "2.017"}, {"kib": -1}, {"kib": True}, {"files": 1.0},
        {"files": 10**15}, {"manifest": ""}, {"manifest_at": 16384}, {"manifest_at": 16897},
        {"manifest_size": 0}, {"runtime": "b" * 64}, {"runtime_at": 16896},
        {"runtime": "b" * 64, "runtime_at": 16896},
        {"kib": "1"}, {"name": 1}, {"name": None},
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_a_shell_could_stumble_over_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        replace(PLAIN, **values)
    assert refused.value.at in {*values, "runtime_at", "manifest_at"}


def test_every_byte_counts() -> None:
    for position in range(HEADER_SIZE):
        data = bytearray(WRITTEN)
        data[position] ^= 1 << position % 8
        with pytest.raises(InputError):
            bundle_header.read(bytes(data))


@pytest.mark.parametrize("length", [0, 1, 10, 28, 29, 30, 96, 97, 98, 5000, HEADER_SIZE - 1])
def test_a_part_of_it_is_refused(length: int) -> None:
    with pytest.raises(InputError):
        bundle_header.read(WRITTEN[:length])


def test_a_newer_version_names_the_envforge_that_it_needs() -> None:
    newer = WRITTEN.replace(b"bundle 1\n", b"bundle 2\n").replace(b"version=0.2.0", b"version=7.1.0")
    with pytest.raises(InputError) as refused:
        bundle_header.read(newer)
    assert "version 2" in refused.value.what
    assert refused.value.do == "use envforge 7.1.0 or newer"
    with pytest.raises(InputError) as refused:
        bundle_header.read(b"#!/bin/sh\n# envforge bundle 3\nversion=$(id) \n")
    assert refused.value.do == "use a newer envforge"


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"kib=0", b"kib=00")[:-2] + b"\n",
        lambda body: body.replace(b"kib=0", b"kib=")[:-1],
        lambda body: body.replace(b"name=greet", b"name=$(id)"),
        lambda body: body.replace(b"platform=linux-64", b"platform=win-64  "),
        lambda body: body.replace(b"version=", b"Version="),
        lambda body: body.replace(b'main "$@"; exit', b'main "$@"; :   '),
        lambda body: body[:-3] + b"x \n",
        lambda body: body[:-1] + b" ",
    ],
)
def test_a_digest_that_fits_is_not_enough(change: Callable[[bytes], bytes]) -> None:
    assert bundle_header.read(resealed(lambda body: body)) == PLAIN
    with pytest.raises(InputError) as refused:
        bundle_header.read(resealed(change))
    assert refused.value.do


@quick
@given(
    st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda data: WRITTEN[:29] + data)
    | st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=40)).map(
        lambda change: resealed(
            lambda body: body[: change[0]] + change[1] + body[change[0] + len(change[1]) :]
        )
    )
)
def test_any_bytes_end_in_a_header_or_a_refusal(data: bytes) -> None:
    refused = None
    try:
        header = bundle_header.read(data)
    except InputError as error:
        refused = error
    if refused is None:
        assert len(bundle_header.write(header)) == HEADER_SIZE
    else:
        assert refused.what.isprintable()
        assert refused.do


def test_the_reference_has_every_value_and_offset() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "bundle.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert {field.name for field in fields(Header)} <= named
    for number in (HEADER_SIZE, HEADER_SIZE + 1, HEADER_SIZE + ALIGNMENT + 1):
        assert str(number) in page
    assert "\n".join(f"    {line}" for line in WRITTEN.decode().splitlines()[:2]) in page
