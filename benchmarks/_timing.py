"""Contestants that take turns, and a table of what they needed."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

__all__ = ["Contestant", "Measured", "about_this_machine", "compete", "environment", "print_table"]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """What is measured: commands one after the other, each a process, after ``prepare``, which is not.

    :param parts: argument lists by a name; the time of each is kept, too.
    """

    name: str
    parts: Mapping[str, Sequence[str]]
    prepare: Callable[[], None]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of one run: by the clock, of all processors, and of each part by the clock."""

    wall: float
    cpu: float
    parts: Mapping[str, float]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """A small environment: nothing that steers Python, pip, uv or conda."""
    kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(more)


def _once(contestant: Contestant, home: Path) -> Measured:
    contestant.prepare()
    os.sync()  # what was written before is not to be paid now
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    parts = {}
    for name, argv in contestant.parts.items():
        begun = time.perf_counter()
        done = subprocess.run(
            argv,
            env=environment({"HOME": str(home), **contestant.env}),
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        parts[name] = time.perf_counter() - begun
        if done.returncode != 0:
            sys.exit(f"{contestant.name}: {' '.join(argv)}\n{done.stdout}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall=sum(parts.values()), cpu=cpu, parts=parts)


def compete(contestants: Sequence[Contestant], repetitions: int, home: Path) -> dict[str, list[Measured]]:
    """Run all in turn, ``repetitions`` times, each round starting with another one."""
    found: dict[str, list[Measured]] = {contestant.name: [] for contestant in contestants}
    for number in range(repetitions):
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            print(f"  round {number + 1} of {repetitions}: {contestant.name}", file=sys.stderr)
            found[contestant.name].append(_once(contestant, home))
    return found


def print_table(found: Mapping[str, Sequence[Measured]], against: Mapping[str, str]) -> None:
    """Medians, the fastest run, processor time, and the ratio to each of ``against``, by a short name.

    A ratio is the median of those of each round, so that what disturbs a whole round disturbs it less.
    """
    head = ["", "median s", "best s", "cpu s", *(f"/ {short}" for short in against)]
    rows = [head]
    for name, runs in found.items():
        row = [name, f"{median(run.wall for run in runs):.2f}", f"{min(run.wall for run in runs):.2f}"]
        row.append(f"{median(run.cpu for run in runs):.2f}")
        for other in against.values():
            pairs = zip(runs, found[other], strict=True)
            row.append(f"{median(one.wall / two.wall for one, two in pairs):.2f}")
        rows.append(row)
        if len(runs[0].parts) > 1:
            parts = {part: median(run.parts[part] for run in runs) for part in runs[0].parts}
            rows += [[f"    {part}", f"{seconds:.2f}"] for part, seconds in parts.items()]
    widths = [max(len(row[at]) for row in rows if len(row) > at) for at in range(len(head))]
    for row in rows:
        cells = [f"{cell:<{width}}" if at == 0 else f"{cell:>{width}}" for at, (cell, width) in
                 enumerate(zip(row, widths, strict=False))]  # fmt: skip
        print("  ".join(cells).rstrip())
    print(flush=True)


def about_this_machine(directory: Path) -> str:
    """One line: what it was measured on."""
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", str(directory)], capture_output=True, text=True, check=False
    ).stdout.strip()
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    system = f"Linux {platform.release()}, Python {python}"
    return f"{cores} processors, load {load:.1f}, {kind} at {directory}, {system}"
