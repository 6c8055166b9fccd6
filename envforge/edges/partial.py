"""Half a download: what came of an artifact stays, under its sha256, until the rest comes.

::

    DIR/part-SHA256                         nobody is at it
    DIR/part-SHA256.HOST-PID-START-RANDOM   somebody is, or was: the owner's mark tells

Nothing is known of the half but its name: whoever goes on with it hashes it, and the sha256 of the whole
decides.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from envforge.edges.scratch import abandoned, owner_mark

__all__ = ["Downloaded", "Sink", "claimed", "clear_partial", "drop_partials", "open_partial"]

_CHUNK = 1 << 18
# Some of these are not to be had on every system that a mirror can be made on.
_FLAGS = os.O_RDWR | os.O_CREAT
for _name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)
_NAME = re.compile(r"part-(?P<sha256>[0-9a-f]{64})(\.(?P<owner>.+))?")
_KEPT = 7 * 24 * 3600  # seconds for which the half of something that nobody has asked for again is kept


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What arrived: hashes in lower-case hex, sizes in bytes.

    ``md5`` is empty where it was not asked for; ``resumed`` bytes of ``size`` were there from a former run.
    """

    sha256: str
    md5: str
    size: int
    resumed: int = 0


class Sink:
    """A file that is hashed as it is written.

    :param file: open for reading and writing; what it holds becomes the beginning.
    :param advance: told the number of bytes that are there, and a negative one when they are given up.  What
        it raises ends the writing before the bytes are written.
    """

    def __init__(self, file: BinaryIO, advance: Callable[[int], None], *, with_md5: bool) -> None:
        self._file = file
        self._advance = advance
        self._with_md5 = with_md5
        self.pieced = False
        """Whether it holds bytes of more than one answer, which may be of different files."""
        self.encoded = False
        """Whether the server said that its bytes stand for others."""
        self.size = 0
        self._reset()
        while chunk := file.read(_CHUNK):
            self._count(chunk)
        self._resumed = self.size

    def _reset(self) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = self._resumed = 0

    def _count(self, chunk: bytes) -> None:
        self._advance(len(chunk))
        self._sha256.update(chunk)
        if self._with_md5:
            self._md5.update(chunk)
        self.size += len(chunk)

    def write(self, chunk: bytes) -> None:
        """Add to the end."""
        self._count(chunk)
        self._file.write(chunk)

    def restart(self) -> None:
        """Give up what is there."""
        if self.size:
            self._advance(-self.size)
        self._file.seek(0)
        self._file.truncate()
        self._reset()
        self.pieced = False

    def downloaded(self) -> Downloaded:
        """Hashes and size of what is there."""
        return Downloaded(
            sha256=self._sha256.hexdigest(),
            md5=self._md5.hexdigest() if self._with_md5 else "",
            size=self.size,
            resumed=self._resumed,
        )


def open_partial(path: Path) -> BinaryIO:
    """Open a file to read what it holds and write on; made if there is none.

    Whatever else lies there (a link, a file that has another name, too, or another owner) is replaced, never
    written to.

    :raises OSError: if that is not possible.
    """
    with suppress(FileNotFoundError):
        if not _is_ours(path):
            path.unlink()
    return os.fdopen(os.open(path, _FLAGS, 0o644), "r+b")


@contextmanager
def claimed(directory: Path, sha256: str) -> Iterator[Path]:
    """A path for an artifact on its way, which nobody else has; it may hold how the artifact begins.

    What is left there at the end is kept for the next one who comes.
    """
    mine = directory / f"part-{sha256}.{owner_mark()}-{os.urandom(4).hex()}"
    free = [path for path, other in _partials(directory) if other == sha256]
    for path in sorted(free, key=_size, reverse=True):
        with suppress(OSError):  # somebody else was faster
            if _is_ours(path):
                path.rename(mine)
                break
    try:
        yield mine
    finally:
        with suppress(OSError):
            mine.replace(directory / f"part-{sha256}")


def drop_partials(directory: Path, is_needed: Callable[[str], bool]) -> None:
    """Remove halves that nobody is at: of what is not needed, and all that are older than a week.

    :param is_needed: by the sha256 of the artifact.
    """
    for path, sha256 in _partials(directory):
        with suppress(OSError):
            if not is_needed(sha256) or time.time() - path.lstat().st_mtime > _KEPT:
                path.unlink()


def _partials(directory: Path) -> list[tuple[Path, str]]:
    """The halves that nobody is at, and the sha256 of what they are of."""
    found = []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            with suppress(OSError):
                modified = entry.stat(follow_symlinks=False).st_mtime
                if match["owner"] is None or abandoned(match["owner"], modified):
                    found.append((Path(entry.path), match["sha256"]))
    return found


def _is_ours(path: Path) -> bool:
    status = path.lstat()
    own = os.name != "posix" or status.st_uid == os.geteuid()
    return own and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def clear_partial(destination: Path, *, keep: bool) -> None:
    """Remove what a failed download left, unless it is the beginning of what was wanted."""
    with suppress(OSError):
        if not keep or destination.lstat().st_size == 0:
            destination.unlink()
