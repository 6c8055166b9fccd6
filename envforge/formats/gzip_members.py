"""gzip whose bytes are the same on every laptop: made of members, each compressed by libdeflate.

The zlib that a Python is linked to is one of several, and they compress to different bytes.  libdeflate comes
inside the wheel of ``deflate``, whose version is pinned.  It compresses what it is given at once, so the
stream is cut: gzip, busybox and Python read members one after the other as one stream (RFC 1952, 2.2).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["gzip_members", "is_canonical"]

_MEMBER = 4 << 20
_LEVEL = 6
_SAMPLE = "142f98481c6620447da42deeaaf2fdc07d0691e98ac11a69672b99dcb5be5c3b"


def gzip_members(pieces: Iterable[bytes], *, jobs: int = 2) -> Iterator[bytes]:
    """Compress a stream, given and returned in pieces; holds some members per job in memory."""
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(jobs) as pool:
        for member in _cut(pieces):
            waiting.append(pool.submit(_compress, member))
            if len(waiting) > jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= _MEMBER:
            yield bytes(held[:_MEMBER])
            del held[:_MEMBER]
    if held:
        yield bytes(held)


def _compress(data: bytes) -> bytes:
    from deflate import gzip_compress

    return bytes(gzip_compress(data, _LEVEL))


def is_canonical() -> bool:
    """Whether this machine compresses as every other does: ``deflate`` may be linked to another library."""
    text = b"".join(hashlib.sha256(b"%d" % (number % 96)).hexdigest().encode() for number in range(4096))
    return hashlib.sha256(_compress(text)).hexdigest() == _SAMPLE
