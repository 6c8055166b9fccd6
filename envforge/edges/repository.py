"""Repositories of git: which commit a name stands for, and its files."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.process import Command, Completed, run
from envforge.errors import CouldNotError, InputError
from envforge.model.urls import redacted

__all__ = ["Repository", "commit_time", "resolve_commit", "take_commit"]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REVISION = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./+-]*")
_SCHEMES = ("https", "http", "ssh", "git", "file")
_USERS = ("SSH_AUTH_SOCK", "SSH_ASKPASS", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "XDG_CONFIG_HOME")
"""What a login may depend on."""
_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository by URL, without ``git+``, and a branch, tag or commit of it; ``None`` for its default."""

    url: str
    revision: str | None

    def __post_init__(self) -> None:
        scheme = self.url.partition("://")[0]
        if scheme not in _SCHEMES or not self.url.isprintable() or any(c.isspace() for c in self.url):
            raise InputError(
                f"{redacted(self.url)!r} is not the URL of a repository",
                do=f"write git+https://HOST/PATH@COMMIT; {', '.join(_SCHEMES)} are known",
            )
        if self.revision is not None and not _REVISION.fullmatch(self.revision):
            raise InputError(f"{self.revision!r} is no branch, tag or commit", at=redacted(self.url))


def resolve_commit(repository: Repository, work: Path) -> str:
    """The commit that the revision stands for now.

    :param work: an empty directory, for what git may need.
    :raises InputError: if there is none of that name.
    :raises CouldNotError: if the repository cannot be reached, or there is no git.
    """
    revision = repository.revision
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    names = ["HEAD"] if revision is None else [f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}"]
    names += [] if revision is None else [f"refs/heads/{revision}", revision]
    done = _git(work, "ls-remote", "--", repository.url, *names)
    if done.returncode != 0:
        raise _unreachable(repository, done)
    rows = (line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    found = {name: commit for commit, name in rows}
    for name in names:
        if name in found and _COMMIT.fullmatch(found[name]):
            return found[name]
    if revision is None or not re.fullmatch(r"[0-9a-f]{4,63}", revision):
        raise _no_revision(repository)
    take_commit(repository, revision, work / "repository")  # the beginning of a commit
    return _git(work / "repository", "rev-parse", "HEAD").stdout.strip()


def take_commit(repository: Repository, commit: str, directory: Path) -> None:
    """The files of ``commit`` in the new ``directory``, with its submodules and its history.

    The history is there because a build may ask it for a version.

    :raises InputError: if there is no such commit.
    :raises CouldNotError: if the repository cannot be reached, or there is no git.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    place = str(directory)
    done = _git(directory.parent, "clone", "--no-checkout", "--filter=blob:none", "--", repository.url, place)
    if done.returncode != 0:
        raise _unreachable(repository, done)
    done = _git(directory, "checkout", "--detach", "--force", commit, "--")
    if done.returncode != 0:  # of no branch: a pull request's, or one that was rewritten
        fetched = _git(directory, "fetch", "--", "origin", commit)
        done = _git(directory, "checkout", "--detach", "--force", "FETCH_HEAD", "--")
        if fetched.returncode != 0 or done.returncode != 0:
            raise _no_revision(repository)
    if (directory / ".gitmodules").is_file():
        done = _git(directory, "submodule", "update", "--init", "--recursive")
        if done.returncode != 0:
            raise _unreachable(repository, done)


def commit_time(directory: Path) -> int:
    """When the commit that is checked out was made, in seconds since 1970."""
    text = _git(directory, "log", "-1", "--format=%ct").stdout.strip()
    return int(text) if text.isdigit() else 0


def _git(directory: Path, *words: str) -> Completed:
    program = shutil.which("git")
    if program is None:
        raise CouldNotError(
            "a repository is asked for, and there is no git",
            do="install git, or name a file: NAME @ https://…",
        )
    env = {name: os.environ[name] for name in _USERS if name in os.environ}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": ":".join(_SCHEMES), "LC_ALL": "C"}
    argv = (program, "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", *words)
    return run(Command(argv=argv, cwd=directory, env=env, network=True), timeout=_SECONDS)


def _unreachable(repository: Repository, done: Completed) -> CouldNotError:
    said = redacted(done.stderr.strip())
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no reason given")
    return CouldNotError(
        f"the repository cannot be read: {last.removeprefix('fatal: ')[:200]}",
        at=redacted(repository.url),
        do="git ls-remote URL   # must work without a question",
        story=said,
    )


def _no_revision(repository: Repository) -> InputError:
    return InputError(
        f"the repository has no {repository.revision or 'default branch'}",
        at=redacted(repository.url),
        do="name a branch, a tag or a commit: git+https://HOST/PATH@NAME",
    )
