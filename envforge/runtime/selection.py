"""Which files of the linked tree a runtime keeps.

Of a Python that was linked with all it depends on, the node's half needs ``bin/python3``, the standard
library but for what the table below names, ``site-packages`` with its own wheels, and the libraries that any
of these is linked to.  Everything else (headers, documentation, static libraries, terminfo, time zones, Tcl)
is left out by not being one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envforge.errors import InputError
from envforge.formats.elf import MACHINES, ElfFile, read_elf

__all__ = ["LEFT_OUT", "Selection", "select"]

LEFT_OUT = {
    "config-[^/]*": "for linking programs to libpython: 5 to 60 MB",
    "(.*/)?(test|tests|idle_test)": "tests of the standard library: 30 MB",
    "idlelib|tkinter|turtledemo|turtle.py": "windows on a screen",
    "lib-dynload/_(tkinter|sqlite3|curses.*|gdbm|dbm|crypt|lsprof)[.].*": "and the libraries of these",
    "lib-dynload/(readline|nis|audioop|ossaudiodev|spwd).*": "and the libraries of these",
    "lib-dynload/_(test|xx|interp|ctypes_test).*|lib-dynload/xx.*": "tests, and what nobody imports",
    "lib-dynload/_ssl.*": "no socket is opened on a node, and it needs libssl: 1.5 MB",
    "sqlite3|curses|dbm": "whose extension modules are left out",
    "ensurepip|venv": "pip's own wheels: 3 MB",
    "lib2to3|distutils|pydoc_data|pydoc.py|doctest.py|unittest|__phello__.*": "tools of developers: 4 MB",
    "wsgiref|xmlrpc|http/server.py|html": "servers, and what they serve",
    "_pydecimal.py|_pyio.py|_pyrepl": "what is there in C, and what is for people at a prompt",
    r"(.*/)?__pycache__/[^/]*\.opt-[12]\.pyc": "bytecode for -O and -OO, which nothing here is started with",
    r".*\.(exe|a|h|c)": "for another system, or for compilers",
    r"site-packages/[^/]+\.dist-info/(RECORD|INSTALLER|sboms)": "in the receipt, or the bundle's own list",
    "site-packages/securesystemslib/_vendor/.*test.*": "tests of what it has of others: 2.4 MB",
    "site-packages/click/testing.py": "for those who write programs",
}
"""Paths below ``lib/pythonX.Y`` that are left out, as patterns of a whole path or directory, and why.

Those of the standard library mean nothing below ``site-packages``, where names are a wheel's own.
"""

_WHEELS = "site-packages/"


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_OF_WHEELS = _any_of(pattern for pattern in LEFT_OUT if pattern.startswith(_WHEELS))
_OF_PYTHON = _any_of(pattern for pattern in LEFT_OUT if not pattern.startswith(_WHEELS))
_BYTECODE = re.compile(r"(.*/)?__pycache__/([^/.]+)\.[^/]*\.pyc")
_SYSTEM = re.compile(r"lib(c|m|dl|rt|util|pthread|resolv|nsl|anl)\.so\.\d+|ld-linux[\w-]*\.so\.\d+")
"""What glibc brings, which must be the node's own."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The files of a runtime, by their path in it, and where each lies: sorted, and no links among them.

    ``glibc`` is the lowest that has what its programs and libraries call.
    """

    files: dict[str, Path]
    glibc: tuple[int, int]


def select(tree: Path, library: str, platform: str) -> Selection:
    """Choose from a linked tree.

    :param tree: the linked environment; a link in it that leads out of it is not followed.
    :param library: ``lib/pythonX.Y``.
    :raises InputError: if there is no Python for ``platform`` in it.
    """
    root = tree.resolve()
    found = {"bin/python3": _inside(tree / "bin" / library.rpartition("/")[2], root)}
    for path in _files(tree / library):
        name = path.relative_to(tree / library).as_posix()
        if not _is_left_out(name):
            found[f"{library}/{name}"] = _inside(path, root)
    kept = {name: path for name, path in found.items() if path is not None}
    kept = {name: path for name, path in kept.items() if not _is_orphan(name, kept)}
    if "bin/python3" not in kept:
        raise InputError(
            f"the runtime's Python has no bin/{library.rpartition('/')[2]}",
            at=f"python for {platform}",
            do="lock with a channel whose python is CPython, or bundle --no-runtime",
        )
    libraries, glibc = _libraries(tree, kept, platform)
    return Selection(files=dict(sorted((kept | libraries).items())), glibc=glibc)


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        else:
            yield path


def _is_left_out(name: str) -> bool:
    """Whether a pattern names the path or a directory above it."""
    pattern = _OF_WHEELS if name.startswith(_WHEELS) else _OF_PYTHON
    parts = name.split("/")
    return any(pattern.fullmatch("/".join(parts[: end + 1])) for end in range(len(parts)))


def _is_orphan(name: str, kept: Mapping[str, Path]) -> bool:
    """Bytecode of a source that is left out."""
    match = _BYTECODE.fullmatch(name)
    return match is not None and f"{match[1] or ''}{match[2]}.py" not in kept


def _inside(path: Path, root: Path) -> Path | None:
    real = path.resolve()
    return real if real.is_file() and real.is_relative_to(root) else None


def _libraries(
    tree: Path, kept: Mapping[str, Path], platform: str
) -> tuple[dict[str, Path], tuple[int, int]]:
    """What the kept programs and modules are linked to and the tree has, and so on, by the names they use."""
    root = tree.resolve()
    found: dict[str, Path] = {}
    glibc = (0, 0)
    todo: list[Path] = [path for name, path in kept.items() if name == "bin/python3" or ".so" in path.name]
    while todo:
        elf = _read(todo.pop(), platform)
        glibc = max(glibc, elf.glibc)
        for name in elf.needed:
            path = _inside(tree / "lib" / name, root)
            if f"lib/{name}" not in found and "/" not in name and path and not _SYSTEM.fullmatch(name):
                found[f"lib/{name}"] = path
                todo.append(path)
    return found, glibc


def _read(path: Path, platform: str) -> ElfFile:
    with path.open("rb") as file:
        elf = read_elf(file)
    if elf is None or elf.machine != MACHINES[platform]:
        raise InputError(
            f"{path.name} of the runtime is not for {platform}",
            at=str(path),
            do="lock again; if it stays so, its channel is wrong: bundle --no-runtime",
        )
    return elf
