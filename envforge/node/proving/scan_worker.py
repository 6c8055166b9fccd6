"""Read entries of a tree and say what they are.  Imported by ``scan``, which also runs it in processes:

    python -I -S -B scan_worker.py ROOT

Hashing small files is bound by the interpreter, and threads share one.  A message is eight bytes of length
and then fields with a NUL between them.  The question: how many bytes to read, then the items: ``dPATH`` for
a directory with all below it, ``fPATH`` for a file, a capital for the second try.  The answer: path and
state of each entry in turn, and after two NULs the items that are left.  It ends with its standard input.

A state: ``f644 SIZE SHA256``, ``d755``, ``lTARGET``, ``s600`` (a socket, a pipe, a device), or
``?13 f600 SIZE`` for what cannot be read, with the error's number and what is known all the same.

Files are opened relative to their directory, links are not followed and pipes are not waited for, whatever
an entry becomes while it is looked at.  What is gone by then is not there.  Starting has to be quick, so: few
imports, and nothing of envforge's.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from hashlib import sha256

RECEIPT = b".envforge/receipt.json"
"""The one file of a generation that the receipt cannot list: itself."""

ROOT = b"."
"""The path of the tree itself, which is there only if that cannot be read."""

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = _FILE | getattr(os, "O_DIRECTORY", 0)
_BUFFER = 1 << 18
_ENTRY = 1 << 14  # bytes that could be hashed while one file is opened and closed
_GONE = (errno.ENOENT, errno.ENOTDIR)
_BECAME = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # it is of another kind by now


def look(root: bytes, items: list[bytes], budget: int) -> tuple[list[bytes], list[bytes]]:
    """Path and state, in turn, of what ``budget`` bytes suffice for; and the items that are left."""
    here = _Look(root, items, budget)
    while here.items and here.budget > 0:
        item = here.items.pop()
        here.again = item[:1].isupper()
        if item[:1] in b"dD":
            here.directory(item[1:])
        else:
            here.file(None, here.at(item[1:]), item[1:])
    return here.entries, here.items + here.later


class _Look:
    def __init__(self, root: bytes, items: list[bytes], budget: int) -> None:
        self.root = root
        self.items = items
        self.later: list[bytes] = []
        self.budget = budget
        self.whole = budget
        self.again = False
        self.entries: list[bytes] = []
        self.buffer = bytearray(_BUFFER)

    def at(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def directory(self, path: bytes) -> None:
        try:
            handle = os.open(self.at(path), _DIRECTORY)
        except OSError as error:
            self.unread(None, self.at(path), path or ROOT, error)
            return
        self.again = False
        try:
            if path:
                self.entries += (path, b"d%o" % stat.S_IMODE(os.fstat(handle).st_mode))
            self.budget -= _ENTRY
            with os.scandir(handle) as found:
                for entry in found:
                    self.entry(handle, entry, path + b"/" if path else b"")
        except OSError as error:
            self.unread(None, self.at(path), path or ROOT, error)
        finally:
            os.close(handle)

    def entry(self, handle: int, entry: os.DirEntry[str], below: bytes) -> None:
        path = below + os.fsencode(entry.name)
        if path == RECEIPT:
            return
        if entry.is_symlink():
            self.special(handle, entry.name, path)
        elif entry.is_dir(follow_symlinks=False):
            self.items.append(b"d" + path)
        elif not entry.is_file(follow_symlinks=False):
            self.special(handle, entry.name, path)
        elif self.budget > 0:
            self.file(handle, entry.name, path)
        else:
            self.later.append(b"f" + path)

    def file(self, handle: int | None, name: bytes | str, path: bytes) -> None:
        """Hash one file, or leave it for later if it is large and others were done."""
        try:
            file = os.open(name, _FILE, dir_fd=handle)
        except OSError as error:
            self.unread(handle, name, path, error)
            return
        try:
            status = os.fstat(file)
            if stat.S_ISDIR(status.st_mode):
                self.later.append(b"D" + path)
            elif not stat.S_ISREG(status.st_mode):
                self.entries += (path, b"s%o" % stat.S_IMODE(status.st_mode))
            elif status.st_size > self.budget < self.whole:
                self.later.append(b"f" + path)
            else:
                size, digest = self.hashed(file)
                self.entries += (
                    path,
                    b"f%o %d %s" % (stat.S_IMODE(status.st_mode), size, digest.encode()),
                )
                self.budget -= size + _ENTRY
        except OSError as error:
            self.unread(handle, name, path, error)
        finally:
            os.close(file)

    def hashed(self, file: int) -> tuple[int, str]:
        """How many bytes there were, which is what was hashed, and their sha256."""
        view, buffers = memoryview(self.buffer), [self.buffer]
        size = got = os.readv(file, buffers)
        digest = sha256(view[:got])
        while got:
            got = os.readv(file, buffers)
            digest.update(view[:got])
            size += got
        return size, digest.hexdigest()

    def special(self, handle: int | None, name: bytes | str, path: bytes) -> None:
        """What is no file and no directory: a link, or what no package brings."""
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(os.fsencode(name), dir_fd=handle)
                self.entries += (path, b"l" + target)
            else:
                self.entries += (path, b"s%o" % stat.S_IMODE(status.st_mode))
        except OSError as error:
            self.unread(handle, name, path, error)

    def unread(self, handle: int | None, name: bytes | str, path: bytes, error: OSError) -> None:
        """What could not be read: gone, something else by now, or not to be read."""
        try:
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError as again:
            if path == ROOT or again.errno not in _GONE:
                self.entries += (path, b"?%d f0 0" % (again.errno or 0))
            return
        mode = stat.S_IMODE(status.st_mode)
        kind = stat.S_IFMT(status.st_mode)
        became = error.errno in _BECAME and path != ROOT
        if became and kind not in (stat.S_IFDIR, stat.S_IFREG):
            self.special(handle, name, path)
        elif became and not self.again:
            self.later.append((b"D" if kind == stat.S_IFDIR else b"F") + path)
        elif became:  # again: it changes faster than it is looked at, which nothing of a package does
            self.entries += (path, b"s%o" % mode)
        elif kind == stat.S_IFDIR:
            self.entries += (path, b"?%d d%o" % (error.errno or 0, mode))
        elif kind == stat.S_IFREG:
            self.entries += (path, b"?%d f%o %d" % (error.errno or 0, mode, status.st_size))
        else:
            self.entries += (path, b"?%d s%o" % (error.errno or 0, mode))


def main(root: bytes) -> None:
    """Answer until there are no more questions."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who asks has to clean up, and nobody wants two stories
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(head := questions.read(8)) == 8:
        budget, *items = questions.read(int.from_bytes(head, "little")).split(b"\0")
        entries, left = look(root, items, int(budget))
        answer = b"\0".join(entries) + b"\0\0" + b"\0".join(left)
        answers.write(len(answer).to_bytes(8, "little") + answer)
        answers.flush()


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]))
