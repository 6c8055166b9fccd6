"""Directories to work in, named so that whoever comes later knows whether their maker is still at it.

::

    PARENT/.work-HOST-PID-START-RANDOM/     what is being made
    PARENT/.gone-…/                         the same, on its way out

The name is there from the first instant: a process that is killed right after making the directory leaves
nothing that cannot be told from work in progress.  START is when the process began, because numbers of
processes are used again, after a reboot soonest.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from envforge.errors import BusyError, CouldNotError

__all__ = [
    "abandoned",
    "discard",
    "disk_error",
    "exclusive",
    "is_full",
    "make_directory",
    "owner_mark",
    "remove_tree",
    "replacing",
    "room_remedy",
    "scratch",
    "sweep",
    "sweep_beside",
    "take_away",
    "write_beside",
]

_STALE = 24 * 3600  # seconds after which work of an unreachable host counts as abandoned
_OWNER = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)(-|$)")
_held: set[str] = set()
"""The marks of the locks that this process holds."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = re.compile(r"No space left|[Qq]uota exceeded|os error (28|122)\b")


def make_directory(path: Path) -> Path:
    """Make ``path`` and what is missing above it, each readable by others whatever the umask.

    :raises CouldNotError: if that is not permitted or impossible.
    """
    missing = [part for part in (path, *path.parents) if not part.exists()]
    for part in reversed(missing):
        try:
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        except OSError as error:
            raise CouldNotError(
                f"cannot make the directory: {error.strerror or error}",
                at=str(part),
                do="choose a place that you may write to",
            ) from error
    return path


