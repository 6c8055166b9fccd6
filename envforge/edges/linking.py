"""Files of a store in a tree: hard links where that is possible, else reflinks, else copies.

A hard link costs no space and hardly any time.  It is not to be had across file systems, where a file system
has none, and where the kernel forbids links to other users' files (``fs.protected_hardlinks``).
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

__all__ = ["Linker"]

_FICLONE = 0x40049409  # ioctl_ficlonerange(2)
_WHY = {
    errno.EXDEV: "the store is on another file system",
    errno.EPERM: "the store's files belong to somebody else, or its file system has no hard links",
    errno.EACCES: "the store's files belong to somebody else",
    errno.EOPNOTSUPP: "the file system has no hard links",
    errno.ENOSYS: "the file system has no hard links",
    errno.EMLINK: "some files have as many hard links as the file system allows",
}
_FOR_ONE_FILE = (errno.EMLINK,)  # the next file may be linked all the same
_NO_REFLINK = (
    errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.EBADF
)  # fmt: skip


class Linker:
    """Puts files into a tree that is being made, and remembers why any of them was not hard-linked.

    :param links: whether files may be hard-linked at all; not where a program will write into the tree.

    ``reason`` says in words why files were copied, empty where none was.
    """

    def __init__(self, *, links: bool = True) -> None:
        self.links = links
        self.reason = ""
        self._refused: set[int] = set()  # devices from which no file can be linked
        self._cloning = True

    def place(self, source: str, target: str) -> None:
        """Have the file ``source`` at ``target`` too, where nothing is yet.

        :raises OSError: if that is not possible in any way.
        """
        if self.links:
            device = os.stat(source).st_dev if self._refused else -1
            if device not in self._refused:
                try:
                    os.link(source, target)
                except OSError as error:
                    if error.errno not in _WHY:
                        raise
                    self._learn(error.errno, source)
                else:
                    return
        self._copy(source, target)

    def notice(self, source: Path, placed: Path) -> None:
        """Learn from how somebody else placed a file of the store.

        :param placed: where a copy or a link of ``source`` is now.
        """
        if self.links and not os.path.samestat(source.stat(), placed.stat()):
            across = source.stat().st_dev != placed.stat().st_dev
            self._learn(errno.EXDEV if across else errno.EPERM, str(source))

    def _learn(self, number: int, source: str) -> None:
        self.reason = self.reason or _WHY[number]
        if number not in _FOR_ONE_FILE:
            self._refused.add(os.stat(source).st_dev)

    def _copy(self, source: str, target: str) -> None:
        if not (self._cloning and self._clone(source, target)):
            shutil.copyfile(source, target)
        os.chmod(target, os.stat(source).st_mode & 0o777)

    def _clone(self, source: str, target: str) -> bool:
        import fcntl

        with open(source, "rb") as old, open(target, "xb") as new:
            try:
                fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
            except OSError as error:
                if error.errno not in _NO_REFLINK:
                    raise
                self._cloning = False
                return False
        return True
