"""How long ``envforge lock --check`` takes, process start included: 500 rows, and 2,000 on four platforms.

python -m benchmarks.check [--repetitions 9] [--at DIR]

Each package needs eight others and a virtual one, which is what conda-forge's need on average; the lockfile
satisfies the specification, so that everything is looked at.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, print_table
from envforge.formats import conda_lock
from envforge.model.platforms import default_target
from tests.answers.world import FORGE, conda, lock

SIZES = {
    "500 rows": (500, ("linux-64",)),
    "2,000 rows": (500, ("linux-64", "linux-aarch64", "osx-64", "osx-arm64")),
}
READ = "import sys, yaml; yaml.load(open(sys.argv[1]), yaml.CSafeLoader)"


def write(place: Path, count: int, platforms: tuple[str, ...]) -> None:
    """A lockfile, and the specification that asks for its packages."""
    names = [f"package-{number:04}" for number in range(count)]
    rows = [
        conda(
            f"{name} 1.2.3",
            *(f"{other} >=1.2,<2.0a0" for other in names[number + 1 : number + 9]),
            "__unix",
            platforms=platforms,
        )
        for number, name in enumerate(names)
    ]
    assumed = {f"envforge.target.{name}": str(default_target(name)) for name in platforms}
    lockfile = replace(lock(*rows, platforms=platforms), custom={"envforge.format": "1", **assumed})
    place.mkdir()
    (place / "conda-lock.yml").write_text(conda_lock.write(lockfile), encoding="utf-8")
    (place / "environment.yml").write_text(
        f"channels: ['{FORGE}']\nplatforms: [{', '.join(platforms)}]\ndependencies:\n"
        + "".join(f"  - {name} >=1\n" for name in names[:20]),
        encoding="utf-8",
    )


def main() -> None:
    """Check, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--at", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.at) as directory:
        work = Path(directory)
        program = (sys.executable, "-m", "envforge")
        asked: dict[str, tuple[str, ...]] = {"envforge --version": (*program, "--version")}
        for number, (size, (count, platforms)) in enumerate(SIZES.items()):
            place = work / f"of-{number}"
            write(place, count, platforms)
            files = ("-f", str(place / "environment.yml"), "-o", str(place / "conda-lock.yml"))
            asked[f"{size}: lock --check"] = (*program, "lock", "--check", *files)
            asked[f"{size}: PyYAML's C loader alone"] = (sys.executable, "-c", READ, files[-1])
        contestants = [
            Contestant(name=name, parts={"": words}, prepare=lambda: None) for name, words in asked.items()
        ]
        print(f"{about_this_machine(work)}\n")
        found = compete(contestants, given.repetitions, work)
        print_table(found, {"nothing at all": "envforge --version"})


if __name__ == "__main__":
    main()
