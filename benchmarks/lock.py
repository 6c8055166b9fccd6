"""How long does locking take, against py-rattler solving the same set and writing nothing?

python -m benchmarks.lock CHANNELS SPECS [--repetitions 5] [--at DIR] [--only REGEX]

conda-lock takes part where there is a conda, mamba or micromamba for it to solve with.

CHANNELS is a directory with conda-forge/SUBDIR/repodata.json.zst, records of a real channel; it is served
from this machine.  SPECS is a directory of environment.yml files, whose conda part counts.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

from benchmarks._timing import Contestant, Measured, about_this_machine, compete, environment
from envforge.formats.specification import read_specification
from envforge.model.platforms import Target, default_target

TARGET = Target.parse("linux-64", "__archspec=1=x86_64_v3 __cuda=12.4 __glibc=2.28 __linux=5.14 __unix=0")
SEVERAL = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64")
EVERYWHERE = ("python=3.12", "numpy", "pandas", "scipy", "matplotlib-base", "jupyterlab", "xarray", "dask")

BARE = """
import asyncio, os, sys
from rattler import Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Version, solve
from rattler.package.build_string import BuildString

cache, channel, platform, target, *specs = sys.argv[1:]
packages = [(word.split("=") + ["0", "0"])[:3] for word in target.split()]

async def main():
    return await solve(
        [Channel(channel)],
        [MatchSpec(spec, strict=False) for spec in specs],
        gateway=Gateway(cache_dir=cache),
        platforms=[platform, "noarch"],
        virtual_packages=[
            GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
            for name, version, build in packages
        ],
    )

print(len(asyncio.run(main())))
sys.stdout.flush()
os._exit(0)  # py-rattler now and then ends in a crash otherwise
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and says nothing about it."""

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The URL of a directory on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Bench:
    """The contestants for one channel."""

    def __init__(self, work: Path, channel: str) -> None:
        self.work, self.channel = work, channel
        (work / "bare.py").write_text(BARE)

    def bare(self, specs: Sequence[str], *, cold: bool, target: Target = TARGET) -> Contestant:
        cache = self.work / "bare-cache"
        argv = [sys.executable, str(self.work / "bare.py"), str(cache), self.channel, target.platform]
        name = f"py-rattler {'cold' if cold else 'warm'}"
        return self._contestant(name, [*argv, str(target), *specs], cache, cold=cold)

    def lock(self, specs: Sequence[str], *, cold: bool, targets: Sequence[Target] = (TARGET,)) -> Contestant:
        cache = self.work / "cache"
        spec = self.work / "environment.yml"
        lines = "".join(f"- '{text}'\n" for text in specs)
        spec.write_text(f"channels: ['{self.channel}']\ndependencies:\n{lines}")
        argv = [sys.executable, "-m", "envforge", "lock", str(spec), "-o", str(self.work / "x-lock.yml")]
        for target in targets:
            argv += ["--profile", profile(target)]
        name = f"envforge lock {'cold' if cold else 'warm'}"
        return self._contestant(name, argv, cache, cold=cold)

    def conda_lock(self, solver: str, *, cold: bool) -> Contestant:
        """conda-lock on the file that :meth:`lock` wrote last."""
        argv = [
            sys.executable, "-m", "conda_lock", "lock", "--conda", solver, "--platform", TARGET.platform,
            "--file", str(self.work / "environment.yml"), "--lockfile", str(self.work / "x-lock.yml"),
        ]  # fmt: skip
        cache = self.work / "conda"
        one = self._contestant(f"conda-lock {'cold' if cold else 'warm'}", argv, cache, cold=cold)
        return replace(one, env={"CONDA_PKGS_DIRS": str(cache), "MAMBA_ROOT_PREFIX": str(self.work / "root")})

    def _contestant(self, name: str, argv: Sequence[str], cache: Path, *, cold: bool) -> Contestant:
        def prepare() -> None:
            (self.work / "x-lock.yml").unlink(missing_ok=True)
            if cold:
                shutil.rmtree(cache, ignore_errors=True)

        # Public channels are looked up in no keyring; this one would be.
        env = {"ENVFORGE_CACHE": str(self.work / "cache"), "ENVFORGE_KEYRING": "false"}
        return Contestant(name=name, parts={"all": argv}, prepare=prepare, env=env)


def profile(target: Target) -> str:
    """A target as it is typed by hand."""
    words = [target.platform]
    for package in target.virtual_packages:
        if package.name == "__archspec":
            words.append(package.build)
        elif package.name not in ("__unix", "__win"):
            words.append(f"{package.name[2:]}={package.version}")
    return " ".join(words)


def ratio(found: Mapping[str, Sequence[Measured]], one: str, other: str, of: str = "wall") -> float:
    """The median of the ratios of each round."""
    pairs = zip(found[one], found[other], strict=True)
    return float(median(getattr(mine, of) / getattr(other, of) for mine, other in pairs))


def peak(contestant: Contestant, home: Path) -> float:
    """The most memory that one run had, in MB."""
    contestant.prepare()
    argv = contestant.parts["all"]
    process = subprocess.Popen(
        argv, env=environment({"HOME": str(home), **contestant.env}), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{argv} failed")
    return usage.ru_maxrss / 1024


def specifications(directory: Path, only: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The conda part of each specification that can be had, by its name."""
    for path in sorted(directory.glob("*.yml")):
        if re.search(only, path.stem) and not path.stem.startswith("u"):
            spec = read_specification([str(path)], read=lambda name: Path(name).read_text(encoding="utf-8"))
            yield path.stem, tuple(line.text for line in spec.conda_for("linux-64"))


