"""A shared library with a prefix inside, the thing that makes conda packages hard to move.

It exports one symbol, ``greet_prefix``, a string.  A C compiler makes it where there is one; else, on Linux,
it is written byte by byte: one segment with a symbol table and the string.
"""

from __future__ import annotations

import shutil
import struct
import sys
import tempfile
from pathlib import Path

from envforge.demo.packages import PLACEHOLDER
from envforge.edges.process import Command, run
from envforge.errors import CouldNotError

__all__ = ["SYMBOL", "compiled", "find_compiler", "library", "library_name", "written"]

SYMBOL = "greet_prefix"
_MACHINE = {"64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64


def library_name(platform: str, version: str = "") -> str:
    """The library's file name on ``platform``, a conda subdir; with ``version`` that of the real file."""
    if platform.startswith("osx-"):
        return f"libgreet.{version}.dylib" if version else "libgreet.dylib"
    return f"libgreet.so.{version}" if version else "libgreet.so"


def find_compiler() -> str | None:
    """The C compiler of this machine, if it has one."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def library(platform: str) -> bytes:
    """The library for ``platform``, which is this machine's conda subdir.

    :raises CouldNotError: if the compiler fails, or there is none where one is needed.
    """
    if compiler := find_compiler():
        return compiled(compiler, platform)
    return written(platform)


def compiled(compiler: str, platform: str) -> bytes:
    """The library as ``compiler`` makes it for this machine.

    :raises CouldNotError: if it fails.
    """
    name = library_name(platform, "1")
    if platform.startswith("osx-"):
        switches = ["-dynamiclib", "-install_name", f"@rpath/{name}"]
    else:
        switches = ["-shared", "-nostdlib", "-s", f"-Wl,-soname,{name}", "-Wl,--build-id=none"]
    # The string itself, not a pointer to it: conda pads it in place.
    source = f'const char {SYMBOL}[] = "{PLACEHOLDER}";\n'
    with tempfile.TemporaryDirectory(prefix="envforge-demo-") as folder:
        # Relative names only: a compiler may record those it is given.
        argv = (compiler, "-O1", "-fPIC", *switches, "-o", name, "-x", "c", "-")
        command = Command(argv=argv, cwd=Path(folder), env={"LC_ALL": "C", "TMPDIR": folder})
        done = run(command, stdin=source)
        if done.returncode == 0:
            return Path(folder, name).read_bytes()
    raise CouldNotError(f"the C compiler {compiler} failed: {done.stderr.strip()}")


def written(platform: str) -> bytes:
    """The library as an ELF file made here, with no compiler.

    :raises CouldNotError: if ``platform`` is not a 64-bit Linux, little end first.
    """
    system, _, machine = platform.partition("-")
    if system != "linux" or machine not in _MACHINE or sys.byteorder != "little":
        raise CouldNotError("no C compiler (cc, gcc, clang) was found", do="install one")
    return _elf(_MACHINE[machine], library_name(platform, "1").encode())


def _elf(machine: int, soname: bytes) -> bytes:
    """A shared object with one data symbol, the string that is the placeholder."""
    strings = b"\0" + soname + b"\0" + SYMBOL.encode() + b"\0"
    value = PLACEHOLDER.encode() + b"\0"
    # File header, three program headers, hash table, symbols, dynamic section, names, the string.
    hashes = 64 + 3 * 56
    symbols = hashes + 24
    dynamic = symbols + 2 * 24
    names = dynamic + 7 * 16
    data = names + len(strings)
    end = data + len(value)
    # A hash table of one bucket, where every name is at home: bucket and chain counts, symbol 1, no next.
    hash_table = struct.pack("<6I", 1, 2, 1, 0, 0, 0)
    # Global object, default visibility, in a section whose number only has to be none of the special ones.
    entry = struct.pack("<IBBHQQ", 2 + len(soname), 0x11, 0, 1, data, len(value))
    tags = ((14, 1), (4, hashes), (5, names), (6, symbols), (10, len(strings)), (11, 24), (0, 0))
    section = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    programs = (
        # The loader writes into the dynamic section; pages may be 64 KiB; the last keeps stacks safe.
        struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, end, end, 0x10000),
        struct.pack("<IIQQQQQQ", 2, 6, dynamic, dynamic, dynamic, len(section), len(section), 8),
        struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16),
    )
    return b"".join((header, *programs, hash_table, bytes(24), entry, section, strings, value))
