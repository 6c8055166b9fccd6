"""Small programs outside an environment that start one of its commands in it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from envforge.errors import InputError
from envforge.node.using.activate import RUN

__all__ = ["commands", "wrapper"]


def commands(generation: Path) -> tuple[str, ...]:
    """The names of what can be executed in the environment's ``bin/``, sorted."""
    try:
        with os.scandir(generation / "bin") as found:
            return tuple(sorted(entry.name for entry in found if _is_command(entry)))
    except OSError:
        return ()


def _is_command(entry: os.DirEntry[str]) -> bool:
    return entry.is_file() and os.access(entry.path, os.X_OK)


def wrapper(generation: Path, command: str) -> bytes:
    """A POSIX sh program that is ``command`` in the environment, from anywhere.

    :raises InputError: if the environment has no such command.
    """
    _check(generation, command)
    words = (str(generation / RUN), str(generation / "bin" / command))
    text = f'#!/bin/sh\n# Made by envforge wrap.\nexec {shlex.join(words)} "$@"\n'
    return os.fsencode(text)


def _check(generation: Path, command: str) -> None:
    path = generation / "bin" / command
    if "/" not in command and path.is_file() and os.access(path, os.X_OK):
        return
    close = _closest(command, commands(generation))
    raise InputError(
        f"the environment has no command {command!r}",
        at=str(generation / "bin"),
        do=f"name another, such as {close}" if close else "name a command that it has",
    )


def _closest(name: str, known: Sequence[str]) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(name, known, n=1)), next(iter(known), None))
