"""Symbols are cut off, and nothing that is loaded changes."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.formats.elf import read_elf
from envforge.formats.elf_stripped import strip_elf

NAMES = b"\0.text\0.shstrtab\0.symtab\0"


def section(
    name: str, kind: int, flags: int, offset: int, size: int, *, link: int = 0, info: int = 0
) -> bytes:
    place = NAMES.index(name.encode() + b"\0") if name else 0
    return struct.pack("<IIQQQQIIQQ", place, kind, flags, 0, offset, size, link, info, 1, 0)


def linked(*, kind: int = 3, after: bytes = b"", code: bytes = b"c" * 500, **more: int) -> bytes:
    """A library as a linker writes it: what is loaded, then symbols and names, then the table of sections."""
    begin = 64 + 56
    symbols, names = begin + len(code), begin + len(code) + 4000
    table = [
        section("", 0, 0, 0, 0),
        section(".text", 1, 6, begin, len(code), **more),
        section(".symtab", 2, 0, symbols, 4000, link=3),
        section(".shstrtab", 3, 0, names, len(NAMES)),
    ]
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    places = (kind, 62, 1, 0, 64, names + len(NAMES), 0, 64, 56, 1, 64, len(table), 3)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, symbols, symbols, 4096)
    head = ident + struct.pack("<HHIQQQIHHHHHH", *places) + load
    return head + code + b"s" * 4000 + NAMES + b"".join(table) + after


def stripped(data: bytes) -> bytes | None:
    found = strip_elf(io.BytesIO(data))
    if found is None:
        return None
    made = found.head + data[len(found.head) : found.end] + found.tail
    assert len(made) == found.size < len(data)
    return made


def test_what_is_loaded_stays_and_the_rest_goes() -> None:
    made = stripped(linked())
    assert made is not None
    assert made[64 : 64 + 56 + 500] == linked()[64 : 64 + 56 + 500]
    assert b"s" * 10 not in made
    assert stripped(made) is None  # once is enough


@pytest.mark.parametrize(
    "data",
    [
        linked(kind=1),  # for a linker, which needs the symbols
        linked(after=b"appended, to be looked for at the end"),
        linked(link=2),  # what is kept names what would go
        linked()[:-1],
        b"#!/bin/sh\n",
        b"",
    ],
)
def test_what_is_otherwise_stays_as_it_is(data: bytes) -> None:
    assert stripped(data) is None


@given(st.binary(max_size=200), st.integers(0, 64 + 56), st.integers(0, 400))
def test_any_bytes_are_read_without_harm(data: bytes, at: int, back: int) -> None:
    whole = linked()
    stripped(data)
    stripped(whole[:at] + data + whole[at + len(data) :])
    stripped(whole[: len(whole) - back] + data + whole[len(whole) - back + len(data) :])


def test_the_engine_of_conda_loses_a_third_and_is_what_it_was(tmp_path: Path) -> None:
    """A real library of 82 MB; that it works is seen where the runtime works, in which it is stripped."""
    library = next(f for f in distribution("py-rattler").files or () if f.name == "rattler.abi3.so")
    data = Path(str(library.locate())).read_bytes()
    made = stripped(data)
    assert made is not None
    assert len(made) < 0.7 * len(data)
    assert read_elf(io.BytesIO(made)) == read_elf(io.BytesIO(data))
    if shutil.which("readelf") is not None:
        (tmp_path / "made.so").write_bytes(made)
        done = subprocess.run(
            ["readelf", "--sections", "--segments", "--dyn-syms", "--wide", str(tmp_path / "made.so")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert " .shstrtab " in done.stdout
        assert "PyInit" in done.stdout
        assert " .symtab " not in done.stdout
