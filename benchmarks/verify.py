"""How long does ``envforge verify`` take for an intact prefix, beside hashing the same files with sha256sum?

    python benchmarks/verify.py [--files 60000] [--rounds 7] [--where DIR]

It makes a tree as an environment is: mostly sources of a few kilobytes, and a shared library for every two
hundred files, 1.3 GB for 60,000 files; writes a receipt for it; and then measures in turn, so that all meet
the same machine:

    verify      envforge verify TREE, as a user starts it
    sha256sum   find -type f -print0 | xargs -0 -P (processors) sha256sum
    openssl     the same with openssl dgst -sha256, where there is one: some sha256sum are slow

The files are in the page cache, as after an installation.  Printed are medians, and the median of the ratios
of each round.  Put --where on the file system in question; /dev/shm, the default, has no disk behind it.
Standard library and envforge; nothing is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from envforge.formats import receipt_json
from envforge.model.receipt import Receipt
from envforge.node.proving.scan import RECEIPT, scan

A_LIBRARY_EVERY = 200


def make_tree(tree: Path, count: int) -> int:
    """Write ``count`` files below ``tree``; returns how many bytes they have."""
    choose = random.Random(1)
    noise = os.urandom(1 << 24)
    total = 0
    for number in range(count):
        if number % 20 == 0:
            folder = tree / "lib/python3.12/site-packages" / f"p{number % 200}" / f"m{number // 20}"
            folder.mkdir(parents=True)
        if number % A_LIBRARY_EVERY == A_LIBRARY_EVERY - 1:
            size, name = min(choose.lognormvariate(14.3, 1.2), 12e6), f"e{number}.so"
        else:
            size, name = min(choose.lognormvariate(8.3, 1.2), 9e5), f"m{number}.py"
        start = choose.randrange(len(noise) - int(size))
        (folder / name).write_bytes(noise[start : start + int(size)])
        total += int(size)
    return total


def write_receipt(tree: Path) -> None:
    """Leave the receipt that ``install`` would."""
    (tree / RECEIPT).parent.mkdir()
    receipt = Receipt(
        prefix=str(tree),
        generation=str(tree),
        platform="linux-64",
        groups=("main",),
        lock="0" * 64,
        lockfile=None,
        tools={},
        packages=(),
        files=tuple(scan(tree, jobs=len(os.sched_getaffinity(0))).values()),
    )
    (tree / RECEIPT).write_text(receipt_json.write(receipt))


def commands(tree: Path) -> dict[str, list[str]]:
    """What is measured, by name."""
    jobs = len(os.sched_getaffinity(0))
    every = f"find {shlex.quote(str(tree))} -type f -print0 | xargs -0 -P {jobs}"
    made = {
        "verify": [sys.executable, "-m", "envforge", "verify", str(tree)],
        "sha256sum": ["sh", "-c", f"{every} sha256sum"],
    }
    if shutil.which("openssl"):
        made["openssl"] = ["sh", "-c", f"{every} openssl dgst -sha256 -r"]
    return made


def measure(argv: list[str]) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Make the tree, measure, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--where", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.where) as directory:
        tree = Path(directory).resolve() / "tree"
        tree.mkdir()
        size = make_tree(tree, options.files)
        write_receipt(tree)
        named = commands(tree)
        for argv in named.values():
            measure(argv)
        rounds = [{name: measure(argv) for name, argv in named.items()} for _ in range(options.rounds)]
    jobs = len(os.sched_getaffinity(0))
    print(f"{options.files} files, {size / 1e9:.2f} GB, {jobs} processors, {options.rounds} rounds")
    print(f"{'':<12}{'median':>10}{'verify is':>12}")
    for name in named:
        median = statistics.median(times[name] for times in rounds)
        ratio = statistics.median(times["verify"] / times[name] for times in rounds)
        print(f"{name:<12}{median:>8.2f} s{ratio:>11.2f}x")


if __name__ == "__main__":
    main()
