"""Bytecode for every source of an environment, so that nobody writes into a generation later.

``unchecked-hash`` (PEP 552): it holds whatever the time stamps become, on a read-only disk and in an image
with clamped times, and Python does not read the source to believe it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.machine import jobs_available
from envforge.edges.process import Command, run
from envforge.edges.scratch import is_full
from envforge.errors import CouldNotError

__all__ = ["compile_sources", "jobs_available"]

WORKER = Path(__file__).with_name("bytecode_worker.py")


def compile_sources(tree: Path, final: Path, library: str, python: str, *, jobs: int) -> tuple[str, ...]:
    """Compile every source below ``library`` of the environment at ``tree``, with its own Python.

    :param final: the path that the environment is linked for, which tracebacks will show.
    :param library: the standard library relative to the prefix, ``lib/pythonX.Y``.
    :param python: the environment's Python version.
    :param jobs: how many processes may work at once.
    :returns: the sources that do not compile, sorted; they are no reason to stop.
    :raises CouldNotError: if the environment's Python does not run.
    """
    major, minor = (int("".join(filter(str.isdigit, part))) for part in python.split(".")[:2])
    if (major, minor) < (3, 7):
        return ()
    sources = _sources(tree, library)
    if not sources:
        return ()
    shares = [share for share in (sources[start::jobs] for start in range(jobs)) if share]
    with ThreadPoolExecutor(len(shares)) as pool:
        failed = pool.map(lambda share: _compile(tree, final, share), shares)
    return tuple(sorted(name for names in failed for name in names))


def _sources(tree: Path, library: str) -> list[str]:
    """Every source, relative to ``tree`` and sorted; no link of a package leads out of the tree."""
    found = []
    root = os.path.realpath(tree)
    for base, _, names in os.walk(tree / library):
        if os.path.islink(os.path.join(base, "__pycache__")):  # noqa: PTH114, PTH118
            continue  # bytecode would be written to where it leads
        for name in names:
            path = os.path.join(base, name)  # noqa: PTH118 - tens of thousands of them
            if name.endswith(".py") and _inside(path, root):
                found.append(os.path.relpath(path, tree))
    return sorted(found)


def _inside(path: str, root: str) -> bool:
    if not os.path.islink(path):  # noqa: PTH114
        return os.path.isfile(path)  # noqa: PTH113
    end = os.path.realpath(path)
    return end.startswith(f"{root}/") and os.path.isfile(end)  # noqa: PTH113


def _compile(tree: Path, final: Path, sources: list[str]) -> list[str]:
    command = Command(
        argv=(
            str(tree / "bin" / "python"),
            "-S",
            "-s",
            "-B",
            "-X",
            "utf8",
            str(WORKER),
            str(tree),
            str(final),
        ),
        env={"PYTHONHASHSEED": "0"},
    )
    done = run(command, stdin="".join(f"{source}\0" for source in sources))
    if done.returncode != 0:
        full = is_full(done.stderr)
        raise CouldNotError(
            "there is no room for the bytecode" if full else "the environment's Python does not run here",
            at=str(tree / "bin" / "python"),
            do="df -h . ; df -i . ; quota"
            if full
            else "compare the machine with what was assumed: envforge lock --glibc, -p",
            story=done.stderr,
        )
    return [name for name in done.stdout.split("\0") if name]
