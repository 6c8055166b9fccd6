"""What a git repository holds, asked of git itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from envforge.edges.process import Command, Completed, run
from envforge.errors import CouldNotError, InputError

__all__ = ["blob_at", "blob_of", "commits_with", "git", "is_revision", "merged_in", "read_blob"]

_LARGEST = 100_000_000
_SECONDS = 60
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def git(*words: str, cwd: Path | None = None) -> Completed:
    """Run git as the user would, with the whole environment, and return how it ended.

    :raises CouldNotError: if there is no git, or it does not end.
    """
    return run(Command(argv=("git", *words), cwd=cwd, base=os.environ), timeout=_SECONDS)


def read_blob(name: str, *, cwd: Path | None = None) -> bytes:
    """The file that ``name``, ``REVISION:PATH``, names.

    :raises InputError: if git knows none, or it is larger than 100 MB.
    :raises CouldNotError: if there is no git.
    """
    if name.startswith("-"):
        raise _none(name, "no revision begins with a dash")
    asked = git("cat-file", "-s", name, cwd=cwd)
    if asked.returncode != 0:
        raise _none(name, (asked.stderr.splitlines() or ["it says nothing"])[0].removeprefix("fatal: "))
    if int(asked.stdout) > _LARGEST:
        raise InputError("larger than 100 MB", at=name, do="name the right file")
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


def blob_of(path: Path) -> str:
    """The id that git gives to the content of ``path``."""
    return git("hash-object", "--no-filters", "--", str(path)).stdout.strip()


def blob_at(commit: str, path: str) -> str | None:
    """The id of the file at ``path``, from the repository's top, in ``commit``; ``None`` if it has none."""
    found = git("rev-parse", "--verify", "--quiet", f"{commit}:{path}")
    return found.stdout.strip() if found.returncode == 0 else None


def commits_with(blob: str, path: str, likely: Iterable[str]) -> Iterator[str]:
    """Commits that have ``blob`` at ``path``: of the likely ones, then of those that any branch reaches."""
    for commit in likely:
        if blob_at(commit, path) == blob:
            yield commit
    found = git("log", "--all", "--format=%H", "-n", "20", f"--find-object={blob}", "--", f":(top){path}")
    for commit in found.stdout.split():
        if blob_at(commit, path) == blob:
            yield commit


def is_revision(name: str) -> bool:
    """Whether git knows a commit of that name here; no where there is no git."""
    if name.startswith("-"):
        return False
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").returncode == 0
    except CouldNotError:
        return False


def merged_in() -> tuple[str, ...]:
    """The commits that git may be merging, picking, rebasing or taking out of the stash at this moment.

    It tells a merge driver nothing of them; but while it merges, their names are in its environment, and
    while it rebases, it has written down what was begun.
    """
    named = [name.removeprefix("GITHEAD_") for name in os.environ if name.startswith("GITHEAD_")]
    found = [name for name in named if _COMMIT.fullmatch(name)]
    done = Path(git("rev-parse", "--git-path", "rebase-merge/done").stdout.rstrip("\n"))
    if done.is_file():
        lines = done.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [
            word for word in (lines[-1].split()[1:2] if lines else []) if re.fullmatch(r"[0-9a-f]+", word)
        ]
    stashed = git("stash", "list", "--format=%H").stdout.split()
    return (*found, "MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD", "REVERT_HEAD", *stashed)
