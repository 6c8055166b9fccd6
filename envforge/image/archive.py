"""Writing an OCI archive: a tar whose blobs are named by their digests.

It is also what ``docker load`` reads: ``manifest.json`` points to the same blobs.  Each blob is written once,
as it is made: its header, which has its name, is filled in when its digest is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import BinaryIO

from envforge.edges import ustar
from envforge.formats.oci_json import LAYOUT

__all__ = ["ArchiveWriter", "blob_name"]


class ArchiveWriter:
    """Writes an OCI archive: a tar whose blobs are named by their digests.

    :param file: open for reading and writing, empty, and one that can be sought in.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digests: set[str] = set()
        self.add("oci-layout", LAYOUT)
        for folder in ("blobs", "blobs/sha256"):
            file.write(ustar.header(folder, size=0, mode=0o755, directory=True))

    def add(self, name: str, content: bytes) -> None:
        """One small file."""
        self._file.write(ustar.header(name, size=len(content), mode=0o644))
        self._file.write(content + ustar.padding(len(content)))

    def blob(
        self, pieces: Iterable[bytes], advance: Callable[[int], None] = lambda _: None
    ) -> tuple[str, int]:
        """One blob, whose name is known only when all of it is written.

        :returns: its digest and size.
        """
        begin = self._file.tell()
        self._file.write(bytes(ustar.BLOCK))
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            self._file.write(piece)
            advance(len(piece))
        name = f"sha256:{digest.hexdigest()}"
        if name in self._digests:  # the same layer twice is one blob
            self._file.seek(begin)
            self._file.truncate()
            return name, size
        self._digests.add(name)
        self._file.write(ustar.padding(size))
        end = self._file.tell()
        self._file.seek(begin)
        self._file.write(_header(blob_name(name), size))
        self._file.seek(end)
        return name, size

    def finish(self) -> None:
        """End the tar."""
        self._file.write(ustar.END)


def blob_name(digest: str) -> str:
    """The member that a blob is."""
    return f"blobs/{digest.replace(':', '/', 1)}"


def _header(name: str, size: int) -> bytes:
    """A header of one block, whatever the size: a large one is written as GNU does, in binary."""
    if size < 1 << 33:
        return ustar.header(name, size=size, mode=0o644)
    block = ustar.header(name, size=0, mode=0o644)
    block = block[:124] + b"\x80" + size.to_bytes(11, "big") + block[136:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
