"""Using an environment without changing the shell that one is in: ``run`` and ``shell``.

``P`` is followed once.  What runs then has the generation's own path, and is not disturbed when ``P`` is
pointed to the next one.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from envforge.edges.process import Command, replace, run
from envforge.errors import CouldNotError, InputError
from envforge.node.using.activate import ACTIVATE, fish_quoted
from envforge.reporting import Reporter

__all__ = ["activated", "become", "become_program", "become_shell", "find_generation"]

_SHELLS_OWN = frozenset({"_", "BASH_ENV", "ENV", "OLDPWD", "PS1", "PWD", "SHLVL"})
"""Variables that the shell which activates would change for itself, or run things for."""

_COMPUTE = '. "$1" >&2 && shift && exec "$@"'

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def find_generation(path: Path) -> Path:
    """The generation that ``path`` is or points to, by the path that it was linked for.

    :raises InputError: if there is no environment of envforge's, or one that was moved or is too old.
    """
    if not path.is_dir():
        raise InputError(
            "no such directory", at=str(path), do="envforge install DIR --prefix P   # makes one"
        )
    tree = path.resolve()
    if not (tree / ".envforge").is_dir():
        raise InputError(
            "not an environment that envforge installed",
            at=str(tree),
            do="name the --prefix that envforge install was given",
        )
    generation = _linked_for(tree / ACTIVATE)
    if not generation.is_dir() or not generation.samefile(tree):
        raise InputError(
            f"the environment was linked for {generation} and does not work from here",
            at=str(tree),
            do="install it where it is to be used: envforge install SOURCE --prefix P",
        )
    return generation


def _linked_for(activate: Path) -> Path:
    start = "    export CONDA_PREFIX="
    with suppress(OSError, ValueError):
        lines = activate.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        (line,) = (line for line in lines if line.startswith(start))
        (path,) = shlex.split(line[len(start) :])
        return Path(path)
    raise InputError(
        "the environment has no activation that this envforge can use",
        at=str(activate),
        do="install it again: envforge install SOURCE --prefix P",
    )


def activated(generation: Path, reporter: Reporter) -> dict[str, str]:
    """The environment of this process as activation changes it.

    :param reporter: is told what the scripts of packages print, as details.
    :raises CouldNotError: if the scripts of a package end the shell.
    """
    shell = shutil.which("bash") or "/bin/sh"  # for which most packages' scripts are written
    given = {name: value for name, value in os.environ.items() if name not in _SHELLS_OWN}
    env, cat = shutil.which("env"), shutil.which("cat") or "/bin/cat"
    # What a bundle asks of a node has no env.
    printer = (env, "-0") if env else (cat, "/proc/self/environ")
    argv = (shell, "-c", _COMPUTE, "sh", str(generation / ACTIVATE), *printer)
    done = run(Command(argv=argv, base=given))
    said = done.stdout.encode("utf-8", "surrogateescape").split(b"\0")
    found = dict(os.fsdecode(entry).split("=", 1) for entry in said if b"=" in entry)
    if done.returncode != 0 or "CONDA_PREFIX" not in found:
        raise CouldNotError(
            "the environment cannot be activated",
            at=str(generation / ACTIVATE),
            do=f"{Path(shell).name} -x {shlex.quote(str(generation / ACTIVATE))}   # shows what fails",
            story=done.stderr,
        )
    for line in done.stderr.splitlines():
        reporter.detail(line)
    # A shell changes these for itself; and of names that are none of a variable, dash passes nothing on.
    own = {name for name in (*os.environ, *found) if name in _SHELLS_OWN or not _NAME.fullmatch(name)}
    kept = {name: os.environ[name] for name in own if name in os.environ}
    same = {name for name, value in os.environ.items() if found.get(name) == _as_read(value)}
    kept |= {name: os.environ[name] for name in same}
    return {name: value for name, value in found.items() if name not in own} | kept


def _as_read(value: str) -> str:
    """``value`` as it is read from a program: as text, so with other line ends."""
    return value.replace("\r\n", "\n").replace("\r", "\n")


def become(generation: Path, argv: Sequence[str], reporter: Reporter) -> NoReturn:
    """Become a command in the environment.

    :raises CouldNotError: if it cannot be started, with the exit status 127 or 126.
    """
    replace(Command(argv=tuple(argv), base=activated(generation, reporter)))


def become_program(text: str) -> NoReturn:
    """Become a POSIX sh program.

    :raises CouldNotError: if there is no shell.
    """
    replace(Command(argv=("/bin/sh", "-c", text, "sh"), base=os.environ))


def become_shell(generation: Path, reporter: Reporter, *, interactive: bool) -> NoReturn:
    """Become the user's shell in the environment; an interactive one reads its own files first.

    :param interactive: whether a person types; else commands are read from standard input.
    :raises CouldNotError: if no shell can be started.
    """
    shell = _users_shell()
    kind = Path(shell).name.lstrip("-")
    activate = generation / ACTIVATE
    if kind == "fish":
        source = f"source {fish_quoted(str(activate.with_suffix('.fish')))}"
        replace(Command(argv=(shell, "-C", source), base=os.environ))
    if not interactive or kind in ("csh", "tcsh"):
        become(generation, (shell,), reporter)
    environment = dict(os.environ)
    if kind == "zsh":
        if "ZDOTDIR" in os.environ:
            environment["_ENVFORGE_ZDOTDIR"] = os.environ["ZDOTDIR"]
        environment["ZDOTDIR"] = str(generation / ".envforge" / "zsh")
        replace(Command(argv=(shell, "-i"), base=environment))
    if kind == "bash":
        file = _file_for_child(f"[ ! -f ~/.bashrc ] || . ~/.bashrc\n. {shlex.quote(str(activate))}\n")
        replace(Command(argv=(shell, "--rcfile", file, "-i"), base=environment))
    if kind in ("ash", "busybox", "dash", "ksh", "ksh93", "mksh", "sh"):
        environment["ENV"] = _file_for_child(
            _read_env(os.environ.get("ENV")) + f". {shlex.quote(str(activate))}\n"
        )
        replace(Command(argv=(shell, "-i"), base=environment))
    become(generation, (shell,), reporter)


def _users_shell() -> str:
    named = os.environ.get("SHELL", "")
    if Path(named).name not in ("", "false", "nologin") and shutil.which(named):
        return named
    return shutil.which("bash") or "/bin/sh"


def _read_env(value: str | None) -> str:
    """Lines that read the user's own ``$ENV``, as a POSIX shell would have."""
    if value is None:
        return "unset ENV\n"
    return f'export ENV={shlex.quote(value)}\neval "set -- \\"$ENV\\""\n[ ! -f "$1" ] || . "$1"\nset --\n'


def _file_for_child(text: str) -> str:
    """A path at which the program that this process becomes reads ``text``: nothing is written to a disk."""
    reading, writing = os.pipe()
    if reading < 10:  # what a POSIX shell can close again
        text += f"exec {reading}<&-\n"
    os.write(writing, text.encode("utf-8", "surrogateescape"))
    os.close(writing)
    os.set_inheritable(reading, True)  # noqa: FBT003
    return f"/dev/fd/{reading}"
