"""Installing, against those who make or unpack the same files, in one run with the same packages.

python -m benchmarks.install [--wheels many|few] [--mirror DIR] [--repetitions 3] [--at DIR]
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, environment, print_table
from envforge.demo.channel import build_demo_channel
from envforge.demo.index import build_demo_index
from envforge.edges.archive import conda_files

MANY = ("numpy", "scipy", "pandas", "jupyterlab", "requests")
"""About 95 wheels and 11,000 files; they come from PyPI."""

BARE_EMPTY, BARE_WARM = "py-rattler + uv, empty caches", "py-rattler + uv, warm caches"

BARE = """
import asyncio, json, os, sys
from pathlib import Path
from rattler import PackageRecord, RepoDataRecord
from rattler.install import install
prefix, cache, rows = sys.argv[1:]
records = []
for row in json.loads(Path(rows).read_text()):
    record = PackageRecord.from_index_json(row["index"], sha256=row["sha256"], md5=row["md5"])
    records.append(RepoDataRecord(record, row["filename"], row["url"], row["channel"]))
asyncio.run(install(records, prefix, cache_dir=cache, installed_packages=[], show_progress=False))
os._exit(0)
"""


def make_mirror(mirror: Path, work: Path, wheels: str) -> None:
    """The demonstration's conda packages, whose Python is a real one, and wheels."""
    channel = build_demo_channel(work / "channel")
    lines = list(MANY)
    if wheels == "few":
        lines = [f"--index-url {build_demo_index(work / 'index').url}", "greet-client"]
    specification = {
        "name": "benchmark",
        "channels": [channel.url],
        "dependencies": ["python", "greet", {"pip": lines}],
        "platforms": [channel.platform],
    }
    (work / "environment.yml").write_text(json.dumps(specification), encoding="utf-8")
    for words in (("lock", "environment.yml", "--glibc", "2.36"), ("mirror", "conda-lock.yml", str(mirror))):
        run([sys.executable, "-m", "envforge", *words], work)


def run(argv: list[str], cwd: Path, **env: str) -> None:
    """Run what is not measured; a failure ends the benchmark."""
    more = {"HOME": str(cwd), "ENVFORGE_CACHE": str(cwd / "cache"), **env}
    done = subprocess.run(argv, cwd=cwd, env=environment(more), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}")


@dataclass(frozen=True)
class Ground:
    """Where it happens: ``work`` is removed at the end."""

    work: Path
    mirror: Path
    uv: str

    @property
    def prefix(self) -> Path:
        """Where py-rattler and pip install."""
        return self.work / "bare"

    @property
    def wheels(self) -> list[str]:
        return sorted(str(path) for path in (self.mirror / "pypi/files").rglob("*.whl"))

    def removing(self, *names: str, then: Callable[[], None] | None = None) -> Callable[[], None]:
        """Something to do before a run, which is not measured: remove, and then more."""

        def prepare() -> None:
            for name in names:
                path = self.work / name
                if path.is_symlink():
                    path.unlink()
                shutil.rmtree(path, ignore_errors=True)
            if then is not None:
                then()

        return prepare


def write_rows(ground: Ground) -> Path:
    """What py-rattler is told of the conda packages."""
    rows = []
    for number, path in enumerate(sorted((ground.mirror / "conda").rglob("*.conda"))):
        index = ground.work / f"index-{number}.json"
        index.write_bytes(conda_files(path, path.name, ["info/index.json"])["info/index.json"])
        repodata = json.loads((path.parent / "repodata.json").read_bytes())
        record = repodata["packages.conda"][path.name]
        row = {"index": str(index), "filename": path.name, "url": path.as_uri()}
        rows.append({**row, **{k: record[k] for k in ("sha256", "md5")}, "channel": path.parents[1].as_uri()})
    found = ground.work / "rows.json"
    found.write_text(json.dumps(rows), encoding="utf-8")
    return found


def own_words(ground: Ground) -> tuple[str, ...]:
    """``envforge install`` as it is measured."""
    words = (sys.executable, "-m", "envforge", "install", str(ground.mirror))
    return (*words, "--prefix", str(ground.work / "p"), "--store", str(ground.work / "store"))


def envforge(ground: Ground) -> list[Contestant]:
    """With an empty store, with one that has the bytecode only, and with a warm one."""
    old = ground.removing("p", "p.generations")
    parts = {"": own_words(ground)}

    def warm() -> None:
        old()
        if not (ground.work / "store" / "trees").is_dir():
            run([*own_words(ground)], ground.work)
            old()

    def bytecode_only() -> None:
        warm()
        ground.removing("store/trees", "store/artifacts")()

    return [
        Contestant(
            name="envforge, empty store",
            parts=parts,
            prepare=ground.removing("p", "p.generations", "store"),
        ),
        Contestant(name="envforge, empty store but for bytecode", parts=parts, prepare=bytecode_only),
        Contestant(name="envforge, warm store", parts=parts, prepare=warm),
    ]


