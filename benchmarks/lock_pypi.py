"""How long does the PyPI half of ``envforge lock`` take, against ``uv pip compile`` alone?

    python -m benchmarks.lock_pypi [--repetitions 7] [--requirements FILE] [--only REGEX] [--at DIR]

The same requirements, target, Python and date for all, from the real PyPI, which must be reached.  Each
contestant has a cache of its own, filled by one run that is not measured.  ``pip-compile``, where it is
installed, resolves for this machine and nothing else.  The PyPI half is what ``envforge lock`` takes beyond a
lock of nothing, round by round.

    uv pip compile                 a pylock.toml, from the index pages as they are now
    envforge lock                  anew: no lockfile is there
    envforge lock, again           the lockfile is there, and is kept
    uv pip compile --offline       nothing but what uv has cached
    envforge lock --offline        likewise
    envforge lock, of nothing      a requirement for Windows alone: what a start, reading and writing cost
    pip-compile                    with the hashes
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks._timing import Contestant, Measured, about_this_machine, compete, print_table
from envforge.edges.process import uv_executable

REQUIREMENTS = ("numpy", "scipy", "pandas", "requests", "mpi4py", "jupyterlab")
PYTHON = "3.12.8"
NEWEST = "2026-11-20"
UV, OFFLINE = "uv pip compile", "uv pip compile --offline"
LOCK, NOTHING = "envforge lock", "envforge lock, of nothing"


def contestants(place: Path, requirements: list[str]) -> list[Contestant]:
    """Those that take turns, in ``place``."""
    (place / "requirements.in").write_text("".join(f"{line}\n" for line in requirements))
    lines = "".join(f"    - {line}\n" for line in requirements)
    spec = place / "environment.yml"
    spec.write_text(f"name: bench\ndependencies:\n  - pip:\n{lines}platforms: [linux-64]\n")
    nothing = place / "nothing.yml"
    nothing.write_text(spec.read_text().replace(lines, '    - six; sys_platform == "win32"\n'))
    lockfile = place / "conda-lock.yml"
    uv = [
        uv_executable(), "pip", "compile", str(place / "requirements.in"), "--no-config", "--quiet",
        "--no-python-downloads", "--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28",
        "--only-binary", ":all:", "--exclude-newer", f"{NEWEST}T23:59:59Z", "--python", sys.executable,
        "--cache-dir", str(place / "uv"), "--format", "pylock.toml",
        "--output-file", str(place / "pylock.toml"),
    ]  # fmt: skip
    lock = [
        sys.executable, "-m", "envforge", "lock", "-o", str(lockfile), "--quiet",
        "--python", PYTHON, "--exclude-newer", NEWEST,
    ]  # fmt: skip
    own = [*lock, str(spec)]
    cache = {"ENVFORGE_CACHE": str(place / "envforge")}

    def anew() -> None:
        lockfile.unlink(missing_ok=True)
        (place / "pylock.toml").unlink(missing_ok=True)
        (place / "requirements.txt").unlink(missing_ok=True)

    def as_it_is() -> None:
        pass

    found = [
        Contestant(name=UV, parts={"run": uv}, prepare=anew),
        Contestant(name=LOCK, parts={"run": own}, prepare=anew, env=cache),
        Contestant(name="envforge lock, again", parts={"run": own}, prepare=as_it_is, env=cache),
        Contestant(name=NOTHING, parts={"run": [*lock, str(nothing)]}, prepare=anew, env=cache),
        Contestant(name=OFFLINE, parts={"run": [*uv, "--offline"]}, prepare=anew),
        Contestant(
            name="envforge lock --offline", parts={"run": [*own, "--offline"]}, prepare=anew, env=cache
        ),
    ]
    if importlib.util.find_spec("piptools") is not None:
        pip = [
            sys.executable, "-m", "piptools", "compile", str(place / "requirements.in"), "--quiet",
            "--generate-hashes", "--output-file", str(place / "requirements.txt"),
            "--cache-dir", str(place / "pip"),
        ]  # fmt: skip
        found.append(Contestant(name="pip-compile", parts={"run": pip}, prepare=anew))
    return found


def tell_half(found: Mapping[str, Sequence[Measured]]) -> None:
    """What the half took, against uv."""
    if not {LOCK, NOTHING, UV} <= found.keys():
        return
    rounds = list(zip(found[LOCK], found[NOTHING], found[UV], strict=True))
    for of, what in (("wall", "by the clock"), ("cpu", "of processors")):
        took = [(getattr(lock, of) - getattr(start, of), getattr(uv, of)) for lock, start, uv in rounds]
        half, ratio = median(one for one, _ in took), median(one / other for one, other in took)
        print(f"the PyPI half, {what}: {half:.2f} s, {ratio:.2f} times {UV}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--requirements", type=Path, help="a file with a requirement a line")
    parser.add_argument("--only", default="", help="a regular expression for the names of contestants")
    parser.add_argument("--at", type=Path, help="the directory to work in")
    given = parser.parse_args()
    lines = given.requirements.read_text().split("\n") if given.requirements else list(REQUIREMENTS)
    with tempfile.TemporaryDirectory(prefix="envforge-bench-", dir=given.at) as directory:
        place = Path(directory)
        everybody = [
            one
            for one in contestants(place, [line for line in lines if line])
            if re.search(given.only, one.name)
        ]
        print(about_this_machine(place))
        compete(everybody, 1, place)  # fills the caches
        found = compete(everybody, given.repetitions, place)
        print_table(found, {name: name for name in (UV, OFFLINE) if name in found})
        tell_half(found)


if __name__ == "__main__":
    main()
