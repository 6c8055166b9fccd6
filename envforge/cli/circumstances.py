"""Under what circumstances something failed: for the log, where nobody is there to look."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import envforge
from envforge.cli.console import human_size
from envforge.model.urls import redacted

__all__ = ["circumstances"]

_JOB = ("SLURM_", "PBS_", "LSB_", "FLUX_", "OAR_", "COBALT_")
_JOB_FACTS = ("JOB_ID", "JOBID", "JOB_NAME", "JOBNAME", "NODELIST", "QUEUE", "PARTITION")


def circumstances(place: Path) -> str:
    """Time, machine, user, job, versions, the command, and the room on the file system of ``place``."""
    facts = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "node": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"{' '.join(part for part in platform.libc_ver() if part)}",
        "user": f"{_number('getuid')}:{_number('getgid')}, umask {_umask()}",
        "job": _job(),
        "processors": f"{_processors()} of {os.cpu_count()}",
        "envforge": f"{envforge.__version__}, Python {platform.python_version()} ({sys.executable})",
        "engines": ", ".join(f"{name} {_version(name)}" for name in ("py-rattler", "uv")),
        "command": redacted(" ".join(sys.argv)),
        "directory": _directory(),
        "room": f"{_room(place)} at {place}",
    }
    return "\n".join(f"{name + ':':<12}{value}" for name, value in facts.items() if value)


def _number(name: str) -> str:
    function = getattr(os, name, None)
    return str(function()) if function is not None else "?"


def _umask() -> str:
    mask = os.umask(0o077)
    os.umask(mask)
    return f"{mask:03o}"


def _job() -> str:
    names = sorted(name for name in os.environ if name.startswith(_JOB) and name.endswith(_JOB_FACTS))
    return " ".join(f"{name}={os.environ[name]}" for name in names)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _directory() -> str:
    try:
        return str(Path.cwd())
    except OSError as error:
        return f"gone ({error.strerror})"


def _room(place: Path) -> str:
    try:
        status = os.statvfs(place)
    except (OSError, AttributeError):
        return "not known"
    free, files = status.f_bavail * status.f_frsize, status.f_favail
    return f"{human_size(free)} and {files if status.f_files else 'any number of'} files free"
