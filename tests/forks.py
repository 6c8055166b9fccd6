"""``envforge`` in a fork of a process that has imported it: importing is most of what a short command does.

Each process of pytest starts one such server when it first needs it.  Whoever runs a command cannot tell its
fork from ``python -m envforge``: it has the working directory, variables and umask that were asked for,
writes to files of its own, and ends by itself.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["PROGRAM", "can_fork", "forks"]

PROGRAM = __file__
"""The server; with no words, it runs the command lines that are on stdin and ends."""


Calls = Sequence[Sequence[str]]
_READ_AT_START = ("LANG", "LC_", "LD_", "PYTHON", "COVERAGE")
"""Beginnings of variables that Python, or the loader, looks at when it starts and not again."""


def can_fork(more: Mapping[str, str]) -> bool:
    """Whether a command with these variables besides the usual ones can be a fork."""
    return sys.platform == "linux" and not any(name.startswith(_READ_AT_START) for name in more)


class Forks:
    """The server, from outside."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, str(other.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        self._socket.settimeout(300)
        self._answers = self._socket.makefile("rb")

    def __call__(
        self, calls: Calls, *, env: Mapping[str, str], cwd: Path, umask: int = -1, many: bool = False
    ) -> tuple[int, str, str]:
        """The status, stdout and stderr of a command line; with ``many``, of several in one fork.

        Then stdout is a JSON document: a list of the three of each.
        """
        request = {"calls": calls, "env": dict(env), "cwd": str(cwd), "umask": umask, "many": many}
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self._socket, [message], [out.fileno(), err.fileno()])
            self._socket.sendall(message[sent:])
            status = json.loads(self._answers.readline())
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode())
        return status, texts[0], texts[1]

    def close(self) -> None:
        """End the server."""
        self._answers.close()
        self._socket.close()
        self._process.wait()


@functools.cache
def forks() -> Forks:
    """The server of this process."""
    server = Forks()
    atexit.register(server.close)
    return server


# -- the server ------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> None:
    """Answer until nobody can ask any more."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1 << 16, 2)
        while message and not message.endswith(b"\n"):
            message += requests.recv(1 << 16)
        if not message:
            return
        child = os.fork()
        if child == 0:
            requests.close()
            become(json.loads(message), files)
        for file in files:
            os.close(file)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        requests.sendall(b"%d\n" % status)


def become(request: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """Be the command."""
    import time

    from envforge import __main__ as program

    for number, file in enumerate(files, 1):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    if request["umask"] >= 0:
        os.umask(request["umask"])
    if request["many"]:
        run_each(request["calls"])
    sys.argv = [str(program.__file__), *request["calls"][0]]
    program.main()
    os._exit(99)  # not reached


def run_each(calls: Calls) -> NoReturn:
    """Run several command lines, and print how each ended."""
    import contextlib
    import io

    from envforge import settings
    from envforge.cli.app import run

    answers = []
    for argv in calls:
        out, err = io.StringIO(), io.StringIO()
        settings._log.clear()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(list(argv))
        answers.append([status, out.getvalue(), err.getvalue()])
    sys.stdout.write(json.dumps(answers))
    sys.stdout.flush()
    os._exit(0)  # as the command itself does


def import_all() -> None:
    """Import envforge, of which a command would import a part."""
    import gc
    import importlib
    import pkgutil

    import envforge

    for module in pkgutil.walk_packages(envforge.__path__, "envforge."):
        if not module.name.endswith(("__main__", "_worker")):
            importlib.import_module(module.name)
    gc.freeze()  # what is shared stays so


if __name__ == "__main__":
    del sys.path[0]  # this directory
    if len(sys.argv) == 1:
        run_each(json.load(sys.stdin))
    import_all()
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        serve(requests)
