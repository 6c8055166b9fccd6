"""Bytecode for every source of an environment, so that nobody writes into a generation later.

``unchecked-hash`` (PEP 552): it holds whatever the time stamps become, on a read-only disk and in an image
with clamped times, and Python does not read the source to believe it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.process import Command, run
from envforge.errors import CouldNotError

__all__ = ["compile_sources", "jobs_available"]

WORKER = Path(__file__).with_name("bytecode_worker.py")


def jobs_available() -> int:
    """How many processors this process may use (affinity, not what the machine has)."""
    try:
        return len(os.sched_getaffinity(0)) or 1
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def compile_sources(tree: Path, final: Path, library: str, python: str, *, jobs: int) -> tuple[str, ...]:
    """Compile every source below ``library`` of the environment at ``tree``, with its own Python.

    :param final: the path that the environment is linked for, which tracebacks will show.
    :param library: the standard library relative to the prefix, ``lib/pythonX.Y``.
    :param python: the environment's Python version.
    :param jobs: how many processes may work at once.
    :returns: the sources that do not compile, sorted; they are no reason to stop.
    :raises CouldNotError: if the environment's Python does not run.
    """
    major, minor = (int(part) for part in python.split(".")[:2])
    if (major, minor) < (3, 7):
        return ()
    found = (tree / library).rglob("*.py")
    sources = sorted(path.relative_to(tree).as_posix() for path in found if path.is_file())
    if not sources:
        return ()
    shares = [share for share in (sources[start::jobs] for start in range(jobs)) if share]
    with ThreadPoolExecutor(len(shares)) as pool:
        failed = pool.map(lambda share: _compile(tree, final, share), shares)
    return tuple(sorted(name for names in failed for name in names))


def _compile(tree: Path, final: Path, sources: list[str]) -> list[str]:
    command = Command(
        argv=(str(tree / "bin" / "python"), "-S", "-s", "-B", str(WORKER), str(tree), str(final)),
        env={"PYTHONHASHSEED": "0"},
    )
    done = run(command, stdin="".join(f"{source}\n" for source in sources))
    if done.returncode != 0:
        raise CouldNotError(
            "the environment's Python does not run here",
            at=str(tree / "bin" / "python"),
            do="compare the machine with what was assumed: envforge lock --glibc, -p",
            story=done.stderr,
        )
    return [line.split("\t")[0] for line in done.stdout.splitlines()]
