"""Writing a bundle: the header, then the tar, hashed as a whole and member by member in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from io import RawIOBase
from pathlib import Path

from envforge.edges.tarball import end_of_tar, member_header, padding
from envforge.errors import CouldNotError
from envforge.formats import bundle_header
from envforge.model.bundle import HEADER_SIZE, Header

__all__ = ["Member", "places", "write_bundle"]

_CHUNK = 4 << 20
_AT_ONCE = 4
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
    with path.open("xb", buffering=0) as file, closing(_Whole(file)) as whole:
        whole.write(bundle_header.write(header))
        for name, size, sha256, content in members:
            whole.write(member_header(name, size))
            _write_content(whole, name, size, sha256, content, advance)
            whole.write(padding(size))
        whole.write(end_of_tar())
        return whole.finish()


def _write_content(
    whole: _Whole, name: str, size: int, sha256: str, content: bytes | Path, advance: Callable[[int], None]
) -> None:
    digest, written = hashlib.sha256(), 0
    for chunk in _chunks(content):
        whole.write(chunk)
        digest.update(chunk)
        written += len(chunk)
        advance(len(chunk))
    if written != size or digest.hexdigest() != sha256:
        raise CouldNotError(
            f"{name.rpartition('/')[2]} is not the file that was locked:"
            f" sha256 {digest.hexdigest()[:16]}… instead of {sha256[:16]}…",
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


class _Whole:
    """The file as it is written, and its sha256, which is made in another thread meanwhile."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def write(self, data: bytes) -> None:
        self._waiting.append(self._pool.submit(self._digest.update, data))
        while len(self._waiting) > _AT_ONCE:
            self._waiting.pop(0).result()
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        self._size += len(data)

    def finish(self) -> tuple[str, int]:
        for future in self._waiting:
            future.result()
        return self._digest.hexdigest(), self._size
