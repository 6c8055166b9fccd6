"""A bundle's runtime: made of what is locked, the same everywhere, and at work in any place."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import envforge
from envforge.demo.packages import File
from envforge.edges.machine import glibc_version
from envforge.formats.elf_stripped import strip_elf
from envforge.runtime import MadeRuntime
from tests.node import world
from tests.runtime.conftest import Site


def started(
    python: Path, *words: object, cwd: Path = Path("/"), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``envforge`` of the runtime with nothing in its environment: no PATH, no HOME."""
    argv = [str(python), "-I", "-B", *map(str, words)]
    return subprocess.run(
        argv, cwd=cwd, env=dict(env or {}), capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "ja_JP.eucJP"}, {"PYTHONHOME": "/x", "SSL_CERT_FILE": "/x"}])
def test_it_starts_from_any_place_with_an_empty_environment(unpacked: Path, env: dict[str, str]) -> None:
    done = started(unpacked, "-m", "envforge", "--version", env=env)
    assert (done.returncode, done.stdout) == (0, f"envforge {envforge.__version__}\n"), done.stderr


def test_it_starts_through_a_link(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(unpacked.parents[1], target_is_directory=True)
    done = started(Path("link/bin/python3"), "-m", "envforge", "--version", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_it_is_the_whole_node_half(unpacked: Path, tmp_path: Path) -> None:
    """Every verb of the node, with nothing there but what the runtime brings."""
    hello = File(data=b"#!/bin/sh\necho hello\n", executable=True)
    package = world.library("made", {"bin/hello": hello, "share/text": b"text"})
    mirror = world.mirror(tmp_path / "mirror", world.conda(package))
    prefix = tmp_path / "prefix"
    before = world.snapshot(unpacked.parents[1])
    for words in (
        ("install", mirror, "--prefix", prefix),
        ("verify", prefix, "--against", mirror),
        ("verify", mirror),
        ("history", prefix),
        ("id", prefix),
        ("run", prefix, "--", "hello"),
        ("wrap", prefix, "--bin", tmp_path / "bin", "hello"),
        ("store", "--help"),
        ("uninstall", prefix),
    ):
        done = started(unpacked, "-m", "envforge", *words, cwd=tmp_path)
        assert done.returncode == 0, f"{words}: {done}"
    assert world.snapshot(unpacked.parents[1]) == before


def test_a_command_of_the_laptop_says_that_it_is_one(unpacked: Path, tmp_path: Path) -> None:
    done = started(unpacked, "-m", "envforge", "lock", "x.yml", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()) == (
        3,
        [
            "envforge: lock is a command of the laptop, and this is what a bundle brings to a node",
            f"  at: {unpacked.parents[1]}",
            "  do: envforge lock …   # on the laptop",
        ],
    )


def test_the_part_of_a_command_that_needs_the_laptop_says_so(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "conda-lock.yml").write_text("version: 1\n")
    done = started(unpacked, "-m", "envforge", "install", "conda-lock.yml", "--prefix", "p", cwd=tmp_path)
    assert done.returncode == 3
    assert "this needs all of envforge, and this is the half that a bundle brings to a node" in done.stderr
    assert "  do: envforge install …   # on the laptop" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_commands_that_are_there_and_says_where_the_others_are(unpacked: Path) -> None:
    text = started(unpacked, "-m", "envforge", "--help").stdout
    listed = {line.split()[0] for line in text.splitlines() if re.match(r"  [a-z]", line)}
    assert {"install", "verify", "stage", "run", "probe", "diff", "why"} <= listed
    assert not {"lock", "bundle", "demo", "keygen"} & listed
    assert "On the laptop, where all of envforge is: lock, mirror, bundle," in text


def test_progress_needs_no_library_to_draw_it(unpacked: Path) -> None:
    program = (
        "import sys; sys.stderr.isatty = lambda: True\n"
        "from envforge.cli.console import Console\n"
        "with Console().task('packages', 3, 'packages') as progress: progress.advance(3)\n"
    )
    done = started(unpacked, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_the_same_on_another_laptop(
    site: Site, made: MadeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(listed(path), reverse=True))
    before = os.umask(0o077)
    try:
        other = site.make(tmp_path)
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()
    assert other.path.read_bytes() == made.path.read_bytes()
    assert (other.sha256, other.files, other.kib) == (made.sha256, made.files, made.kib)
    assert [path.name for path in other.path.parent.iterdir()] == ["runtime.tar.gz"]


def test_what_is_in_it(made: MadeRuntime, site: Site) -> None:
    head = made.path.read_bytes()[:10]
    assert head[:4] == b"\x1f\x8b\x08\x00"  # no name
    assert head[4:8] == bytes(4)  # no time
    with gzip.open(made.path) as stream, tarfile.open(fileobj=stream) as tar:
        members, elves = [], []
        for member in tar:
            members.append(member)
            content = tar.extractfile(member)
            if content is not None and content.read(4) == b"\x7fELF":
                elves.append(member.name)
                assert strip_elf(content) is None, member.name  # type: ignore[arg-type]
    assert [name.rpartition("/")[2] for name in elves][:1] == ["python3"]
    assert made.files == len(members)
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 315532800)}
    assert {m.mode for m in members} == {0o755, 0o644}
    assert all(m.isfile() or m.isdir() for m in members)
    names = [m.name for m in members]
    assert all(name == "runtime" or name.startswith("runtime/") for name in names)
    assert len(set(names)) == len(names)
    version = ".".join(made.python.split(".")[:2])
    lib = f"runtime/lib/python{version}"
    assert {"runtime/bin/python3", f"{lib}/os.py", f"{lib}/site-packages/envforge/__main__.py"} <= set(names)
    assert f"{lib}/site-packages/envforge/node/using/activation/activate.sh" in names
    assert [name for name in names if name.startswith("runtime/bin/")] == ["runtime/bin/python3"]
    assert f"{lib}/site-packages/envforge/templates/bundle.sh" in names
    unwanted = re.compile(r"/(tests?|demo|tkinter|ensurepip|unittest|include|share|_ssl[^/]*)(/|$)")
    assert [name for name in names if unwanted.search(name)] == []
    assert made.kib * 1024 >= sum(m.size for m in members)


def test_it_knows_what_it_needs(made: MadeRuntime) -> None:
    """The wheel asks for glibc 2.28; the demonstration's Python is this machine's own."""
    lowest, here = (tuple(map(int, text.split("."))) for text in (made.glibc, glibc_version() or ""))
    assert (2, 28) <= lowest <= here
    assert made.size == made.path.stat().st_size


def test_every_command_of_the_node_can_be_imported(unpacked: Path) -> None:
    program = (
        "import importlib, pkgutil, envforge.node as node\n"
        "for module in pkgutil.iter_modules(node.__path__):\n"
        "    if not module.name.endswith('_worker'):\n"
        "        importlib.import_module(f'envforge.node.{module.name}')\n"
        "for name in 'install verify run shell wrap kernel history rollback uninstall id store'.split():\n"
        "    importlib.import_module(f'envforge.cli.{name}')\n"
        "from rattler import Client, Config, PackageRecord, RepoDataRecord, Subdir\n"
        "import hashlib; assert hashlib.sha256.__module__ == '_hashlib', hashlib.sha256"
    )
    done = started(unpacked, "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_only_its_own_modules_are_imported(unpacked: Path) -> None:
    """What the release pins is all there is; everything else on the path is the standard library."""
    program = (
        "import json, pkgutil, sys, site\n"
        "print(json.dumps(sorted(m.name for p in site.getsitepackages() for m in pkgutil.iter_modules([p]))))"
    )
    done = started(unpacked, "-c", program)
    assert set(json.loads(done.stdout)) - {"sitecustomize"} == {"click", "envforge", "rattler"}, done.stderr
