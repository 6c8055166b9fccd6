"""What a Linux program or library says of itself: for which machine, which libraries, and which glibc.

Only what is needed to know which libraries a runtime must bring: 64-bit, little end first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["MACHINES", "ElfFile", "read_elf"]

MACHINES = {"linux-64": 62, "linux-aarch64": 183}
"""``e_machine`` by platform: EM_X86_64, EM_AARCH64."""
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRTAB, _STRSZ = 0, 1, 5, 10
_VERNEED, _VERNEEDNUM = 0x6FFFFFFE, 0x6FFFFFFF
_WEAK = 2
_GLIBC = re.compile(rb"GLIBC_(\d{1,4})\.(\d{1,4})(?![0-9])")
_LIMIT = 1 << 22  # bytes of a dynamic section or its strings
_VERSIONS_LIMIT = 1 << 16
_MANY = 1000


@dataclass(frozen=True, kw_only=True)
class ElfFile:
    """A program or library.

    ``machine`` is ``e_machine``; ``needed`` the names of the libraries it is linked to; ``glibc`` the lowest
    version of that which has all that it calls, ``(0, 0)`` if it calls nothing of it.
    """

    machine: int
    needed: tuple[str, ...] = ()
    glibc: tuple[int, int] = (0, 0)


def read_elf(file: BinaryIO) -> ElfFile | None:
    """Read a file that may be ELF; ``None`` if it is not, or is of a kind that no node of ours runs."""
    head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return None
    (machine,) = struct.unpack_from("<H", head, 18)
    (programs,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    if size != 56:
        return ElfFile(machine=machine)
    table = _at(file, programs, size * count)
    segments = [struct.unpack_from("<IIQQQQ", table, place) for place in range(0, len(table) - 55, 56)]
    dynamic = next((segment for segment in segments if segment[0] == _DYNAMIC), None)
    if dynamic is None:
        return ElfFile(machine=machine)
    tags = list(struct.iter_unpack("<QQ", _whole(_at(file, dynamic[2], dynamic[5]))))
    end = next((number for number, (tag, _) in enumerate(tags) if tag == _END), len(tags))
    values = dict(tags[:end])
    place = _file_offset(values.get(_STRTAB, 0), segments)
    strings = b"" if place is None else _at(file, place, values.get(_STRSZ, 0))
    needed = (
        _text(strings, value).decode("utf-8", "surrogateescape")
        for tag, value in tags[:end]
        if tag == _NEEDED
    )
    start = _file_offset(values.get(_VERNEED, 0), segments) if _VERNEED in values else None
    versions = b"" if start is None else _at(file, start, _VERSIONS_LIMIT)
    names = (_text(strings, at) for at in _wanted(versions, values.get(_VERNEEDNUM, 0)))
    glibc = [(int(match[1]), int(match[2])) for name in names if (match := _GLIBC.match(name))]
    return ElfFile(machine=machine, needed=tuple(filter(None, needed)), glibc=max(glibc, default=(0, 0)))


def _text(strings: bytes, at: int) -> bytes:
    return strings[at:].partition(b"\0")[0] if at < len(strings) else b""


def _wanted(data: bytes, count: int) -> Iterator[int]:
    """Where the names of the versions are that it cannot do without: a list of lists, each by offsets."""
    at = 0
    for _ in range(min(count, _MANY)):
        if at + 16 > len(data):
            return
        _, inner, _, first, after = struct.unpack_from("<HHIII", data, at)
        place = at + first
        for _ in range(min(inner, _MANY)):
            if place + 16 > len(data):
                break
            _, flags, _, name, following = struct.unpack_from("<IHHII", data, place)
            if not flags & _WEAK:
                yield name
            if not following:
                break
            place += following
        if not after:
            return
        at += after


def _whole(data: bytes) -> bytes:
    return data[: len(data) - len(data) % 16]


def _file_offset(address: int, segments: list[tuple[int, ...]]) -> int | None:
    """Where in the file an address of the loaded program lies."""
    for kind, _, offset, start, _, size in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    return None


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if size > _LIMIT or offset >= 1 << 62:
        return b""
    file.seek(offset)
    return file.read(size)
