"""What costs little: nothing to do for 400 packages, and a change of three packages among 100.

python -m benchmarks.update [--repetitions 5] [--at DIR]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, environment, print_table
from tests.node.world import Artifact, conda, library, mirror


def package(number: int, *, files: int, size: int, version: str = "1") -> Artifact:
    """A package of ``files`` files of ``size`` bytes that no other package has."""
    text = f"{number} {version} ".encode()
    contents = {name: (text + str(name).encode()).ljust(size, b".") for name in range(files)}
    return conda(library(f"p{number}", {f"lib/p{number}/{n}": data for n, data in contents.items()}))


def install(source: Path, work: Path, store: str = "store") -> tuple[str, ...]:
    """The command line."""
    words = (sys.executable, "-m", "envforge", "install", str(source), "--prefix", str(work / "p"))
    return (*words, "--store", str(work / store))


def do(argv: tuple[str, ...], work: Path) -> None:
    """Run what is not measured."""
    subprocess.run(argv, env=environment({"HOME": str(work)}), check=True, capture_output=True)


def forget(work: Path, *names: str) -> None:
    """Remove the prefix, and what else is named."""
    (work / "p").unlink(missing_ok=True)
    for name in ("p.generations", *names):
        shutil.rmtree(work / name, ignore_errors=True)


def nothing_to_do(work: Path, repetitions: int) -> None:
    """The same question again, for 400 packages; aim: under 0.3 s."""
    source = mirror(work / "many", *(package(n, files=5, size=200) for n in range(400)))
    do(install(source, work), work)
    contestants = [
        Contestant(
            name="envforge --version",
            parts={"": (sys.executable, "-m", "envforge", "--version")},
            prepare=lambda: None,
        ),
        Contestant(
            name="nothing to do, 400 packages", parts={"": install(source, work)}, prepare=lambda: None
        ),
    ]
    print_table(compete(contestants, repetitions, work), {"nothing at all": "envforge --version"})
    forget(work, "store", "many")


def three_of_a_hundred(work: Path, repetitions: int) -> None:
    """A change of three packages, against making all of it."""
    packages = [package(n, files=40, size=20_000) for n in range(100)]
    changed = [package(n, files=40, size=20_000, version="2") for n in range(3)]
    old, new = mirror(work / "old", *packages), mirror(work / "new", *changed, *packages[3:])

    def with_the_old_one() -> None:
        forget(work, "store")
        do(install(old, work), work)

    def warm() -> None:
        do(install(new, work, "kept"), work)
        forget(work)

    contestants = [
        Contestant(
            name="three packages of a hundred", parts={"": install(new, work)}, prepare=with_the_old_one
        ),
        Contestant(
            name="all, empty store", parts={"": install(new, work)}, prepare=lambda: forget(work, "store")
        ),
        Contestant(
            name="all, warm store",
            parts={"": install(new, work, "kept")},
            prepare=warm,
        ),
    ]
    print_table(
        compete(contestants, repetitions, work),
        {name: name for name in ("all, empty store", "all, warm store")},
    )


def main() -> None:
    """Measure both and print a table each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--at", type=Path, help="install below this directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envforge-benchmark-", dir=options.at) as name:
        work = Path(name)
        print(about_this_machine(work), end="\n\n")
        nothing_to_do(work, options.repetitions)
        three_of_a_hundred(work, options.repetitions)


if __name__ == "__main__":
    main()
