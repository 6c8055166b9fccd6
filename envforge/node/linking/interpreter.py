"""A Python that is on the machine already, and virtual environments made from it (PEP 405)."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.process import Command, run
from envforge.errors import InputError
from envforge.model.lockfile import Lockfile
from envforge.model.python import locked_python

__all__ = ["Interpreter", "ask_interpreter", "check_version", "make_virtual_environment"]

_SECONDS = 60
_QUESTION = """
import importlib.util, json, os, sys, sysconfig
print(json.dumps({
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "version": ".".join(map(str, sys.version_info[:3])),
    "implementation": sys.implementation.name,
    "threads": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "machine": os.uname().machine,
    "bits": 64 if sys.maxsize > 2**32 else 32,
    "build": sys.version,
    "magic": importlib.util.MAGIC_NUMBER.hex(),
}))
"""


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """What an interpreter says of itself.

    ``path`` is how it was named, ``executable`` the program that it is, outside any virtual environment;
    ``free_threaded`` whether it is built without the global lock; ``identity`` tells apart what would make
    other bytecode.
    """

    path: str
    executable: str
    version: str
    implementation: str
    machine: str
    free_threaded: bool
    identity: str

    @property
    def library(self) -> str:
        """Where its packages are, relative to a virtual environment: ``lib/python3.11``."""
        return f"lib/python{'.'.join(self.version.split('.')[:2])}{'t' if self.free_threaded else ''}"


def ask_interpreter(path: str) -> Interpreter:
    """Start the interpreter at ``path``, a file or a name on PATH, and ask it what it is.

    :raises InputError: if it is none, or none that wheels can be installed for.
    :raises CouldNotError: if it cannot be started.
    """
    done = run(Command(argv=(path, "-I", "-S", "-c", _QUESTION)), timeout=_SECONDS)
    try:
        if done.returncode != 0:
            raise ValueError(done.stderr)
        told = json.loads(done.stdout)
        build = f"{told['build']} {told['magic']}"
        found = Interpreter(
            path=path,
            executable=str(told["executable"]),
            version=str(told["version"]),
            implementation=str(told["implementation"]),
            machine=str(told["machine"]),
            free_threaded=told["threads"] is True,
            identity=hashlib.sha256(build.encode()).hexdigest(),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this is no Python that can be used",
            at=path,
            do="name another: --python /usr/bin/python3",
            story=f"{done.stdout}\n{done.stderr}",
        ) from error
    if found.implementation != "cpython" or told["bits"] != 64 or not _new_enough(found.version):
        raise InputError(
            f"{found.implementation} {found.version} of {told['bits']} bits cannot be used",
            at=path,
            do="name a CPython of 3.7 or newer, of 64 bits: --python /usr/bin/python3",
        )
    return found


def _new_enough(version: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= (3, 7)


def check_version(lockfile: Lockfile, platform: str, interpreter: Interpreter) -> None:
    """Refuse a Python that the lock was not made for: what a wheel needs may depend on it.

    :raises InputError: if its X.Y is another, or its patch is older than the one that was named.
    """
    locked = locked_python(lockfile, platform)
    if locked is None:
        return
    wanted, found = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (locked, interpreter.version))
    if found[:2] == wanted[:2] and found >= wanted:
        return
    short = ".".join(locked.split(".")[:2])
    newer = f" {locked} or newer" if found[:2] == wanted[:2] else f" {short}"
    raise InputError(
        f"the lock is for Python{newer}, and this one is {interpreter.version}",
        at=interpreter.path,
        do=f"name one: --python python{short}; or lock for this one: "
        f"envforge lock --python {'.'.join(interpreter.version.split('.')[:3])}",
    )


def make_virtual_environment(tree: Path, interpreter: Interpreter) -> str:
    """Make the new directory ``tree`` a virtual environment without pip.

    :returns: its site-packages, relative to it.
    """
    major_minor = ".".join(interpreter.version.split(".")[:2])
    site_packages = f"{interpreter.library}/site-packages"
    (tree / site_packages).mkdir(parents=True)
    (tree / "bin").mkdir()
    (tree / "lib64").symlink_to("lib")
    (tree / "bin" / "python").symlink_to(interpreter.executable)
    for name in ("python3", f"python{major_minor}"):
        (tree / "bin" / name).symlink_to("python")
    lines = (
        f"home = {os.path.dirname(interpreter.executable)}",  # noqa: PTH120 - text as it is
        "include-system-site-packages = false",
        f"version = {interpreter.version}",
        f"executable = {interpreter.executable}",
    )
    (tree / "pyvenv.cfg").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return site_packages
