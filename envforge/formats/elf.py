"""What a Linux program or library says of itself: for which machine, and which libraries it wants.

Only what is needed to know which libraries a runtime must bring: 64-bit, little end first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["MACHINES", "ElfFile", "read_elf"]

MACHINES = {"linux-64": 62, "linux-aarch64": 183}
"""``e_machine`` by platform: EM_X86_64, EM_AARCH64."""
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRTAB, _STRSZ = 0, 1, 5, 10
_LIMIT = 1 << 22  # bytes of a dynamic section or its strings


@dataclass(frozen=True, kw_only=True)
class ElfFile:
    """``machine`` is ``e_machine``; ``needed`` the names of the libraries it is linked to."""

    machine: int
    needed: tuple[str, ...]


def read_elf(file: BinaryIO) -> ElfFile | None:
    """Read a file that may be ELF; ``None`` if it is not, or is of a kind that no node of ours runs."""
    head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return None
    (machine,) = struct.unpack_from("<H", head, 18)
    (programs,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    if size != 56:
        return ElfFile(machine=machine, needed=())
    table = _at(file, programs, size * count)
    segments = [struct.unpack_from("<IIQQQQ", table, place) for place in range(0, len(table) - 55, 56)]
    return ElfFile(machine=machine, needed=tuple(_needed(file, segments)))


def _needed(file: BinaryIO, segments: list[tuple[int, ...]]) -> Iterator[str]:
    dynamic = next((segment for segment in segments if segment[0] == _DYNAMIC), None)
    if dynamic is None:
        return
    tags = list(struct.iter_unpack("<QQ", _whole(_at(file, dynamic[2], dynamic[5]))))
    end = next((number for number, (tag, _) in enumerate(tags) if tag == _END), len(tags))
    values = dict(tags[:end])
    place = _file_offset(values.get(_STRTAB, 0), segments)
    if place is None:
        return
    strings = _at(file, place, values.get(_STRSZ, 0))
    for tag, value in tags[:end]:
        if tag == _NEEDED and value < len(strings):
            yield strings[value:].partition(b"\0")[0].decode("utf-8", "surrogateescape")


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
