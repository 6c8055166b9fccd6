"""What lies on disk: every entry of a tree as the receipt records it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread

from envforge.edges.hashing import file_sha256
from envforge.edges.process import Command, Conversation
from envforge.errors import CouldNotError
from envforge.model.receipt import FileRecord
from envforge.node.proving import scan_worker

__all__ = [
    "RECEIPT",
    "file_record",
    "looking",
    "record_of",
    "scan",
    "seen",
    "settle_modes",
    "state_of",
    "unread",
]

RECEIPT = scan_worker.RECEIPT.decode()
"""The one file of a generation that the receipt cannot list: itself."""

_FIRST = 8 << 20  # bytes of work that no process is worth starting for
_SHARE = 24 << 20  # bytes of work between two questions: some 25 ms
_MOST = 64  # items in a question
_PATIENCE = 1.0  # seconds for a thread that hashes a large file itself, when nobody wants to know any more


def scan(
    tree: Path, owners: Mapping[str, tuple[str, str]] | None = None, *, jobs: int = 4
) -> dict[str, FileRecord]:
    """Every entry below ``tree`` but the receipt, by path and sorted; files hashed in ``jobs`` processes.

    :param owners: who brought each path and how: ``path -> (owner, how)``; envforge itself where absent.
    :raises CouldNotError: if something cannot be read.
    """
    known = owners or {}
    states = seen(tree, jobs=jobs)
    return {name: record_of(name, states[name], *known.get(name, ())) for name in sorted(states)}


def seen(tree: Path, *, jobs: int) -> dict[str, str]:
    """The state of every entry below ``tree`` but the receipt, by path; see ``scan_worker`` for its form.

    :raises CouldNotError: if something cannot be read.
    """
    with looking(tree, jobs=jobs) as found:
        states = found()
    for name, state in states.items():
        if (trouble := unread(state)) is not None:
            raise CouldNotError(f"cannot read: {trouble}", at=f"{tree}/{name}")
    return states


@contextmanager
def looking(tree: Path, *, jobs: int) -> Iterator[Callable[[], dict[str, str]]]:
    """Begin to look at every entry below ``tree`` but the receipt, while the caller does something else.

    :returns: what waits for the end and gives each entry's state by path; see ``scan_worker`` for its form.
        When the block is left earlier, the rest is not looked at.
    :raises CouldNotError: if ``tree`` itself cannot be read; from the call.
    """
    root = os.fsencode(tree)
    work = _Work(*scan_worker.look(root, [b"d"], _FIRST), jobs=jobs)
    threads: list[Thread] = []
    try:
        for _ in range(jobs if work.left else 0):
            thread = Thread(target=_serve, args=(tree, work), daemon=True)
            with suppress(RuntimeError):  # no more threads allowed: it is done with fewer
                thread.start()
                threads.append(thread)
        yield lambda: _finished(tree, work, threads)
    finally:
        work.stop()
        for thread in threads:
            thread.join(_PATIENCE)


def _finished(tree: Path, work: _Work, threads: list[Thread]) -> dict[str, str]:
    for thread in threads:
        thread.join()
    if work.left:
        _serve(tree, work)
    if work.failure is not None:
        raise work.failure
    trouble = unread(work.states.get(".", ""))
    if trouble is not None:
        raise CouldNotError(f"cannot read: {trouble}", at=str(tree))
    return work.states


class _Work:
    """What is left to look at and what was found, shared by threads that each talk to a process."""

    def __init__(self, entries: list[bytes], left: list[bytes], *, jobs: int) -> None:
        self.left = left
        self.states: dict[str, str] = {}
        self.failure: BaseException | None = None
        self.jobs = jobs
        self.workers: list[Conversation] = []
        self._busy = 0
        self.stopped = False
        self._changed = Condition()
        self._add(entries)

    def take(self) -> list[bytes]:
        """Some items; none when all is done."""
        with self._changed:
            while not self.left and self._busy and not self.stopped:
                self._changed.wait()
            count = max(1, min(_MOST, len(self.left) // (2 * self.jobs)))
            # First what was found first: the large directories near the root, and large files.
            taken, self.left = self.left[:count], self.left[count:]
            self._busy += bool(taken)
            return taken

    def give(self, entries: list[bytes], left: list[bytes]) -> None:
        """What became of items that were taken."""
        with self._changed:
            self._add(entries)
            files = [item for item in left if item[:1] in b"fF"]
            if not self.stopped:
                self.left = files + self.left + [item for item in left if item[:1] in b"dD"]
            self._busy -= 1
            self._changed.notify_all()

    def stop(self, failure: BaseException | None = None) -> None:
        """Give nothing more to do."""
        with self._changed:
            self.left = []
            self.stopped = True
            for worker in self.workers:
                worker.interrupt()
            self.failure = self.failure or failure
            self._changed.notify_all()

    def _add(self, entries: list[bytes]) -> None:
        texts = os.fsdecode(b"\0".join(entries)).split("\0")
        self.states.update(zip(texts[::2], texts[1::2], strict=False))  # nothing is one empty text


def _serve(tree: Path, work: _Work) -> None:
    root = os.fsencode(tree)
    try:
        with ExitStack() as stack:
            worker: Conversation | None = None
            alone = work.jobs == 1 or not sys.executable
            while taken := work.take():
                entries: list[bytes] | None = None
                if not alone:
                    try:
                        if worker is None:
                            worker = Conversation(_command(tree))
                            stack.callback(worker.close)
                            work.workers.append(worker)
                        entries, left = _ask(worker, taken)
                    except CouldNotError:  # no more processes allowed, or ended by somebody: slower, then
                        alone = True
                        if work.stopped:
                            return
                if entries is None:
                    entries, left = scan_worker.look(root, taken, _SHARE)
                work.give(entries, left)
    except BaseException as error:  # noqa: BLE001 - it is raised again where the result is wanted
        work.stop(error)


def _command(tree: Path) -> Command:
    return Command(argv=(sys.executable, "-I", "-S", "-B", scan_worker.__file__, str(tree)))


def _ask(worker: Conversation, items: list[bytes]) -> tuple[list[bytes], list[bytes]]:
    answer = worker.ask(b"\0".join([str(_SHARE).encode(), *items]))
    entries, _, left = answer.partition(b"\0\0")
    return entries.split(b"\0") if entries else [], left.split(b"\0") if left else []


def state_of(record: FileRecord) -> str:
    """What can be seen of an entry as one text, the same as ``looking`` gives for it."""
    if record.kind == "link":
        return f"l{record.target or ''}"
    mode = -1 if record.mode is None else record.mode
    if record.kind == "file":
        return f"f{mode:o} {record.size} {record.sha256}"
    return f"{record.kind[0]}{mode:o}"


def record_of(path: str, state: str, owner: str = "envforge", how: str = "metadata") -> FileRecord:
    """The record of an entry that was found in ``state``; what cannot be read has no hash."""
    if state.startswith("?"):
        state = state.split(" ", 1)[1]
    kind, rest = state[0], state[1:]
    if kind == "l":
        return FileRecord(path=path, kind="link", target=rest, owner=owner, how=how)
    mode, *more = rest.split(" ")
    if kind == "d":
        return FileRecord(path=path, kind="directory", mode=int(mode, 8), how="directory")
    if kind == "s":
        return FileRecord(path=path, kind="special", mode=int(mode, 8))
    return FileRecord(
        path=path,
        kind="file",
        mode=int(mode, 8),
        size=int(more[0]),
        sha256=more[1] if len(more) > 1 else None,
        owner=owner,
        how=how,
    )


def file_record(tree: Path, name: str) -> FileRecord:
    """One file below ``tree`` as it is now."""
    path = tree / name
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    return FileRecord(path=name, kind="file", mode=mode, size=status.st_size, sha256=file_sha256(path))


def unread(state: str) -> str | None:
    """Why an entry could not be read, in the system's words; ``None`` if it was."""
    return os.strerror(int(state[1:].split(" ")[0])) if state.startswith("?") else None


def settle_modes(tree: Path, states: dict[str, str]) -> None:
    """Give every entry the mode that follows from the packages, whatever the umask was.

    :param states: every entry as it was seen; what is changed is changed here, too.
    """
    from envforge.edges.extract import normal_mode

    tree.chmod(0o755)
    for name, state in states.items():
        kind = state[0]
        if kind in "df":
            mode, blank, rest = state[1:].partition(" ")
            normal = 0o755 if kind == "d" else normal_mode(int(mode, 8))
            if int(mode, 8) != normal:
                os.chmod(f"{tree}/{name}", normal)  # noqa: PTH101 - one of tens of thousands
                states[name] = f"{kind}{normal:o}{blank}{rest}"
