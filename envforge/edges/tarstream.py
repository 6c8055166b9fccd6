"""Tars that others wrote, read as they come: layers of images, and archives of images.

Formats: ustar, with pax (POSIX.1-2001) and GNU extensions for long names and large sizes.  A name is given
without ``./`` and ``/`` before it; one that leads out is refused, and so are headers of a size that no name
needs.  Nothing is unpacked.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from envforge.errors import InputError

__all__ = ["Content", "TarEntry", "read_tar"]

_BLOCK = 512
_CHUNK = 1 << 20
_EXTENSION_LIMIT = 1 << 20
"""Bytes of the extended header of one member."""
_ENTRY_LIMIT = 20_000_000
_RECORD = re.compile(rb"([0-9]{1,7}) ([^=\n]{1,200})=")
_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hard", b"2": "link", b"5": "directory",
    b"3": "special", b"4": "special", b"6": "special",
}  # fmt: skip


@dataclass(frozen=True)
class TarEntry:
    """One member: ``kind`` is ``file``, ``directory``, ``link``, ``hard`` (a second name) or ``special``.

    ``offset`` is where its content begins in the stream, ``target`` what a link points to or the first name.
    The empty name is the root itself.
    """

    name: str
    kind: str
    mode: int
    size: int
    target: str
    offset: int


Content = Callable[[], Iterator[bytes]]
"""Gives the content of the entry that was yielded last, in pieces; to be called before the next one."""


def read_tar(stream: BinaryIO, *, at: str) -> Iterator[tuple[TarEntry, Content]]:
    """The members of a tar in their order; what is not read of a content is passed over.

    :param at: what the stream is, for errors.
    :raises InputError: if it is no tar, ends too early, or has a member that leads out.
    """
    return _Reader(stream, at).entries()


class _Reader:
    def __init__(self, stream: BinaryIO, at: str) -> None:
        self._stream = stream
        self._at = at
        self._position = 0
        self._left = 0  # of the current content, its padding included
        self._padding = 0
        self._seekable = stream.seekable()

    def entries(self) -> Iterator[tuple[TarEntry, Content]]:
        extended: dict[bytes, bytes] = {}
        for number in range(_ENTRY_LIMIT):
            self._skip()
            block = self._read(_BLOCK, whole=number > 0)
            if not block or block == bytes(_BLOCK):
                return
            kind, size = block[156:157], self._header_size(block)
            if kind in (b"x", b"g", b"L", b"K"):
                content = self._extension(size)
                if kind == b"x":
                    extended |= self._records(content)
                elif kind != b"g":
                    extended[b"path" if kind == b"L" else b"linkpath"] = content.rstrip(b"\0")
                continue
            entry = self._entry(block, size, extended)
            extended = {}
            size = entry.size if entry.kind == "file" else 0
            self._padding = -size % _BLOCK
            self._left = size + self._padding
            yield entry, self._content
        raise self._wrong("it has too many members")

    def _entry(self, block: bytes, size: int, extended: dict[bytes, bytes]) -> TarEntry:
        kind = _KINDS.get(block[156:157])
        if kind is None or any(key.startswith(b"GNU.sparse") for key in extended):
            raise self._wrong("it holds a member of a kind that is not known")
        name, link = block[:100].split(b"\0", 1)[0], block[157:257].split(b"\0", 1)[0]
        prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
        name = extended.get(b"path", prefix + b"/" + name if prefix else name)
        if kind == "file" and name.endswith(b"/"):  # how tars wrote directories before there was a kind
            kind = "directory"
        told = extended.get(b"size", b"%d" % size)
        if not told.isdigit() or len(told) > 19:
            raise self._wrong("a header in it is damaged")
        target = _text(extended.get(b"linkpath", link))
        return TarEntry(
            name=self._inside(_text(name)),
            kind=kind,
            mode=self._number(block[100:108]) & 0o7777,
            size=int(told) if kind == "file" else 0,
            target=self._inside(target) if kind == "hard" else target,
            offset=self._position,
        )

    def _inside(self, name: str) -> str:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise self._wrong(f"the name {name!r} leads out of it")
        return "/".join(parts)

    def _content(self) -> Iterator[bytes]:
        while self._left > self._padding:
            piece = self._read(min(_CHUNK, self._left - self._padding))
            self._left -= len(piece)
            yield piece

    def _skip(self) -> None:
        if self._left and self._seekable:
            self._stream.seek(self._left, io.SEEK_CUR)
            self._position += self._left
            self._left = 0
        while self._left:
            self._left -= len(self._read(min(_CHUNK, self._left)))

    def _extension(self, size: int) -> bytes:
        if size > _EXTENSION_LIMIT:
            raise self._wrong("a header in it is too large")
        return self._read(size + -size % _BLOCK)[:size]

    def _records(self, content: bytes) -> dict[bytes, bytes]:
        found, at = {}, 0
        while at < len(content):
            record = _RECORD.match(content, at)
            end = at + int(record[1]) if record else 0
            if record is None or end <= record.end() or content[end - 1 : end] != b"\n":
                raise self._wrong("a header in it is damaged")
            found[record[2]] = content[record.end() : end - 1]
            at = end
        return found

    def _header_size(self, block: bytes) -> int:
        signed = block[:148] + b" " * 8 + block[156:]
        if self._number(block[148:156]) != sum(signed):
            raise self._wrong("a header in it is damaged, or it is no tar")
        return self._number(block[124:136])

    def _number(self, field: bytes) -> int:
        """An octal number, or one in binary as GNU writes what is too large for that."""
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        digits = field.replace(b"\0", b" ").strip()
        if not re.fullmatch(rb"[0-7]*", digits):
            raise self._wrong("a header in it is damaged, or it is no tar")
        return int(digits or b"0", 8)

    def _read(self, size: int, *, whole: bool = True) -> bytes:
        pieces, left = [], size
        while left:
            piece = self._stream.read(left)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        self._position += size - left
        if left and (whole or left != size):
            raise self._wrong("it ends too early")
        return b"".join(pieces)

    def _wrong(self, why: str) -> InputError:
        return InputError(f"the tar cannot be used: {why}", at=self._at)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
