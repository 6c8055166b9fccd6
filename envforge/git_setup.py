"""``git-setup``: have git ask envforge how lockfiles differ, and how two of them are merged.

Two places say that: the configuration, which a clone does not bring along, names the programs; the
attributes, a file of the repository, say for which paths.  Without the first, the second does nothing.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.git import git
from envforge.edges.scratch import write_beside
from envforge.errors import CouldNotError, InputError

__all__ = ["ATTRIBUTES", "Setup", "plan", "remove", "setup"]

ATTRIBUTES = tuple(f"*conda-lock.{ending} diff=envforge merge=envforge" for ending in ("yml", "yaml"))
"""The lines for ``.gitattributes``."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is written: git's settings by name, and the file that the lines of :data:`ATTRIBUTES` go to.

    ``everywhere`` is whether it is for every repository of the user.
    """

    everywhere: bool
    config: dict[str, str]
    attributes: Path


def plan(*, everywhere: bool) -> Setup:
    """What :func:`setup` would write here.

    :param everywhere: for every repository of the user, and not only for the one of the working directory.
    :raises InputError: if this is no repository.
    :raises CouldNotError: if there is no git.
    """
    program = shlex.join([Path(sys.executable).as_posix(), "-m", "envforge", "git-driver"])
    config = {
        "diff.envforge.command": f"{program} diff",
        "diff.envforge.textconv": f"{program} text",
        "merge.envforge.name": "lock the merged specification",
        "merge.envforge.recursive": "text",  # of common ancestors, which nobody installs
        "merge.envforge.driver": f"{program} merge %O %A %B %P %L",
    }
    return Setup(
        everywhere=everywhere, config=config, attributes=_of_user() if everywhere else _of_repository()
    )


def _of_repository() -> Path:
    top = git("rev-parse", "--show-toplevel")
    if top.returncode != 0 or not top.stdout.strip():
        raise InputError(
            "no git repository with a working tree here",
            at=str(Path.cwd()),
            do="git init   # or, for every repository of yours: envforge git-setup --global",
        )
    return Path(top.stdout.rstrip("\n")) / ".gitattributes"


def _of_user() -> Path:
    named = git("config", "--global", "--type=path", "--get", "core.attributesFile").stdout.rstrip("\n")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "git" / "attributes"


def setup(to_do: Setup) -> bool:
    """Write it; returns whether anything changed.

    :raises CouldNotError: if git or the file system refuses.
    """
    changed = False
    for name, value in to_do.config.items():
        if _get(to_do, name) != value:
            _config(to_do, "--replace-all", name, value)
            changed = True
    text = _text(to_do.attributes)
    missing = [line for line in ATTRIBUTES if line not in text.splitlines()]
    if missing:
        end = "" if not text or text.endswith("\n") else "\n"
        _write(to_do.attributes, text + end + "".join(f"{line}\n" for line in missing))
    return changed or bool(missing)


def remove(to_do: Setup) -> bool:
    """Take away what :func:`setup` wrote, and nothing else; returns whether anything changed.

    :raises CouldNotError: if git or the file system refuses.
    """
    sections = {name.rpartition(".")[0] for name in to_do.config if _get(to_do, name) is not None}
    for section in sorted(sections):
        _config(to_do, "--remove-section", section)
    text = _text(to_do.attributes)
    kept = "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\r\n") not in ATTRIBUTES)
    if kept != text:
        _write(to_do.attributes, kept)
    return bool(sections) or kept != text


def _scope(to_do: Setup) -> str:
    return "--global" if to_do.everywhere else "--local"


def _get(to_do: Setup, name: str) -> str | None:
    asked = git("config", _scope(to_do), "--get", name)
    return asked.stdout.rstrip("\n") if asked.returncode == 0 else None


def _config(to_do: Setup, *words: str) -> None:
    done = git("config", _scope(to_do), *words)
    if done.returncode != 0:
        raise CouldNotError(
            "git does not take the setting: " + (done.stderr.splitlines() or ["it says nothing"])[0],
            at=" ".join(words),
            do=f"git config {_scope(to_do)} --list --show-origin",
        )


def _text(path: Path) -> str:
    """The file as it is, with its own ends of lines; empty if there is none."""
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise InputError("not a text file (UTF-8)", at=str(path), do="correct it, or remove it") from error
    except OSError as error:
        raise CouldNotError(
            f"cannot be read: {error.strerror}", at=str(path), do="check who may read it"
        ) from error


def _write(path: Path, text: str) -> None:
    """The text, or no file where there is none any more."""
    try:
        if not text:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path.resolve(), text)
    except OSError as error:
        raise CouldNotError(
            f"cannot be written: {error.strerror}", at=str(path), do="check who may write there"
        ) from error
