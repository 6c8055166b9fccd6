"""Writing a bundle: the header, then the tar, hashed as a whole and member by member in one pass."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from io import RawIOBase
from pathlib import Path

from envforge.edges.tarball import member_header
from envforge.edges.ustar import END, padding
from envforge.errors import CouldNotError
from envforge.formats import bundle_header
from envforge.model.bundle import HEADER_SIZE, Header

__all__ = ["Member", "places", "write_bundle"]

_CHUNK = 1 << 20
_AT_ONCE = 8
"""Chunks in memory that are still to be hashed."""

Member = tuple[str, int, str, "bytes | Path"]
"""Name, size, sha256, and the content or where it lies."""


def places(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Where in the file the contents of the first members begin."""
    found, position = {}, HEADER_SIZE
    for name, size in sizes:
        position += len(member_header(name, size))
        found[name] = position
        position += size + len(padding(size))
    return found


def write_bundle(
    path: Path, header: Header, members: Iterable[Member], advance: Callable[[int], None]
) -> tuple[str, int]:
    """Write the new file ``path``.

    :param advance: told of bytes as they are written.
    :returns: its sha256 and size.
    :raises CouldNotError: if a member is not what is claimed of it; the file is then of no use.
    :raises OSError: if the disk refuses.
    """
    with path.open("xb", buffering=0) as file, ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        whole = _Whole(file, _Digest(one))
        whole.write(bundle_header.write(header))
        for name, size, sha256, content in members:
            whole.write(member_header(name, size))
            digest = _Digest(other)
            for chunk in _chunks(content):
                digest.update(chunk)
                whole.write(chunk)
                advance(len(chunk))
            _check(name, size, sha256, content, digest)
            whole.write(padding(size))
        whole.write(END)
        return whole.digest.finish(), whole.digest.size


def _check(name: str, size: int, sha256: str, content: bytes | Path, digest: _Digest) -> None:
    found = digest.finish()
    if digest.size != size or found != sha256:
        raise CouldNotError(
            f"{name.rpartition('/')[2]} is not the file that was locked:"
            f" sha256 {found[:16]}… instead of {sha256[:16]}…",
            at=str(content) if isinstance(content, Path) else name,
            do="remove it, then the same command again: it is fetched anew",
        )


def _chunks(content: bytes | Path) -> Iterable[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


class _Digest:
    """A sha256 that is made in another thread, while this one reads and writes."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.size = 0
        self._digest = hashlib.sha256()
        self._pool = pool
        self._waiting: deque[Future[None]] = deque()

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._waiting.append(self._pool.submit(self._digest.update, data))
        while len(self._waiting) > _AT_ONCE:
            self._waiting.popleft().result()

    def finish(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._digest.hexdigest()


class _Whole:
    """The file as it is written, and its digest."""

    def __init__(self, file: RawIOBase, digest: _Digest) -> None:
        self.digest = digest
        self._file = file

    def write(self, data: bytes) -> None:
        self.digest.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