def write_beside(path: Path, text: str) -> None:
    """Write a file beside ``path``, readable by all, and rename it to that: never is there half of one.

    :raises OSError: if the disk refuses; nothing is left then.
    """
    beside = path.with_name(f".{path.name}.{owner_mark()}-{os.urandom(4).hex()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[Path]:
    """A place beside ``path`` to write a file at, which is renamed to ``path``, with ``mode``, in the end.

    :raises CouldNotError: if the disk refuses; nothing is left then, nor after any other error.
    """
    beside = path.with_name(f".{path.name}.{owner_mark()}")
    try:
        yield beside
        beside.chmod(mode)
        beside.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a directory tree, also one with read-only directories, or a file; nothing if it is not there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return

    def again(function: Callable[..., Any], name: str, _: object) -> None:
        if isinstance(_, FileNotFoundError) or (isinstance(_, tuple) and _[0] is FileNotFoundError):
            return
        if Path(name) != path:  # what it lies in is not to be removed, and may be shared with others
            Path(name).parent.chmod(0o700)
        if Path(name).is_dir() and not Path(name).is_symlink():
            Path(name).chmod(0o700)
        function(name)

    import shutil  # which loads all that archives are made with

    shutil.rmtree(path, onerror=again)


def is_full(error: BaseException | str) -> bool:
    """Whether an error, or what a program said, is about space or quota."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return _FULL_TEXT.search(str(error)) is not None


def disk_error(error: OSError, place: Path) -> CouldNotError:
    """An error of the disk in words, with what helps against that kind of it."""
    full = is_full(error)
    return CouldNotError(
        "there is no room on the disk" if full else f"the disk refused: {error.strerror or error}",
        at=str(error.filename or place),
        do=room_remedy(place) if full else "check who may write there",
    )


def room_remedy(place: Path) -> str:
    """The line to paste where a disk is full: what is free there, and what one may have.

    :param place: something on that disk, or that was to be there.
    """
    import shlex

    near = next((path for path in (place, *place.absolute().parents) if path.is_dir()), place)
    shown = shlex.quote(str(near))
    return f"df -h {shown} ; df -i {shown} ; quota   # space, inodes, quota?"


def owner_mark() -> str:
    """``HOST-PID-START`` of this process."""
    return f"{_host()}-{os.getpid()}-{_started(os.getpid()) or 0}"


def abandoned(name: str, modified: float) -> bool:
    """Whether what bears an :func:`owner_mark` in its name was left by a process that is gone.

    :param modified: when it was changed, which decides where the process cannot be asked about: on another
        machine or in another container.
    """
    match = _OWNER.search(name)
    if match is None or match["host"] != _host():
        return time.time() - modified > _STALE
    if not _alive(int(match["pid"])):
        return True
    started = _started(int(match["pid"]))
    return started is not None and started != int(match["start"]) != 0


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A directory of one's own in ``parent``, which is made; gone afterwards, whatever happened."""
    import tempfile

    make_directory(parent)
    try:
        directory = Path(tempfile.mkdtemp(prefix=f".work-{owner_mark()}-", dir=parent))
    except OSError as error:
        if is_full(error):
            raise disk_error(error, parent) from error
        raise CouldNotError(
            f"cannot make the directory: {error.strerror or error}",
            at=str(parent),
            do="choose a place that you may write to, such as --store DIR",
        ) from error
    try:
        yield directory
    finally:
        _discard(directory)


@contextmanager
def exclusive(lock: Path, *, seconds: float) -> Iterator[None]:
    """Hold ``lock``, a symlink whose text is the :func:`owner_mark` of who holds it.

    A symlink is made in one step, text and all, on every file system that clusters have; ``flock`` is not to
    be had on all of them.  One whose owner is gone is taken away.

    :param seconds: how long to wait for somebody else.
    :raises BusyError: if somebody else holds it for longer than that.
    :raises CouldNotError: if it cannot be made.
    """
    mark = f"{owner_mark()}-{os.urandom(4).hex()}"
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not _take(lock, mark):
        if time.monotonic() > deadline:
            import shlex

            raise BusyError(
                "somebody else is changing it",
                at=str(lock),
                do=f"try again; if nobody is: rm {shlex.quote(str(lock))}",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    _held.add(mark)
    try:
        yield
    finally:
        _held.discard(mark)
        with suppress(OSError):
            if os.readlink(lock) == mark:  # noqa: PTH115 - a text, not a path
                lock.unlink()


def _take(lock: Path, mark: str) -> bool:
    try:
        lock.symlink_to(mark)
    except FileExistsError:
        pass
    except OSError as error:  # whose file name is the text of the link
        raise disk_error(OSError(error.errno, error.strerror), lock) from error
    else:
        return True
    take_away(lock)
    return False


def take_away(lock: Path) -> None:
    """Remove a lock of :func:`exclusive` whose owner is gone, or that this process could not remove."""
    with suppress(OSError):
        holder, since = os.readlink(lock), lock.lstat().st_mtime  # noqa: PTH115
        ours = holder.startswith(f"{owner_mark()}-") and holder not in _held
        if ours or abandoned(holder, since):
            # Whoever takes it away first may have made another one already: that is put back.
            aside = lock.with_name(f".gone-{owner_mark()}-{os.urandom(4).hex()}")
            lock.rename(aside)
            if os.readlink(aside) != holder:  # noqa: PTH115
                os.link(aside, lock, follow_symlinks=False)
            aside.unlink()


def sweep(parent: Path) -> None:
    """Remove what killed processes have left in ``parent``; what cannot be removed stays."""
    with suppress(OSError), os.scandir(parent) as found:
        for entry in list(found):
            if entry.name.startswith("."):
                with suppress(OSError):
                    _sweep_one(entry)


def _sweep_one(entry: os.DirEntry[str]) -> None:
    path = Path(entry.path)
    if entry.name.startswith(".gone-"):
        remove_tree(path)
    elif _OWNER.search(entry.name) and abandoned(entry.name, entry.stat(follow_symlinks=False).st_mtime):
        if entry.name.startswith(".work-"):
            _discard(path)
        elif entry.is_file(follow_symlinks=False):  # on its way to another name
            path.unlink()


def sweep_beside(path: Path) -> None:
    """Remove what dead processes of this machine have left where ``path`` is, in a directory of the user's.

    That are directories of :func:`scratch`, and files that were on their way to a name; nothing that only
    looks a little like them, and nothing of another machine, however old.
    """
    mark = rf"{_host()}-\d+-\d+"
    own = re.compile(rf"\.(?:work|gone)-{mark}-[a-z0-9_]{{8}}|\..+\.{mark}(?:-[0-9a-f]{{8}})?")
    with suppress(OSError), os.scandir(path.parent) as found:
        for entry in list(found):
            if own.fullmatch(entry.name) and abandoned(entry.name, time.time()):
                with suppress(OSError):
                    _discard(Path(entry.path))


def discard(path: Path, beside: Path) -> None:
    """Take ``path`` away in one rename, and then remove it; whoever sweeps ``beside`` removes what is left.

    :param beside: a directory on the same file system.
    :raises OSError: if it cannot be taken away; what cannot be removed after that stays for the sweep.
    """
    gone = beside / f".gone-{owner_mark()}-{os.urandom(4).hex()}"
    path.rename(gone)
    with suppress(OSError):
        remove_tree(gone)


def _discard(directory: Path) -> None:
    # Programs that a killed run started may go on for a moment: take the place from them first.
    gone = directory.with_name(directory.name.replace(".work-", ".gone-", 1))
    with suppress(OSError):
        directory.rename(gone)
    for path in (gone, directory):
        with suppress(OSError):
            remove_tree(path)


def _host() -> str:
    """The machine or container: numbers of processes mean something only inside one."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no file, only a name
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{os.uname().nodename} {namespace}".encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; ``None`` where that cannot be known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