def others(ground: Ground) -> list[Contestant]:
    """py-rattler and uv, with empty and with warm caches; pip and uv on what py-rattler made."""
    python = str(ground.prefix / "bin/python")
    rows = str(write_rows(ground))
    bare = (sys.executable, "-c", BARE, str(ground.prefix), str(ground.work / "cache"), rows)
    offline = ("--offline", "--no-index", "--no-deps", "--no-config", "--break-system-packages")
    uv = (ground.uv, "pip", "install", "--python", python, *offline, *ground.wheels)
    quiet = ("--no-index", "--no-deps", "--isolated", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", *quiet, *ground.wheels)
    compiling = (python, "-m", "compileall", "-q", "-j", "0", str(ground.prefix / "lib"))
    cache = {"UV_CACHE_DIR": str(ground.work / "uv-cache")}

    def conda_part() -> None:
        run([*bare], ground.work)

    def warm() -> None:
        ground.removing("bare")()
        if not all((ground.work / name).is_dir() for name in ("cache", "uv-cache")):
            conda_part()
            run([*uv], ground.work, **cache)
            ground.removing("bare")()

    both = {"py-rattler": bare, "uv": uv}
    fresh = ground.removing("bare", then=conda_part)
    return [
        Contestant(
            name=BARE_EMPTY,
            parts=both,
            prepare=ground.removing("bare", "cache", "uv-cache"),
            env=cache,
        ),
        Contestant(
            name=BARE_WARM,
            parts=both,
            prepare=warm,
            env=cache,
        ),
        Contestant(
            name="the same, and compileall",
            parts={**both, "compileall": compiling},
            prepare=warm,
            env=cache,
        ),
        Contestant(name="wheels alone: pip", parts={"": pip}, prepare=fresh),
        Contestant(name="wheels alone: pip --no-compile", parts={"": (*pip, "--no-compile")}, prepare=fresh),
    ]


def unpackers(ground: Ground) -> list[Contestant]:
    """Tar of what envforge made, which is the floor, and conda-pack of what py-rattler and uv made."""
    run([*own_words(ground)], ground.work)
    whole = (ground.work / "p").resolve()
    run(["tar", "-C", str(whole), "-cf", str(ground.work / "whole.tar"), "."], ground.work)
    into = ground.work / "unpacked"

    found = [
        Contestant(
            name="tar -x of the finished prefix",
            parts={"": ("tar", "-C", str(into), "-xf", str(ground.work / "whole.tar"))},
            prepare=ground.removing("unpacked", then=into.mkdir),
        )
    ]
    packed = ground.work / "packed.tar.gz"
    if conda_pack(ground, whole, packed):
        steps = {
            "tar": ("tar", "-C", str(into), "-xzf", str(packed)),
            "conda-unpack": (str(into / "bin/python"), str(into / "bin/conda-unpack")),
        }
        prepare = ground.removing("unpacked", then=into.mkdir)
        found.append(Contestant(name="conda-pack's unpack", parts=steps, prepare=prepare))
    return found


def conda_pack(ground: Ground, prefix: Path, packed: Path) -> bool:
    """Pack ``prefix`` with conda-pack, which is fetched from PyPI; ``False`` where it cannot be had."""
    venv = ground.work / "conda-pack"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "-q", "conda-pack==0.9.2", "setuptools<80"]
    if subprocess.run(pip, capture_output=True, check=False).returncode != 0:
        print("conda-pack cannot be had: it is left out", file=sys.stderr)
        return False
    words = ["-p", str(prefix), "-o", str(packed), "-q", "--ignore-missing-files", "--compress-level", "1"]
    run([str(venv / "bin/conda-pack"), *words], ground.work)
    return True


def main() -> None:
    """Make the packages, let all take turns, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wheels", choices=["many", "few"], default="many")
    parser.add_argument("--mirror", type=Path, help="use this one; made first, and kept, if it is not there")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--at", type=Path, help="install below this directory")
    parser.add_argument("--only", default="", help="a regular expression: contestants by name, and the floor")
    options = parser.parse_args()
    from uv import find_uv_bin

    with tempfile.TemporaryDirectory(prefix="envforge-benchmark-", dir=options.at) as name:
        work = Path(name)
        mirror = (options.mirror or work / "mirror").absolute()
        if not mirror.is_dir():
            print("  locking and mirroring", file=sys.stderr)
            make_mirror(mirror, work, options.wheels)
        ground = Ground(work, mirror, str(find_uv_bin()))
        floor, *rest = unpackers(ground)
        all_others = [*rest, *envforge(ground), *others(ground)]
        contestants = [floor, *(one for one in all_others if re.search(options.only, one.name))]
        files = sum(1 for path in (work / "p").resolve().rglob("*") if path.is_file())
        print(about_this_machine(work))
        print(f"{len(ground.wheels)} wheels, {files} files in the finished prefix, bytecode included\n")
        found = compete(contestants, options.repetitions, work)
        against = {"tar": floor.name, "bare, empty": BARE_EMPTY, "bare, warm": BARE_WARM}
        print_table(found, {short: name for short, name in against.items() if name in found})


if __name__ == "__main__":
    main()
