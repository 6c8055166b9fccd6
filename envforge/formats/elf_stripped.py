"""A Linux program or library without what only debuggers and linkers read: symbols, strings, debug sections.

What is loaded is described by the program headers, so all of that is kept, byte for byte, and with it the
sections that lie there.  The others stand at the end of a file that a linker wrote; they are cut off, and a
shorter table of sections takes their place.  Where anything is otherwise, the file stays as it is.

No program of binutils does this here: each release of these writes other bytes, and one for the machine of
the target may not be there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

__all__ = ["StrippedElf", "strip_elf"]

_HEAD = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_LOADABLE = (2, 3)  # ET_EXEC, ET_DYN: an object file is for a linker, which needs its symbols
_NOTHING, _STRINGS, _ZEROS = 0, 3, 8  # SHT_NULL, SHT_STRTAB, SHT_NOBITS
_ALLOCATED, _INFO_IS_SECTION = 0x2, 0x40  # SHF_ALLOC, SHF_INFO_LINK
_LIMIT = 1 << 22  # bytes of a table, or of the names of sections


@dataclass(frozen=True, kw_only=True)
class StrippedElf:
    """What the file becomes: ``head``, the old file's bytes from there up to ``end``, ``tail``."""

    head: bytes
    end: int
    tail: bytes

    @property
    def size(self) -> int:
        """Bytes of the whole."""
        return self.end + len(self.tail)


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    @property
    def end(self) -> int:
        return self.offset + (0 if self.kind in (_NOTHING, _ZEROS) else self.size)


def strip_elf(file: BinaryIO) -> StrippedElf | None:
    """What a file becomes without its symbols; ``None`` if it is to stay as it is.

    :param file: any file, open for reading.
    :raises OSError: if it cannot be read.
    """
    size = file.seek(0, os.SEEK_END)
    raw = _at(file, 0, _HEAD.size)
    if len(raw) < _HEAD.size or raw[:6] != b"\x7fELF\x02\x01":
        return None
    head = _HEAD.unpack(raw)
    kind, programs, table = head[1], head[5], head[6]
    program_size, program_count, section_size, count, names_at = head[9:]
    sizes = (program_size, section_size)
    if kind not in _LOADABLE or sizes != (_SEGMENT.size, _SECTION.size) or names_at >= count:
        return None
    segments = _table(file, programs, program_count, _SEGMENT)
    sections = [_Section(*found) for found in _table(file, table, count, _SECTION)]
    kept = [section for section in sections if section.flags & _ALLOCATED or section.kind == _NOTHING]
    if len(segments) != program_count or len(sections) != count or not _can_go(kept, sections):
        return None
    names = _at(file, sections[names_at].offset, sections[names_at].size)
    loaded = [segment[2] + segment[5] for segment in segments] + [section.end for section in kept]
    end = max(_HEAD.size, programs + program_count * _SEGMENT.size, *loaded)
    # Whatever follows that no table knows is the program's own: it may look for it at its end.
    if size != max(table + count * _SECTION.size, *(section.end for section in sections)):
        return None
    tail, place = _tail(names, kept, end)
    stripped = StrippedElf(
        head=_HEAD.pack(*head[:6], place, *head[7:12], len(kept) + 1, len(kept)), end=end, tail=tail
    )
    return stripped if stripped.size < size else None


def _can_go(kept: list[_Section], sections: list[_Section]) -> bool:
    """Whether those that are kept come first, and name none of the others: sections are known by number."""
    named = [section.link for section in kept]
    named += [section.info for section in kept if section.flags & _INFO_IS_SECTION]
    return bool(kept) and list(sections[: len(kept)]) == kept and max(named) < len(kept)


def _tail(names: bytes, kept: Sequence[_Section], end: int) -> tuple[bytes, int]:
    """The names of sections, and the table of those that are kept and of the names; and where that begins."""
    padding = bytes(-(end + len(names)) % 8)
    # A name is known by its place in the names, so these stay as they are.
    own = _Section(_place_of(names), _STRINGS, 0, 0, end, len(names), 0, 0, 1, 0)
    table = b"".join(_SECTION.pack(*section) for section in (*kept, own))
    return names + padding + table, end + len(names) + len(padding)


def _place_of(names: bytes) -> int:
    return max(names.find(b".shstrtab\0"), 0)


def _table(file: BinaryIO, offset: int, count: int, entry: struct.Struct) -> list[tuple[int, ...]]:
    data = _at(file, offset, count * entry.size)
    return list(entry.iter_unpack(data[: len(data) - len(data) % entry.size]))


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Bytes of the file; fewer where it has not got them."""
    if size > _LIMIT or offset >= 1 << 62:
        return b""
    file.seek(offset)
    return file.read(size)
