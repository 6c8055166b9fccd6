"""Members of a tar (POSIX ustar) whose bytes depend on nothing but their names, modes and contents.

A runtime has no extensions in it, which not every tar reads; in a bundle or an image names and sizes that
have no place in a header are said by a pax header (POSIX.1-2001) before it.
"""

from __future__ import annotations

from envforge.errors import InputError

__all__ = ["BLOCK", "END", "MTIME", "extended_header", "header", "padding"]

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
    parts = _split(name + "/" * directory)
    if parts is None:
        raise InputError("the path is too long for a tar", at=name)
    if size >= _LARGEST:
        raise InputError("larger than 8 GiB, which a tar of this kind cannot hold", at=name)
    return _block(*parts, size=size, mode=mode, kind=b"5" if directory else b"0")


def extended_header(
    name: str, *, size: int, mode: int, directory: bool = False, target: str | None = None
) -> bytes:
    """The header blocks of one member of any size, by any name.

    :param name: relative, ``/`` between its parts, without one at its end.
    :param target: what a symbolic link points to; ``None`` for what is none.
    """
    whole, link = name + "/" * directory, target or ""
    parts = _split(whole) if whole.isascii() else None
    linked = link if link.isascii() and len(link) <= 100 else None
    records = b"" if parts is not None else _record("path", whole)
    records += b"" if linked is not None else _record("linkpath", link)
    records += b"" if size < _LARGEST else _record("size", str(size))
    kind = b"5" if directory else b"0" if target is None else b"2"
    shortened, prefix = parts or (_ascii(whole), b"")
    plain = _block(
        shortened, prefix, size=size if size < _LARGEST else 0, mode=mode, kind=kind, target=_ascii(link)
    )
    if not records:
        return plain
    pax = _block(b"././@PaxHeader", b"", size=len(records), mode=0, kind=b"x")
    return pax + records + padding(len(records)) + plain


def padding(size: int) -> bytes:
    """What follows a content of ``size`` bytes."""
    return bytes(-size % BLOCK)


def _block(name: bytes, prefix: bytes, *, size: int, mode: int, kind: bytes, target: bytes = b"") -> bytes:
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % (0 if kind == b"x" else MTIME),
        b" " * 8,
        kind,
        target.ljust(100, b"\0"),
        b"ustar\x0000",
        bytes(64),
        bytes(16),  # of which device: of none
        prefix.ljust(155, b"\0"),
        bytes(12),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    """A record of a pax header, which begins with its own length."""
    rest = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _ascii(text: str) -> bytes:
    """What of a name a header without extensions has."""
    return text.encode("ascii", "replace")[:100]


def _split(name: str) -> tuple[bytes, bytes] | None:
    """The name and prefix fields: the name in two at a slash, if it must be; ``None`` if it has no place."""
    raw = name.encode("utf-8", "surrogateescape")
    if len(raw) <= 100:
        return raw, b""
    for cut in range(1, len(raw) - 1):
        if raw[cut] == ord("/") and cut <= 155 and len(raw) - cut - 1 <= 100:
            return raw[cut + 1 :], raw[:cut]
    return None
