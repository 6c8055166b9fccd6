"""The only module that starts programs.

A program to run is a value first (:class:`Command`), so that it can be shown, logged without secrets
and tested; :func:`run` starts it with an argument list, never through a shell; :func:`replace` becomes it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NoReturn

from envforge.errors import CouldNotError
from envforge.model.urls import redacted

__all__ = ["Command", "Completed", "Conversation", "replace", "run", "uv_executable"]

_finding_uv = Lock()

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TERM", "TZ", "SYSTEMROOT")
_NETWORK = (
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Command:
    """A program to start: argument list, working directory, and what its environment has on top.

    The environment is small on purpose: variables that steer Python, uv, pip or conda must not leak in.
    With ``network`` the proxy and certificate settings of the user go along.  ``base`` is what it is given
    instead, where a user's own command is started and nothing may be missing.
    """

    argv: tuple[str, ...]
    cwd: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = False
    base: Mapping[str, str] | None = None

    def environment(self) -> dict[str, str]:
        """The whole environment that the program is given."""
        if self.base is not None:
            return {**self.base, **self.env}
        names = _KEPT + (_NETWORK if self.network else ())
        return {name: os.environ[name] for name in names if name in os.environ} | dict(self.env)

    def __str__(self) -> str:
        return redacted(shlex.join(self.argv))


@dataclass(frozen=True, kw_only=True)
class Completed:
    """How a program ended, and what it said."""

    command: Command
    returncode: int
    stdout: str
    stderr: str


class Conversation:
    """A program that answers: what it is asked and what it says are eight bytes of length and then the bytes.

    :raises CouldNotError: if it cannot be started.
    """

    def __init__(self, command: Command) -> None:
        self._name = command.argv[0]
        try:
            self._program = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env=command.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise CouldNotError(f"cannot start {self._name}: {error.strerror or error}") from error

    def interrupt(self) -> None:
        """End the program, whatever it is doing; who waits for an answer, in another thread, gets none."""
        self._program.kill()

    def close(self) -> None:
        """End the program and forget it."""
        self._program.kill()
        self._program.communicate()

    def ask(self, question: bytes) -> bytes:
        """Send ``question`` and wait for the answer.

        :raises CouldNotError: if the program ended instead.
        """
        assert self._program.stdin is not None  # noqa: S101 - both are pipes
        assert self._program.stdout is not None  # noqa: S101
        try:
            self._program.stdin.write(len(question).to_bytes(8, "little") + question)
            self._program.stdin.flush()
            size = int.from_bytes(self._program.stdout.read(8), "little")
            answer = self._program.stdout.read(size)
        except OSError as error:
            raise CouldNotError(f"{self._name} ended early: {error.strerror or error}") from error
        if not answer or len(answer) != size:
            raise CouldNotError(f"{self._name} ended early")
        return answer


def run(command: Command, *, stdin: str | BinaryIO = "", timeout: float | None = None) -> Completed:
    """Start ``command``, wait for it, and return how it ended, whatever its exit status.

    :param stdin: what it reads from its standard input: a text, or an open file of any size.
    :param timeout: seconds, after which it is killed.
    :raises CouldNotError: if it cannot be started or does not end in time.
    """
    try:
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=command.environment(),
            **({"input": stdin} if isinstance(stdin, str) else {"stdin": stdin}),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CouldNotError(f"{command.argv[0]} did not end within {timeout:g} seconds") from error
    except OSError as error:
        raise CouldNotError(
            f"cannot start {command.argv[0]}: {error.strerror or error}",
            at=str(error.filename or command.argv[0]),
            do="check that it is installed and may be executed",
        ) from error
    return Completed(command=command, returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


def replace(command: Command) -> NoReturn:
    """Become ``command``, found on the PATH that it is given; signals and exit status are then its own.

    :raises CouldNotError: with the exit status of a shell: 127 if there is no such program, 126 if it cannot
        be executed.
    """
    name = command.argv[0]
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # by Python; a program would inherit that
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    try:
        if not name:
            raise FileNotFoundError(name)
        os.execvpe(name, command.argv, command.environment())  # noqa: S606 - no shell is wanted
    except (FileNotFoundError, NotADirectoryError) as error:
        what, do, status = f"no such command: {name}", "check its spelling, or name its path", 127
        if "/" in name and os.path.isfile(name):  # noqa: PTH113
            what, do, status = (
                f"the interpreter of {name} is not there",
                f"head -n 1 {shlex.quote(name)}",
                126,
            )
        cause: OSError = error
    except OSError as error:
        what, do, status = f"cannot execute {name}: {error.strerror}", "check what it is, and its mode", 126
        cause = error
    failure = CouldNotError(what, at=f"PATH={command.environment().get('PATH', '')}", do=do)
    failure.exit_code = status
    raise failure from cause


def uv_executable() -> str:
    """The path of the uv that belongs to this installation.

    :raises CouldNotError: if it is not installed beside envforge.
    """
    from uv import find_uv_bin  # only who needs uv pays for finding it

    try:
        with _finding_uv:  # it asks sysconfig, whose first use is not safe between threads
            return str(find_uv_bin())
    except FileNotFoundError as error:
        raise CouldNotError(
            "uv is not installed beside envforge",
            at=str(error),
            do="python -m pip install 'uv>=0.13,<0.14'",
        ) from error
