"""The plain tar inside a bundle: regular files one after the other, read without unpacking.

Format: ustar, with a pax header before a member whose name or size does not fit
(:mod:`envforge.edges.ustar`).  What is read is a file from outside: any other byte than would
have been written of these names and sizes is refused, and so is a size that the file does not have.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from envforge.edges.archive import ENTRY_LIMIT, check_member
from envforge.edges.ustar import BLOCK, extended_header
from envforge.errors import InputError

__all__ = ["TarMember", "member_header", "read_members"]

_PAX_LIMIT = 1 << 16
"""Bytes of one pax header; ours have one path and perhaps a size."""
_NUMBER = re.compile(rb"[ ]*([0-7]{1,11})[ \0]*")
_RECORD = re.compile(rb"([0-9]{1,6}) (path|size)=([^\n]*)\n")
_LARGEST = 1 << 63


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """A regular file in a tar: its name, and where its content begins and how many bytes it has."""

    name: str
    offset: int
    size: int


def member_header(name: str, size: int) -> bytes:
    """The header, or headers, of a regular file with mode 0644 and no owner."""
    return extended_header(name, size=size, mode=0o644)


def read_members(file: BinaryIO, start: int, place: Path) -> dict[str, TarMember]:
    """The members of the tar that begins at ``start`` and ends with the file, by name, in their order.

    :param place: the file's name, for errors.
    :raises InputError: if it is no tar of regular files, ends too early, or has a name twice.
    """
    end = os.fstat(file.fileno()).st_size
    members: dict[str, TarMember] = {}
    unlike: set[str] = set()
    begin, position, named, sized = start, start, None, None
    while True:
        block = _block(file, position, end, place)
        position += BLOCK
        first = position == begin + BLOCK
        if block == bytes(BLOCK) and first:
            _check_end(file, position, end, place)
            return members
        kind, name, size = _header(block, place)
        if kind == "pax" and first:
            named, sized = _pax(file, position, size, end, place)
            position += size + -size % BLOCK
            continue
        name, size = named or name, size if sized is None else sized
        named = sized = None
        if kind == "pax" or size > end - position or len(members) >= ENTRY_LIMIT:
            raise _damaged(place, f"{name} claims {size} bytes, which are not there")
        check_member(name, at=str(place))
        form = unicodedata.normalize("NFC", name).casefold()
        if form in unlike:
            raise _damaged(place, f"{name} is there twice, but perhaps for the form of its letters")
        unlike.add(form)
        members[name] = TarMember(name=name, offset=position, size=size)
        if _read(file, begin, position) != member_header(name, size):
            raise _damaged(place, f"the header of {name} is not one that envforge writes")
        begin = position + size + -size % BLOCK
        if any(_read(file, position + size, begin)):
            raise _damaged(place, f"something follows {name}")
        position = begin


def _read(file: BinaryIO, begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _block(file: BinaryIO, position: int, end: int, place: Path) -> bytes:
    file.seek(position)
    block = file.read(BLOCK) if position + BLOCK <= end else b""
    if len(block) != BLOCK:
        raise _damaged(place, "it ends too early")
    return block


def _check_end(file: BinaryIO, position: int, end: int, place: Path) -> None:
    if _block(file, position, end, place) != bytes(BLOCK) or position + BLOCK != end:
        raise _damaged(place, "something follows its end")


def _header(block: bytes, place: Path) -> tuple[str, str, int]:
    """Kind, name and size of a member."""
    checksum, size = _octal(block[148:156]), _octal(block[124:136])
    blank = block[:148] + b" " * 8 + block[156:]
    if checksum != sum(blank) or block[257:262] != b"ustar" or size is None:
        raise _damaged(place, "a header in it is damaged")
    kinds = {b"0": "file", b"x": "pax"}
    kind = kinds.get(block[156:157])
    if kind is None:
        raise _damaged(place, "it holds something that is no regular file")
    prefix, name = (part.split(b"\0", 1)[0] for part in (block[345:500], block[:100]))
    return kind, _text(prefix + b"/" + name if prefix else name, place), size


def _octal(field: bytes) -> int | None:
    match = _NUMBER.fullmatch(field)
    return int(match[1], 8) if match else None


def _text(name: bytes, place: Path) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(place, "a name in it is not UTF-8") from error


def _pax(file: BinaryIO, position: int, size: int, end: int, place: Path) -> tuple[str | None, int | None]:
    """The name and size that a pax header says of the member after it."""
    if size > _PAX_LIMIT or position + size > end:
        raise _damaged(place, "a header in it is too large")
    file.seek(position)
    text, at = file.read(size), 0
    name: str | None = None
    number: int | None = None
    while at < len(text):
        record = _RECORD.match(text, at)
        if record is None or int(record[1]) != len(record[0]):
            raise _damaged(place, "a header in it is damaged")
        if record[2] == b"path":
            name = _text(record[3], place)
        elif record[3].isdigit() and len(record[3]) < 20 and int(record[3]) < _LARGEST:
            number = int(record[3])
        else:
            raise _damaged(place, "a header in it is damaged")
        at = record.end()
    return name, number


def _damaged(place: Path, why: str) -> InputError:
    return InputError(
        f"the bundle is damaged: {why}", at=str(place), do="carry it again; compare sha256sum on both sides"
    )
