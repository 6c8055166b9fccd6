"""SquashFS, through squashfs-tools: a tree into one file, and out of it again.

The same options each time, so that the bytes depend on the tree and the version of ``mksquashfs`` alone: no
owner, no times but one, no extended attributes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.images import TRAILER, TRAILER_SIZE
from envforge.edges.process import Command, run
from envforge.edges.scratch import is_full, room_remedy
from envforge.edges.ustar import MTIME
from envforge.errors import CouldNotError, InputError
from envforge.reporting import Reporter

__all__ = ["COMPRESSIONS", "Mksquashfs", "append_trailer", "find_mksquashfs", "unpack_squashfs"]

COMPRESSIONS = {
    "gzip": ("-Xcompression-level", "6"),
    "zstd": ("-Xcompression-level", "3"),
    "lz4": (),
    "xz": (),
}
"""What files may be compressed with, and the options for it: every kernel reads gzip, most read zstd."""

_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")
_TIMES = (4, 4)  # the version from which on times can be given, and bytes do not depend on threads
_ONE_BY_ONE = (4, 5)  # and the one from which on it does not look which files are links of each other
_INSTALL = "load the site's module of squashfs-tools, or: apt-get install squashfs-tools"


@dataclass(frozen=True, kw_only=True)
class Mksquashfs:
    """The program, and its version."""

    path: str
    version: tuple[int, ...]

    @property
    def reproducible(self) -> bool:
        """Whether it can make the same bytes twice."""
        return self.version >= _TIMES

    def make(self, tree: Path, path: Path, *, compression: str, jobs: int, reporter: Reporter) -> None:
        """Write ``tree`` into the new file ``path``.

        :raises CouldNotError: if it cannot: no room, no such compression.
        """
        argv = [self.path, str(tree), str(path), "-noappend", "-no-progress", "-no-xattrs", "-all-root"]
        argv += ["-comp", compression, *COMPRESSIONS[compression]]
        if self.reproducible:
            argv += ["-mkfs-time", str(MTIME), "-all-time", str(MTIME), "-processors", str(jobs)]
        if self.version >= _ONE_BY_ONE:
            argv += ["-no-hardlinks"]
        if not self.reproducible:
            shown = ".".join(map(str, self.version))
            reporter.note(f"mksquashfs {shown} writes the time into the file: the bytes differ each time")
        done = run(Command(argv=tuple(argv)))
        if done.returncode != 0:
            path.unlink(missing_ok=True)
            raise self._failed(done.stdout + done.stderr, path, compression)

    def _failed(self, said: str, path: Path, compression: str) -> CouldNotError:
        if is_full(said):
            do = room_remedy(path.parent)
        elif "Compressor" in said:
            do = f"this mksquashfs has no {compression}: --compression gzip"
        else:
            do = "see the log"
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        fatal = next(
            (line for line in lines if "ERROR" in line or "FATAL" in line), lines[-1] if lines else ""
        )
        return CouldNotError(f"mksquashfs failed: {fatal[:200]}", at=str(path), do=do, story=said)


def find_mksquashfs() -> Mksquashfs:
    """The mksquashfs of this machine.

    :raises CouldNotError: if there is none.
    """
    path = _program("mksquashfs")
    if path is None:
        raise CouldNotError(
            "there is no mksquashfs here, which makes a SquashFS",
            at=f"PATH={os.environ.get('PATH', '')}",
            do=_INSTALL,
        )
    done = run(Command(argv=(path, "-version")), timeout=30)
    match = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", done.stdout + done.stderr)
    if match is None:
        raise CouldNotError("mksquashfs does not say its version", at=path, do=_INSTALL, story=done.stderr)
    return Mksquashfs(path=path, version=tuple(int(part) for part in match.groups() if part))


def append_trailer(path: Path, line: str) -> None:
    """Say behind the end of a SquashFS what it is: :func:`envforge.edges.images.read_trailer` finds it.

    :raises OSError: if the disk refuses.
    """
    block = TRAILER + line.encode() + b"\n"
    if len(block) > TRAILER_SIZE:
        raise InputError("the names of an image are too long", at=str(path), do="name a shorter --prefix")
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(-end % TRAILER_SIZE) + block.ljust(TRAILER_SIZE))


def unpack_squashfs(path: Path, target: Path, *, inside: str = "", offset: int = 0) -> None:
    """Unpack into the directory ``target``, which is made.

    :param inside: the directory in it that is wanted, if not all.
    :param offset: where in the file it begins.
    :raises CouldNotError: if there is no unsquashfs, or it fails.
    """
    program = _program("unsquashfs")
    if program is None:
        raise CouldNotError("there is no unsquashfs here, which reads a SquashFS", at=str(path), do=_INSTALL)
    argv = [program, "-no-progress", "-no-xattrs", "-d", str(target)]
    argv += ["-o", str(offset)] if offset else []
    done = run(Command(argv=(*argv, str(path), *([inside] if inside else []))))
    if done.returncode != 0:
        full = is_full(done.stderr)
        raise CouldNotError(
            "there is no room to unpack the image" if full else "the SquashFS cannot be read",
            at=str(target if full else path),
            do="name a place with room: --store DIR" if full else f"unsquashfs -s {shlex.quote(str(path))}",
            story=done.stderr,
        )


def _program(name: str) -> str | None:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    return shutil.which(name, path=places)
