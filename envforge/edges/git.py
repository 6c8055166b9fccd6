"""What a git repository holds, asked of git itself: ``REVISION:PATH``."""

from __future__ import annotations

import os
from pathlib import Path

from envforge.edges.process import Command, Completed, run
from envforge.errors import InputError

__all__ = ["git", "read_blob"]

_LARGEST = 512_000_000
_SECONDS = 60


def git(*words: str, cwd: Path | None = None) -> Completed:
    """Run git as the user would, with the whole environment, and return how it ended.

    :raises CouldNotError: if there is no git, or it does not end.
    """
    return run(Command(argv=("git", *words), cwd=cwd, base=os.environ), timeout=_SECONDS)


def read_blob(name: str, *, cwd: Path | None = None) -> bytes:
    """The file that ``name``, ``REVISION:PATH``, names.

    :raises InputError: if git knows none, or it is larger than 512 MB.
    :raises CouldNotError: if there is no git.
    """
    if name.startswith("-"):
        raise _none(name, "no revision begins with a dash")
    asked = git("cat-file", "-s", name, cwd=cwd)
    if asked.returncode != 0:
        raise _none(name, (asked.stderr.splitlines() or ["it says nothing"])[0].removeprefix("fatal: "))
    if int(asked.stdout) > _LARGEST:
        raise InputError("larger than 512 MB", at=name, do="name the right file")
    done = git("cat-file", "blob", name, cwd=cwd)
    if done.returncode != 0:
        raise _none(name, "it is no file")
    return done.stdout.encode("utf-8", "surrogateescape")


def _none(name: str, why: str) -> InputError:
    return InputError(
        f"git has no {name}: {why}",
        at=name,
        do="name it as REVISION:PATH, such as HEAD~3:conda-lock.yml, and ./ before PATH to begin here",
    )
