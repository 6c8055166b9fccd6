"""One writer at a time, on every file system.

The lock is a file that is created exclusively, because that works on NFS, too, where ``flock`` may not.
It lies in ``DIR/.envforge-mirror/``, which also takes what is being written and keeps what came of
a download that broke off, and which marks a mirror that is not finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from envforge.edges.store import make_directory
from envforge.errors import BusyError, CouldNotError
from envforge.reporting import Reporter

__all__ = ["MARKER", "sole_writer"]

MARKER = ".envforge-mirror"
_PARTS = ("conda", "pypi", "locks")
_STILLBORN = 10.0  # seconds after which a lock that never got its owner's name counts as left behind


@dataclass(frozen=True)
class _Owner:
    host: str
    pid: int
    started: str
    space: str

    @classmethod
    def me(cls) -> _Owner:
        pid = os.getpid()
        return cls(host=platform.node(), pid=pid, started=_started(pid), space=_pid_space())

    def is_dead(self) -> bool:
        """Whether its process is known to be gone; of another machine nothing is known."""
        if os.name != "posix" or (self.host, self.space) != (platform.node(), _pid_space()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return self.started != _started(self.pid)  # the number was given to another process


def _started(pid: int) -> str:
    """When a process began, in ticks since boot; empty where the system does not say."""
    try:
        return (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="ascii", errors="replace")
            .rpartition(")")[2]
            .split()[19]
        )
    except (OSError, IndexError):
        return ""


def _pid_space() -> str:
    """Where a process number means something: containers on one host have numbers of their own."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


_VANISHING = 2.0  # seconds for which another writer may keep removing the directory that we make


@contextmanager
def sole_writer(directory: Path, *, reporter: Reporter, wait: float) -> Iterator[Path]:
    """Be the only one who writes to the mirror; yields a directory for temporary files.

    All that is in it are halves of downloads (:mod:`envforge.edges.partial`), and those stay.

    :param wait: for how many seconds to wait for another writer.
    :raises BusyError: if it is not done by then.
    :raises CouldNotError: if nothing can be written there.
    """
    fresh = not directory.exists()
    marker = directory / MARKER
    lock = _acquire(marker, reporter, wait)
    try:
        _sweep(marker, lock)
        yield marker
    finally:
        _sweep(marker, lock)
        finished = (directory / "manifest.json").exists()
        lock.unlink(missing_ok=True)
        if finished or not any((directory / part).exists() for part in _PARTS):
            with contextlib.suppress(OSError):  # somebody else may be in there by now
                marker.rmdir()
                if fresh and not finished:
                    directory.rmdir()


def _acquire(marker: Path, reporter: Reporter, wait: float) -> Path:
    lock = marker / "writer"
    start, pause, told = time.monotonic(), 0.02, False
    until = start + wait
    while not _create(lock):
        if not marker.exists() and time.monotonic() > start + _VANISHING:
            raise CouldNotError(
                "the directory of the mirror cannot be made",
                at=str(marker.parent),
                do="name a directory on a disk that you may write to",
            )
        owner = _owner(lock)
        if (owner is None and _stillborn(lock)) or (owner is not None and owner.is_dead()):
            _take_away(lock, owner)
            continue
        if time.monotonic() >= until:
            raise _busy(lock, owner)
        if owner is not None and not told:
            reporter.note(f"waiting for process {owner.pid} on {owner.host}, which writes to this mirror")
            told = True
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)
    return lock


def _create(lock: Path) -> bool:
    try:
        make_directory(lock.parent)
    except CouldNotError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # another writer just took it away
            return False
        raise
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except (FileExistsError, FileNotFoundError):  # or the directory went away with another writer
        return False
    except OSError as error:
        raise _cannot(lock, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(_Owner.me()), file)
    except OSError as error:
        lock.unlink(missing_ok=True)
        raise _cannot(lock, error) from error
    return True


def _owner(lock: Path) -> _Owner | None:
    try:
        return _Owner(**json.loads(lock.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _stillborn(lock: Path) -> bool:
    try:
        return time.time() - lock.stat().st_mtime > _STILLBORN
    except OSError:
        return False


def _take_away(lock: Path, owner: _Owner | None) -> None:
    """Remove a dead process's lock, and only that one: others may be doing the same."""
    aside = lock.with_name(f"left-{os.getpid()}-{time.monotonic_ns()}")
    try:
        lock.rename(aside)
    except OSError:
        return
    if _owner(aside) != owner:
        with contextlib.suppress(OSError):
            os.link(aside, lock)  # it was taken over by another process between the two looks
    aside.unlink(missing_ok=True)


def _sweep(marker: Path, lock: Path) -> None:
    with contextlib.suppress(OSError):
        for path in marker.iterdir():
            if path != lock and not path.name.startswith("part-"):
                path.unlink(missing_ok=True)


def _busy(lock: Path, owner: _Owner | None) -> BusyError:
    who = "somebody else" if owner is None else f"process {owner.pid} on {owner.host}"
    return BusyError(
        f"{who} writes to this mirror",
        at=str(lock.parent.parent),
        do=f"try again later; if that process is gone for good: rm '{lock}'",
    )


def _cannot(lock: Path, error: OSError) -> CouldNotError:
    return CouldNotError(
        f"cannot write to the mirror: {error.strerror or error}",
        at=str(lock.parent.parent),
        do="choose a directory that you may write to, on a disk with room",
    )
