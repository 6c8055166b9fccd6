"""Runs ``envforge`` command lines and lets the system call of a given number kill them, or fail.

    python -m tests.faults.server <requests >answers          one JSON document a line

``strace --inject`` counts the calls of each thread for itself, and which thread makes a call is a matter of
luck.  Here one tracer counts all that change a file system, whoever makes them: threads and programs that
were started.  A seccomp filter stops at no others, so that a run costs little more than it does without.
The command runs in a fork of this process, in which everything is imported already.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import signal
import struct
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

__all__ = ["main"]

# The number of each call, and which argument is a path or, with `fd`, a descriptor.
X86_64 = {
    "open": 2, "creat": 85, "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87, "symlink": 88,
    "chmod": 90, "chown": 92, "lchown": 94, "truncate": 76, "mknod": 133, "openat": 257, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268, "utimensat": 280, "renameat2": 316, "openat2": 437, "fchmodat2": 452, "write": 1,
    "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328, "ftruncate": 77, "fallocate": 285,
    "fchmod": 91, "fchown": 93, "fsync": 74, "fdatasync": 75, "sendfile": 40, "copy_file_range": 326,
    "ioctl": 16, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190,
}  # fmt: skip
AARCH64 = {
    "openat": 56, "mkdirat": 34, "mknodat": 33, "fchownat": 54, "unlinkat": 35, "renameat": 38, "linkat": 37,
    "symlinkat": 36, "fchmodat": 53, "utimensat": 88, "renameat2": 276, "openat2": 437, "fchmodat2": 452,
    "truncate": 45, "write": 64, "pwrite64": 68, "writev": 66, "pwritev": 70, "pwritev2": 287,
    "ftruncate": 46, "fallocate": 47, "fchmod": 52, "fchown": 55, "fsync": 82, "fdatasync": 83,
    "sendfile": 71, "copy_file_range": 285, "ioctl": 29, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
}  # fmt: skip
NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine(), {})
NAMES = {number: name for name, number in NUMBERS.items()}
PATH_ARGUMENT = {
    "renameat": 3,
    "renameat2": 3,
    "linkat": 3,
    "symlinkat": 2,
    "rename": 1,
    "link": 1,
    "symlink": 1,
}
FIRST_IS_DIRECTORY = {name for name in NUMBERS if name.endswith("at") or name in ("openat2", "fchmodat2")}
ON_DESCRIPTOR = {
    "write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate", "fchmod", "fchown",
    "fsync", "fdatasync", "sendfile", "copy_file_range", "ioctl", "fsetxattr",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FICLONE = 0x40049409

TRACEME, CONT, SETOPTIONS, GETREGSET, SETREGSET, GET_SYSCALL_INFO = 0, 7, 0x4200, 0x4204, 0x4205, 0x420E
OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100000  # fork, vfork, clone, exec, seccomp; and kill all with us
EVENT_SECCOMP, WALL = 7, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, pid: int, address: int = 0, data: Any = None) -> int:
    done = int(libc.ptrace(request, pid, address, data))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")
    return done


# -- the filter: which calls stop ------------------------------------------------------------------------


def program() -> bytes:
    """A BPF program that stops at the calls of :data:`NUMBERS`, at opening only where it writes."""
    load, equal, any_bit, ret = 0x20, 0x15, 0x45, 0x06
    trace, allow = 0x7FF00000, 0x7FFF0000
    argument = 16  # offset of the first in `struct seccomp_data`; of each the lower half is looked at
    special = {"open": argument + 8, "openat": argument + 16, "ioctl": argument + 8}
    code: list[tuple[int, int, int, int]] = [(load, 0, 0, 0)]
    for name, number in NUMBERS.items():
        if name in special:
            test = (equal, 0, 1, FICLONE) if name == "ioctl" else (any_bit, 0, 1, WRITES)
            code += [(equal, 0, 4, number), (load, 0, 0, special[name]), test]
            code += [(ret, 0, 0, trace), (ret, 0, 0, allow)]
        else:
            code += [(equal, 0, 1, number), (ret, 0, 0, trace)]
    code.append((ret, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", *line) for line in code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def become_traced() -> None:
    """In the new process: stop at the calls of the filter, and wait for the tracer."""
    code = program()
    wanted = _Program(len(code) // 8, code)
    ptrace(TRACEME, 0)
    if libc.prctl(38, 1, 0, 0, 0) != 0:  # PR_SET_NO_NEW_PRIVS, without which only root may set a filter
        raise OSError(ctypes.get_errno(), "no_new_privs")
    os.kill(os.getpid(), signal.SIGSTOP)
    if libc.prctl(22, 2, ctypes.byref(wanted), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


# -- the tracer ------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """What happens at the ``at``-th call, or at the first that ``pattern`` finds: killed, or an error.

    ``denied`` are calls that fail each time, with their errors; ``calls`` is what was seen so far.
    """

    at: int | None
    error: int | None
    kept: str
    denied: dict[str, int] = field(default_factory=dict)
    pattern: str | None = None
    calls: list[str] = field(default_factory=list)
    struck: str | None = None


def trace(child: int, fault: Fault) -> int:
    """Follow ``child`` and all that it starts until the last is gone; returns its wait status."""
    result, known = 0, {child}
    os.waitpid(child, WALL)
    ptrace(SETOPTIONS, child, 0, OPTIONS)
    ptrace(CONT, child)
    while True:
        try:
            pid, status = os.waitpid(-1, WALL)
        except ChildProcessError:
            return result
        if not os.WIFSTOPPED(status):
            result = status if pid == child else result
            continue
        passed = 0
        if status >> 16 == EVENT_SECCOMP:
            if stop(pid, fault):
                os.killpg(child, signal.SIGKILL)
                continue
        elif status >> 16 == 0 and not (os.WSTOPSIG(status) == signal.SIGSTOP and pid not in known):
            passed = os.WSTOPSIG(status)
        known.add(pid)
        try:
            ptrace(CONT, pid, 0, passed)
        except ProcessLookupError:  # killed meanwhile
            continue


def stop(pid: int, fault: Fault) -> bool:
    """Count a call; where it is the one, make it fail or answer that everything is to be killed."""
    info = ctypes.create_string_buffer(88)
    try:
        ptrace(GET_SYSCALL_INFO, pid, len(info), info)
    except ProcessLookupError:
        return False
    number, *arguments = struct.unpack_from("=7Q", info, 24)
    name = NAMES.get(number, str(number))
    where = place(pid, name, arguments)
    if not where.startswith(fault.kept):
        return False
    fault.calls.append(f"{name} {where}")
    if name in fault.denied:
        fail(pid, fault.denied[name])
        return False
    found = fault.pattern is not None and re.search(fault.pattern, fault.calls[-1]) is not None
    if fault.struck is not None or not (found or len(fault.calls) == fault.at):
        return False
    fault.struck = fault.calls[-1]
    if fault.error is None:
        return True
    fail(pid, fault.error)
    return False


def place(pid: int, name: str, arguments: list[int]) -> str:
    """The path that a call is about; what is no file's, such as a pipe's, does not begin with ``/``."""
    try:
        if name in ON_DESCRIPTOR:
            at = 2 if name == "copy_file_range" else 0
            return os.readlink(f"/proc/{pid}/fd/{arguments[at]}")
        at = PATH_ARGUMENT.get(name, 1 if name in FIRST_IS_DIRECTORY else 0)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(arguments[at])
            text = os.fsdecode(memory.read(4096).split(b"\0")[0])
        if text.startswith("/"):
            return text
        descriptor = struct.unpack("=i", struct.pack("=I", arguments[at - 1] & 0xFFFFFFFF))[0]
        relative = name in FIRST_IS_DIRECTORY and descriptor >= 0
        base = os.readlink(f"/proc/{pid}/" + (f"fd/{descriptor}" if relative else "cwd"))
        return f"{base}/{text}"
    except OSError:  # a file descriptor that is not open: the call fails by itself
        return ""


def fail(pid: int, error: int) -> None:
    """Skip the call that ``pid`` is about to make, and have it return ``-error``."""
    registers = ctypes.create_string_buffer(1024)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(registers), len(registers))
    status, system_call = 1, 0x404
    ptrace(GETREGSET, pid, status, vector)
    if platform.machine() == "x86_64":
        struct.pack_into("=q", registers, 15 * 8, -1)  # orig_rax
        struct.pack_into("=q", registers, 10 * 8, -error)
        ptrace(SETREGSET, pid, status, vector)
        return
    struct.pack_into("=q", registers, 0, -error)
    ptrace(SETREGSET, pid, status, vector)
    none = ctypes.c_int(-1)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(none), 4)
    ptrace(SETREGSET, pid, system_call, vector)


# -- requests --------------------------------------------------------------------------------------------


def answer(request: dict[str, Any], run: Callable[[list[str]], int]) -> dict[str, Any]:
    """Run one command line, ``argv``; with ``trace``, as the fields of :class:`Fault` in the request say."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            in_child(request, run, out, err)
        fault = Fault(
            at=request.get("at"),
            error=request.get("error"),
            kept=request.get("kept", "/"),
            denied=request.get("deny", {}),
            pattern=request.get("pattern"),
        )
        status = trace(child, fault) if request.get("trace") else os.waitpid(child, 0)[1]
        for stream in (out, err):
            stream.seek(0)
        return {
            "status": os.waitstatus_to_exitcode(status),
            "out": out.read().decode(errors="replace"),
            "err": err.read().decode(errors="replace"),
            "calls": fault.calls if request.get("list") else [],
            "count": len(fault.calls),
            "struck": fault.struck,
        }


def in_child(
    request: dict[str, Any], run: Callable[[list[str]], int], out: IO[bytes], err: IO[bytes]
) -> None:
    """What the fork does; it never comes back."""
    status = 99
    try:
        os.setsid()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        if request.get("trace"):
            become_traced()
        status = run(request["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:  # noqa: BLE001 - nothing of it may reach the parent's loop
        os.write(2, f"Traceback: {error!r}".encode())
    os._exit(status)


def main() -> None:
    """Answer requests until there are no more."""
    import rattler
    import rattler.install  # noqa: F401

    import envforge.cli.install
    import envforge.cli.verify
    import envforge.node.install
    import envforge.node.verify  # noqa: F401
    from envforge.cli.app import run

    requests, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    for line in requests:
        answers.write(json.dumps(answer(json.loads(line), run)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
