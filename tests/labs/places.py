"""Places to install at: file systems of a given size and kind, directories that other users may reach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.packages import PLACEHOLDER, File, Symlink
from tests.conftest import KEPT, Ended
from tests.node.world import Artifact, conda, library, snapshot

__all__ = [
    "Started",
    "as_user",
    "ext4",
    "mounted",
    "need_root",
    "open_directory",
    "small",
    "start",
    "tmpfs",
    "whole_of",
]


def need_root() -> None:
    """Skip the test where nobody else can be become and nothing mounted."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="envforge-lab-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def mounted(*argv: str, at: Path) -> Iterator[Path]:
    """A file system at ``at`` until the end; where it cannot be mounted, the test is skipped."""
    need_root()
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *argv, str(at)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextmanager
def tmpfs(at: Path, *, size: str = "64m", inodes: int = 20000) -> Iterator[Path]:
    """A file system in memory."""
    with mounted("-t", "tmpfs", "-o", f"size={size},nr_inodes={inodes},mode=755", "tmpfs", at=at) as place:
        yield place


@contextmanager
def ext4(at: Path, *, size: int, inodes: int) -> Iterator[Path]:
    """A file system in a file, of ``size`` bytes."""
    need_root()
    image = at.with_name(f"{at.name}.img")
    with image.open("wb") as file:
        file.truncate(size)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4")
    make = ["mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), "-O", "^has_journal", str(image)]
    subprocess.run(make, check=True, capture_output=True)
    with mounted("-o", "loop", str(image), at=at) as place:
        shutil.rmtree(place / "lost+found")
        yield place


_REACH = """
set -e
mount -t tmpfs tmpfs /mnt
n=0
for path in $NEEDED; do n=$((n + 1)); mkdir /mnt/$n; mount --bind "$path" /mnt/$n; done
for path in $CLOSED; do mount -t tmpfs -o mode=755 tmpfs "$path"; done
n=0
for path in $NEEDED; do n=$((n + 1)); mkdir -p "$path"; mount --bind /mnt/$n "$path"; done
exec "$@"
"""


def as_user(user: int) -> tuple[str, ...]:
    """Words before a command that start it as somebody else.

    Where this Python lies below a directory that is closed to others, as /root is, an open one with nothing
    but Python in it takes its place, for this command alone.
    """
    needed, closed = [], []
    for path in {Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2]}:
        shut = [parent for parent in path.parents if not parent.stat().st_mode & 0o001]
        if shut:
            needed.append(str(path))
            closed.append(str(shut[-1]))
    become = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
    if not needed:
        return become
    names = (f"NEEDED={' '.join(needed)}", f"CLOSED={' '.join(sorted(set(closed)))}")
    return ("unshare", "--mount", "env", *names, "/bin/sh", "-c", _REACH, "sh", *become)


def small(text: str = "1") -> list[Artifact]:
    """About thirty files in two packages, one with the prefix in a text, in a binary and behind a link."""
    many: dict[str, bytes | File | Symlink] = {
        f"share/b/{n}": f"{text} {n}".encode() * 500 for n in range(24)
    }
    return [
        conda(
            library(
                "a",
                {
                    "etc/a.conf": f"prefix={PLACEHOLDER}\n{text}\n".encode(),
                    "lib/liba.so": File(data=f"\0{PLACEHOLDER}\0{text}".encode(), executable=True),
                    "lib/liba.so.1": Symlink(target="liba.so"),
                    "bin/a": File(data=b"#!/bin/sh\necho a\n", executable=True),
                },
            )
        ),
        conda(library("b", many)),
    ]


@dataclass(frozen=True)
class Started:
    """A command that is running."""

    process: subprocess.Popen[str]

    def end(self) -> Ended:
        out, err = self.process.communicate(timeout=300)
        return Ended(self.process.returncode, out, err)


def start(
    *words: object, home: Path, user: int | None = None, before: Sequence[str] = (), umask: int = -1
) -> Started:
    """Start ``envforge`` and do not wait for it."""
    kept = {name: os.environ[name] for name in KEPT - {"TMPDIR"} if name in os.environ}
    return Started(
        subprocess.Popen(
            [*before, *(as_user(user) if user else ()), sys.executable, "-m", "envforge", *map(str, words)],
            cwd=home,
            env={**kept, "HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=umask,
        )
    )


def whole_of(prefix: Path) -> dict[str, object]:
    """Every entry of the generation that ``prefix`` points to."""
    return snapshot(prefix.resolve(strict=True))
