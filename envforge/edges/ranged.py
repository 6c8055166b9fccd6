"""A file on a server that is read like one on disk: only the parts that are looked at come over the line."""

from __future__ import annotations

import io
from typing import BinaryIO

from envforge.edges.fetch import Fetcher

__all__ = ["opened_in_parts"]

_BLOCK = 1 << 16
"""As much is asked for at a time: the directory of most wheels, and what lies before it, in one go."""
_LIMIT = 64 << 20
"""No more is read of one file: whoever wants more wants the file."""


def opened_in_parts(fetcher: Fetcher, url: str) -> BinaryIO | None:
    """What ``url`` holds, to be read in parts; ``None`` if the server gives away only whole files.

    Nothing holds what is read against a hash.

    :raises CouldNotError: if it cannot be read at all; from what is returned, too.
    """
    end = fetcher.part(url, f"-{_BLOCK}")
    if end is None:
        return None
    return io.BufferedReader(_InParts(fetcher, url, *end), _BLOCK)


class _InParts(io.RawIOBase):
    def __init__(self, fetcher: Fetcher, url: str, end: bytes, size: int) -> None:
        self._fetcher = fetcher
        self._url = url
        self._end = end
        self._size = size
        self._place = 0
        self._read = len(end)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = min(len(buffer), self._size - self._place)
        if wanted <= 0:
            return 0
        content = self._part(self._place, wanted)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _part(self, start: int, length: int) -> bytes:
        known = self._size - len(self._end)
        if start >= known:
            return self._end[start - known : start - known + length]
        self._read += length
        if self._read > _LIMIT:
            raise OSError(f"more than {_LIMIT} bytes were asked for")
        found = self._fetcher.part(self._url, f"{start}-{start + length - 1}")
        if found is None or len(found[0]) != length or found[1] != self._size:
            raise OSError("the server gives parts now and then only")
        return found[0]
