"""Making images against tar, gzip and mksquashfs of the same prefix; and starting Python out of them, cold.

python -m benchmarks.image [--mirror DIR] [--wheels many|few] [--repetitions 3] [--at DIR]

The second part needs root, mkfs.ext4 and strace: a directory on a file system in a file, and a SquashFS, both
mounted anew and with nothing of the files in memory before each start.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks._timing import Contestant, about_this_machine, compete, print_table
from benchmarks.install import make_mirror

PREFIX = Path("/opt/envforge-benchmark")
MANY = "import numpy, scipy.stats, pandas"
FEW = "import json, decimal, asyncio, email.message, sqlite3, unittest, http.client, xml.dom"


def envforge(*words: object) -> tuple[str, ...]:
    """A command line of envforge's."""
    return (sys.executable, "-m", "envforge", *map(str, words))


def removing(*paths: Path) -> Callable[[], None]:
    """Something to do before a run: remove what the last one wrote."""

    def prepare() -> None:
        for path in paths:
            path.unlink(missing_ok=True)

    return prepare


def make(work: Path, mirror: Path, repetitions: int) -> None:
    """What making takes; the store is warm, and the prefix is the same tree as in the image."""
    cache = {"ENVFORGE_CACHE": str(work / "cache")}
    image = ("--prefix", PREFIX)
    oci, sqsh = work / "env.oci.tar", work / "env.sqsh"
    tree, gz, alone = work / "tree", work / "env.tar.gz", work / "alone.sqsh"
    first = envforge("image", "squashfs", mirror, *image, "-o", sqsh)
    subprocess.run(first, env={**os.environ, **cache}, check=True, capture_output=True)
    unpack = ("unsquashfs", "-quiet", "-no-progress", "-d", str(tree), str(sqsh))
    subprocess.run(unpack, check=True, capture_output=True)
    files = sum(len(names) for _, _, names in os.walk(tree))
    size = sum(path.lstat().st_size for path in tree.rglob("*"))
    print(f"{files} files, {size / (1 << 20):.0f} MiB, at {PREFIX}\n")
    own = ("-noappend", "-no-progress", "-no-xattrs", "-all-root", "-no-hardlinks", "-comp")
    tools = {
        "tar | gzip": ("sh", "-c", f"tar -C {shlex.quote(str(tree))} -c . | gzip >{shlex.quote(str(gz))}"),
        "mksquashfs alone, gzip": (
            "mksquashfs", str(tree), str(alone), *own, "gzip", "-Xcompression-level", "6"
        ),
        "mksquashfs alone, zstd": (
            "mksquashfs", str(tree), str(alone), *own, "zstd", "-Xcompression-level", "3"
        ),
    }  # fmt: skip
    ours = {
        "image oci": envforge("image", "oci", mirror, *image, "-o", oci),
        "image squashfs": envforge("image", "squashfs", mirror, *image, "-o", sqsh),
        "image squashfs, zstd": envforge(
            "image", "squashfs", mirror, *image, "-o", sqsh, "--compression", "zstd"
        ),
        "verify of the OCI archive": envforge("verify", oci),
    }
    clean = removing(gz, alone)
    contestants = [Contestant(name=name, parts={"": argv}, prepare=clean) for name, argv in tools.items()]
    contestants += [
        Contestant(name=name, parts={"": argv}, prepare=clean, env=cache) for name, argv in ours.items()
    ]
    subprocess.run(ours["image oci"], env={**os.environ, **cache}, check=True, capture_output=True)
    found = compete(contestants, repetitions, work)
    print_table(
        found, {"tar": "tar | gzip", "gzip": "mksquashfs alone, gzip", "zstd": "mksquashfs alone, zstd"}
    )
    for path in (oci, sqsh):
        print(f"{path.name:<16}{path.stat().st_size / (1 << 20):>8.1f} MiB")


# -- starting, cold ------------------------------------------------------------------------------------


@contextmanager
def mounted(image: Path, kind: str) -> Iterator[None]:
    """A file system in a file at the prefix, with nothing of the file in memory."""
    os.sync()
    with image.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    argv = ["mount", "-o", "loop,ro", "-t", kind, str(image), str(PREFIX)]
    if kind == "squashfuse":
        argv = ["squashfuse", str(image), str(PREFIX)]
    subprocess.run(argv, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(PREFIX)], check=True)


def start(work: Path, code: str, repetitions: int) -> None:
    """The first start of a program after mounting, and the second."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        print("\nstarting is not measured: that needs root and mkfs.ext4")
        return
    ext4 = work / "env.ext4"
    with ext4.open("wb") as file:
        file.truncate(4 << 30)
    make = ["mkfs.ext4", "-q", "-N", "200000", "-d", str(work / "tree"), str(ext4)]
    subprocess.run(make, check=True)
    images = {"a directory (ext4)": (ext4, "ext4"), "a SquashFS": (work / "env.sqsh", "squashfs")}
    if shutil.which("squashfuse"):
        images["a SquashFS, squashfuse"] = (work / "env.sqsh", "squashfuse")
    argv = [str(PREFIX / "bin/python"), "-c", code]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in images}
    calls = {}
    PREFIX.mkdir()
    try:
        for _ in range(repetitions):
            for name, (image, kind) in images.items():
                with mounted(image, kind):
                    times[name].append((seconds(argv), seconds(argv)))
                    calls[name] = file_calls(argv, work)
    finally:
        PREFIX.rmdir()
    print(f"\npython -c {code!r}\n\n{'from':<28}{'cold s':>10}{'warm s':>10}{'file calls':>14}")
    for name, pairs in times.items():
        cold, warm = (median(column) for column in zip(*pairs, strict=True))
        print(f"{name:<28}{cold:>10.2f}{warm:>10.2f}{calls[name]:>14}")


def seconds(argv: list[str]) -> float:
    """How long a program takes."""
    begun = time.perf_counter()
    subprocess.run(argv, check=True, env={"PATH": os.defpath})
    return time.perf_counter() - begun


def file_calls(argv: list[str], work: Path) -> str:
    """How many system calls about files it makes."""
    if shutil.which("strace") is None:
        return "no strace"
    log = work / "calls"
    traced = ["strace", "-f", "-c", "-e", "trace=%file,%desc", "-o", str(log), *argv]
    subprocess.run(traced, check=True, env={"PATH": os.defpath})
    total = re.search(r"^100\.00\s+\S+\s+\S*\s+(\d+)", log.read_text().splitlines()[-1])
    return total[1] if total else "?"


def main() -> None:
    """Make the packages, then the images, then start out of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wheels", choices=["many", "few"], default="many")
    parser.add_argument("--mirror", type=Path, help="packages that were fetched before")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--at", type=Path, help="work below this directory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="envforge-benchmark-", dir=options.at) as name:
        work = Path(name)
        mirror = options.mirror.absolute() if options.mirror else work / "mirror"
        if not mirror.is_dir():
            make_mirror(mirror, work, options.wheels)
        print(about_this_machine(work))
        make(work, mirror, options.repetitions)
        start(work, MANY if options.wheels == "many" else FEW, options.repetitions)


if __name__ == "__main__":
    main()
