"""Members of a tar (POSIX ustar) whose bytes depend on nothing but their names, modes and contents."""

from __future__ import annotations

from envforge.errors import InputError

__all__ = ["BLOCK", "END", "MTIME", "header", "member", "padding"]

BLOCK = 512
END = bytes(2 * BLOCK)
"""What a tar ends with."""
MTIME = 315532800
"""1980-01-01, in seconds since 1970: the earliest time that every archive format can say."""
_LARGEST = 1 << 33
_FILE, _LINK, _DIRECTORY, _EXTENDED = b"0", b"2", b"5", b"x"


def header(name: str, *, size: int, mode: int, directory: bool = False) -> bytes:
    """The header block of one member, owned by nobody in particular.

    :param name: relative, ``/`` between its parts, without one at its end.
    :raises InputError: if the name or the file is too long for the format.
    """
    split = _split(_raw(name + "/" * directory))
    if split is None:
        raise InputError("the path is too long for a tar", at=name)
    if size >= _LARGEST:
        raise InputError("larger than 8 GiB, which a tar of this kind cannot hold", at=name)
    return _block(*split, kind=_DIRECTORY if directory else _FILE, size=size, mode=mode)


def member(
    name: str, *, mode: int, size: int = 0, directory: bool = False, target: str | None = None
) -> bytes:
    """The header of one member, after an extended one (pax, POSIX.1-2001) for what does not fit.

    :param name: as for :func:`header`; of any length.
    :param target: what a symbolic link points to; ``None`` for what is none.
    """
    raw, link = _raw(name + "/" * directory), _raw(target or "")
    split = _split(raw)
    extended = _record(b"path", raw) if split is None else b""
    extended += _record(b"linkpath", link) if len(link) > 100 else b""
    extended += _record(b"size", b"%d" % size) if size >= _LARGEST else b""
    kind = _DIRECTORY if directory else _FILE if target is None else _LINK
    stem, prefix = split or (raw[:100], b"")
    block = _block(stem, prefix, kind=kind, size=size if size < _LARGEST else 0, mode=mode, target=link[:100])
    if not extended:
        return block
    first = _block(b"././@PaxHeader", b"", kind=_EXTENDED, size=len(extended), mode=0o644)
    return first + extended + padding(len(extended)) + block


def padding(size: int) -> bytes:
    """What follows a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def _block(stem: bytes, prefix: bytes, *, kind: bytes, size: int, mode: int, target: bytes = b"") -> bytes:
    fields = (
        stem.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % MTIME,
        b" " * 8,
        kind,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """One record of an extended header; its length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _split(raw: bytes) -> tuple[bytes, bytes] | None:
    """The name and prefix fields: the name in two at a slash, if it must be; ``None`` if it does not fit."""
    if len(raw) <= 100:
        return raw, b""
    for cut in range(len(raw) - 1):
        if raw[cut] == ord("/") and cut <= 155 and len(raw) - cut - 1 <= 100:
            return raw[cut + 1 :], raw[:cut]
    return None
