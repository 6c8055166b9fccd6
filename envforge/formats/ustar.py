"""Members of a tar (POSIX ustar) whose bytes depend on nothing but their names, modes and contents."""

from __future__ import annotations

from envforge.errors import InputError

__all__ = ["BLOCK", "END", "MTIME", "header", "padding"]

BLOCK = 512
END = bytes(2 * BLOCK)
"""What a tar ends with."""
MTIME = 315532800
"""1980-01-01, in seconds since 1970: the earliest time that every archive format can say."""
_LARGEST = 1 << 33


def header(name: str, *, size: int, mode: int, directory: bool = False) -> bytes:
    """The header block of one member, owned by nobody in particular.

    :param name: relative, ``/`` between its parts, without one at its end.
    :raises InputError: if the name or the file is too long for the format.
    """
    kind = b"5" if directory else b"0"
    stem, prefix = _split(name + "/" * directory)
    if size >= _LARGEST:
        raise InputError("larger than 8 GiB, which a tar of this kind cannot hold", at=name)
    fields = (
        stem.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> bytes:
    """What follows a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def _split(name: str) -> tuple[bytes, bytes]:
    """The name and prefix fields: the name in two at a slash, if it must be."""
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) <= 100:
        return raw, b""
    for cut in range(len(raw) - 1):
        if raw[cut] == ord("/") and cut <= 155 and len(raw) - cut - 1 <= 100:
            return raw[cut + 1 :], raw[:cut]
    raise InputError("the path is too long for a tar", at=name)
