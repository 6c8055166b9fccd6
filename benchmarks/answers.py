"""How long questions about a lockfile take: 300 packages on each of four platforms, each needing eight.

python -m benchmarks.answers [--repetitions 5] [--packages 300] [--at DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, print_table
from tests.answers.world import conda, lock, write

PLATFORMS = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64")


def made(count: int) -> list[str]:
    """Names of packages."""
    return [f"package-{number:04}" for number in range(count)]


def main() -> None:
    """Ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--packages", type=int, default=300)
    parser.add_argument("--at", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.at) as directory:
        work = Path(directory)
        names = made(given.packages)
        rows = [
            conda(
                f"{name} 1.2.3",
                *(f"{other} >=1.2,<2.0a0" for other in names[number + 1 : number + 9]),
                "__glibc >=2.17",
                platforms=PLATFORMS,
            )
            for number, name in enumerate(names)
        ]
        write(work / "conda-lock.yml", lock(*rows))
        write(work / "same-lock.yml", lock(*rows))
        last = names[-1]
        completing = {"_ENVFORGE_COMPLETE": "bash_complete", "COMP_WORDS": f"envforge why {last[:-1]}"}
        asked = {
            "envforge --version": ("--version",),
            "list": ("list",),
            "tree": ("tree",),
            f"why {last}": ("why", last),
            "diff of two that are equal": ("diff", "same-lock.yml", "conda-lock.yml"),
        }
        program = (sys.executable, "-m", "envforge")
        contestants = [
            Contestant(name=name, parts={"": (*program, *words)}, prepare=lambda: None)
            for name, words in asked.items()
        ]
        contestants.append(
            Contestant(
                name="completing a package's name",
                parts={"": program},
                prepare=lambda: None,
                env={**completing, "COMP_CWORD": "2"},
            )
        )
        print(f"{about_this_machine(work)}\n{len(names) * len(PLATFORMS)} rows\n")
        found = compete(contestants, given.repetitions, work)
        print_table(found, {"nothing at all": "envforge --version"})


if __name__ == "__main__":
    main()
