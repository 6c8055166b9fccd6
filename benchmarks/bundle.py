"""Writing a bundle against ``cat`` of the same files into one, in one run; and how much memory it takes.

python -m benchmarks.bundle [--repetitions 3] [--gib 0.5] [--largest 0.25] [--runtime-lock FILE] [--at DIR]
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, environment, print_table
from envforge.edges.hashing import file_sha256
from envforge.formats import conda_lock
from envforge.model.lockfile import LockedPackage, Lockfile

PLATFORM = "linux-64"
GIB = 1 << 30
_CHUNK = 8 << 20


@dataclass(frozen=True)
class Site:
    """What is carried: wheels that do not compress, and the lockfile that names them."""

    lockfile: Path
    bytes: int


def write_wheel(path: Path, name: str, size: int) -> None:
    """A wheel with one file of ``size`` random bytes in it, stored; as large as that, and never in memory."""
    stem, digest = f"{name}-1.0.dist-info", hashlib.sha256()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(zipfile.ZipInfo(f"{name}/data.bin"), "w", force_zip64=True) as file:
            left = size
            while left:
                data = os.urandom(min(_CHUNK, left))
                digest.update(data)
                left -= file.write(data)
        archive.writestr(f"{stem}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{stem}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
        others = "".join(f"{stem}/{other},,\n" for other in ("METADATA", "WHEEL", "RECORD"))
        archive.writestr(f"{stem}/RECORD", f"{name}/data.bin,sha256={encoded},{size}\n{others}")


def publish(work: Path, total: int, largest: int) -> Site:
    """One wheel of ``largest`` bytes, and others of a tenth of the rest each."""
    sizes = [largest, *[max(1, (total - largest) // 10)] * 10] if total > largest else [largest]
    rows = []
    for number, size in enumerate(sizes):
        path = work / f"w{number}-1.0-py3-none-any.whl"
        write_wheel(path, f"w{number}", size)
        rows.append(
            LockedPackage(
                name=f"w{number}",
                version="1.0",
                manager="pip",
                platform=PLATFORM,
                url=path.as_uri(),
                sha256=file_sha256(path),
            )
        )
    lockfile = work / "made.conda-lock.yml"
    lockfile.write_text(
        conda_lock.write(Lockfile(packages=tuple(rows), channels=(), platforms=(PLATFORM,))), encoding="utf-8"
    )
    return Site(lockfile, sum(sizes))


def envforge(*words: object) -> tuple[str, ...]:
    """A command line of envforge's."""
    return (sys.executable, "-m", "envforge", *map(str, words))


def peak(work: Path, name: str, argv: tuple[str, ...]) -> None:
    """Run a command and print the largest amount of memory that one of its processes held, and its time."""
    begun = time.perf_counter()
    with subprocess.Popen(
        argv,
        cwd=work,
        env=environment({"HOME": str(work), "ENVFORGE_CACHE": str(work / "cache")}),
        stdout=subprocess.DEVNULL,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{name}: {shlex.join(argv)}: status {process.returncode}")
    seconds, cpu = time.perf_counter() - begun, usage.ru_utime + usage.ru_stime
    print(f"{name:<28}{usage.ru_maxrss / 1024:>10.0f}{seconds:>10.1f}{cpu:>10.1f}", flush=True)


def removing(path: Path) -> Callable[[], None]:
    """Something to do before a run: remove what the last one wrote."""
    return lambda: path.unlink(missing_ok=True)


def main() -> None:
    """Make the packages, measure memory on the way, then let the contestants take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gib", type=float, default=0.5, help="size of all packages")
    parser.add_argument("--largest", type=float, default=0.25, help="size of the largest, in GiB")
    parser.add_argument("--runtime-lock", type=Path, help="carry this runtime, too: one more contestant")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--at", type=Path, help="work below this directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envforge-benchmark-", dir=options.at) as name:
        work = Path(name)
        site = publish(work, int(options.gib * GIB), int(options.largest * GIB))
        print(about_this_machine(work))
        print(f"{site.bytes / GIB:.2f} GiB that do not compress, the largest file {options.largest} GiB\n")
        print(f"{'':<28}{'peak MiB':>10}{'s':>10}{'cpu s':>10}")
        bundle, mirror = work / "b.sh", work / "mirror"
        peak(work, "mirror", envforge("mirror", site.lockfile, mirror))
        for path in work.glob("*.whl"):
            path.unlink()
        peak(work, "bundle", envforge("bundle", mirror, "--no-runtime", "-o", bundle))
        python = ("--python", sys.executable, "--store")
        peak(work, "install a bundle", envforge("install", bundle, "--prefix", "p", *python, work / "s"))
        peak(work, "verify a bundle", envforge("verify", bundle))
        for word in ("p", "p.generations", "s"):
            subprocess.run(["rm", "-rf", work / word], check=True)
        peak(work, "install a mirror", envforge("install", mirror, "--prefix", "p", *python, work / "s"))
        for word in ("p", "p.generations", "s"):
            subprocess.run(["rm", "-rf", work / word], check=True)
        print()
        compare(work, mirror, options.runtime_lock, options.repetitions)


def compare(work: Path, mirror: Path, runtime_lock: Path | None, repetitions: int) -> None:
    """Let ``cat`` and ``envforge bundle`` take turns."""
    files = sorted(str(path) for path in mirror.rglob("*") if path.is_file())
    one, bundle = work / "one", work / "b.sh"
    cat = ("sh", "-c", f"cat {shlex.join(files)} >{shlex.quote(str(one))}")
    words = envforge("bundle", mirror, "-o", bundle)
    contestants = [
        Contestant(name="cat of the same files", parts={"": cat}, prepare=removing(one)),
        Contestant(name="envforge bundle", parts={"": (*words, "--no-runtime")}, prepare=removing(bundle)),
    ]
    if runtime_lock is not None:
        with_runtime = (*words, "--runtime-lock", str(runtime_lock.absolute()))
        contestants.append(
            Contestant(
                name="envforge bundle, with runtime",
                parts={"": with_runtime},
                prepare=removing(bundle),
                env={"ENVFORGE_CACHE": str(work / "cache")},
            )
        )
    print_table(compete(contestants, repetitions, work), {"cat": "cat of the same files"})


if __name__ == "__main__":
    main()