def tell(name: str, found: Mapping[str, Sequence[Measured]], one: str, other: str) -> None:
    both = [median(run.wall for run in found[key]) for key in (other, one)]
    cpu = [median(run.cpu for run in found[key]) for key in (other, one)]
    print(
        f"{name:<34} {both[0]:>6.2f} {both[1]:>6.2f} {ratio(found, one, other):>6.2f}   "
        f"{cpu[0]:>6.2f} {cpu[1]:>6.2f} {ratio(found, one, other, 'cpu'):>6.2f}",
        flush=True,
    )


def main(make: Callable[[Path, str], Bench] = Bench) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("channels", type=Path)
    parser.add_argument("specs", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--at", type=Path)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.at) as name, served(asked.channels) as url:
        work = Path(name)
        bench = make(work, f"{url}/conda-forge")
        print(about_this_machine(work), "\n")
        print(f"{'':<34} {'bare':>6} {'lock':>6} {'ratio':>6}   {'bare':>6} {'lock':>6} {'ratio':>6}")
        print(f"{'':<34} {'by the clock, s':>20}   {'processors, s':>20}")
        solver = next(filter(None, map(shutil.which, ("micromamba", "mamba", "conda"))), None)
        if solver is None:
            print("conda-lock takes no part: there is no conda, mamba or micromamba to solve with")
        for spec, lines in specifications(asked.specs, asked.only):
            for cold in (True, False):
                pair = [bench.bare(lines, cold=cold), bench.lock(lines, cold=cold)]
                others = [] if solver is None else [bench.conda_lock(solver, cold=cold)]
                found = compete([*pair, *others], asked.repetitions, work)
                for one in (pair[1], *others):
                    tell(f"{spec} {one.name.removeprefix('envforge lock ')}", found, one.name, pair[0].name)
            print(f"{'    most memory, MB':<34} {peak(pair[0], work):>6.0f} {peak(pair[1], work):>6.0f}")
        several(bench, asked.repetitions, work)


def several(bench: Bench, repetitions: int, work: Path) -> None:
    """Four platforms against one of them."""
    for cold in (True, False):
        one = bench.lock(EVERYWHERE, cold=cold, targets=(default_target("linux-64"),))
        four = bench.lock(EVERYWHERE, cold=cold, targets=tuple(map(default_target, SEVERAL)))
        pair = [Contestant(name=name, parts=c.parts, prepare=c.prepare, env=c.env)
                for name, c in (("one platform", one), ("four platforms", four))]  # fmt: skip
        found = compete(pair, repetitions, work)
        tell(f"four platforms / one, {'cold' if cold else 'warm'}", found, "four platforms", "one platform")
    print(f"{'    most memory, MB':<34} {peak(one, work):>6.0f} {peak(four, work):>6.0f}")


if __name__ == "__main__":
    main()
