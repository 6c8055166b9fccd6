"""Writing a bundle: the header, then the tar, hashed as a whole and member by member in one pass."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from envforge.edges.tarball import member_header
from envforge.edges.ustar import END, padding
from envforge.errors import CouldNotError
from envforge.formats import bundle_header
from envforge.model.bundle import HEADER_SIZE, Header

__all__ = ["Member", "places", "write_bundle"]

_CHUNK = 1 << 18
"""Small enough for what was read to be in the processor's cache still when it is hashed and written."""
_COUNT = 8
"""Used again and again: the kernel would have to clear the pages of new ones."""

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
    with path.open("xb", buffering=0) as file, _hashing() as all_of_it, _hashing() as one_by_one:
        output = _Output(file, all_of_it)
        output.write(bundle_header.write(header))
        buffers, digests = _Buffers(all_of_it, one_by_one), []
        for name, size, sha256, content in members:
            output.write(member_header(name, size))
            digest, came = hashlib.sha256(), 0
            for chunk in _chunks(content, buffers):
                one_by_one.add(digest, chunk)
                output.write(chunk)
                came += len(chunk)
                advance(len(chunk))
                if came > size:
                    break
            if came != size:
                raise _another(name, content, f"{came} bytes instead of {size}")
            digests.append((name, sha256, content, digest))
            output.write(padding(size))
        output.write(END)
        one_by_one.wait(0)
        for name, sha256, content, digest in digests:
            if digest.hexdigest() != sha256:
                raise _another(name, content, f"sha256 {digest.hexdigest()[:16]}… instead of {sha256[:16]}…")
        all_of_it.wait(0)
        return output.digest.hexdigest(), output.size


def _another(name: str, content: bytes | Path, how: str) -> CouldNotError:
    return CouldNotError(
        f"{name.rpartition('/')[2]} is not the file that was locked: {how}",
        at=str(content) if isinstance(content, Path) else name,
        do="remove it, then the same command again: it is fetched anew",
    )


def _chunks(content: bytes | Path, buffers: _Buffers) -> Iterator[bytes | memoryview]:
    """The content in pieces."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb", buffering=0) as file:
        while chunk := buffers.filled(file):
            yield chunk


class _Buffers:
    """Memory to read into: each piece is free again when it was hashed."""

    def __init__(self, *hashers: _Hasher) -> None:
        self._hashers = hashers
        self._buffers = deque(memoryview(bytearray(_CHUNK)) for _ in range(_COUNT))

    def filled(self, file: RawIOBase) -> memoryview:
        """The next piece of ``file``; empty at its end, which uses up no memory.

        Whoever gets a piece gives it to every hasher: of the last ``_COUNT`` of them all but the first may
        be waiting still.
        """
        for hasher in self._hashers:
            hasher.wait(_COUNT - 1)
        size = file.readinto(self._buffers[0]) or 0
        piece = self._buffers[0][:size]
        if size:
            self._buffers.rotate(-1)
        return piece


class _Hasher:
    """Hashes in a thread of its own, while the caller reads and writes."""

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[hashlib._Hash, bytes | memoryview] | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._open = 0
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, digest: hashlib._Hash, data: bytes | memoryview) -> None:
        """Hash ``data``, which must not change until it was waited for."""
        self._todo.put((digest, data))
        self._open += 1

    def wait(self, number: int) -> None:
        """Wait until no more than ``number`` pieces are still to be hashed."""
        while self._open > number:
            self._done.get()
            self._open -= 1

    def end(self) -> None:
        self._todo.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            digest, data = task
            digest.update(data)
            self._done.put(None)


@contextmanager
def _hashing() -> Iterator[_Hasher]:
    hasher = _Hasher()
    try:
        yield hasher
    finally:
        hasher.end()


class _Output:
    """The file as it is written, and its digest."""

    def __init__(self, file: RawIOBase, hasher: _Hasher) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._file = file
        self._hasher = hasher

    def write(self, data: bytes | memoryview) -> None:
        self._hasher.add(self.digest, data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
