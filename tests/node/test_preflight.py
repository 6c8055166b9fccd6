"""What is refused before a byte is written, what is only said, and what may be ignored by name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel
from envforge.demo.packages import PLACEHOLDER, Package
from envforge.edges.machine import LEVELS, cuda_version, glibc_version, microarchitecture
from envforge.edges.peek import Contents, artifact_contents, listed, tree_contents
from envforge.edges.store import Store
from envforge.node.fitness import glibc_of_wheel, needed_version
from envforge.node.needs import needs_of
from envforge.node.preflight import CHECKS
from envforge.node.sources.source import MirrorSource
from tests.conftest import Ended, Shell
from tests.node.world import HERE, Artifact, conda, library, mirror, pip, python, run_all

ROOT = os.geteuid() == 0
PRIVATE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
TARGET = f"envforge.target.{HERE}"


def can_mount() -> bool:
    command = [*PRIVATE, "mount -t tmpfs tmpfs /mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


small_disks = pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here")


def one(tmp_path: Path, target: str | None = None, *more: Artifact, package: Package | None = None) -> Path:
    """A mirror of one package and ``more``."""
    artifact = conda(package or library("a", {"lib/a": b"a" * 100}))
    return mirror(tmp_path / "mirror", artifact, *more, custom={TARGET: target} if target else None)


def untouched(prefix: Path) -> bool:
    return not os.path.lexists(prefix) and not prefix.with_name(f"{prefix.name}.generations").exists()


# -- the lock against the machine ----------------------------------------------------------------------


def test_a_newer_glibc_is_refused_with_both_numbers(envforge: Shell, tmp_path: Path) -> None:
    place, prefix = one(tmp_path, "__glibc=2.99 __linux=4.18"), tmp_path / "p"
    install = ("install", place, "--prefix", prefix)
    refused, dry, ignored = run_all(
        envforge, [install, (*install, "--dry-run"), (*install, "--ignore-check", "glibc")]
    )
    here = glibc_version()
    for done in (refused, dry):
        done.assert_error(
            2, "assumes glibc 2.99", f"this machine has {here}", f"envforge lock --glibc {here}"
        )
        done.assert_error(2, "--ignore-check glibc")
    assert ignored.status == 0
    assert (
        f"note: --ignore-check glibc: the lock assumes glibc 2.99, and this machine has {here}" in ignored.err
    )


def test_packages_say_themselves_what_they_need(envforge: Shell, tmp_path: Path) -> None:
    wheel = pip(Wheel(name="w", version="1.0", files={"w.py": b""}, tag="py3-none-manylinux_2_98_x86_64"))
    needy = library("needy", {"lib/n": b""})
    cases = [
        one(tmp_path / "1", None, conda(needy, dependencies={"__glibc": ">=2.97,<3.0.a0"})),
        one(tmp_path / "2", "__glibc=2.17", conda(needy, dependencies={"__glibc": ">=2.97,<3.0.a0"})),
        one(tmp_path / "3", None, conda(library("python", {}, version="3.11.1")), wheel),
        one(tmp_path / "4", None, conda(needy, dependencies={"__linux": ">=99.1"})),
        one(tmp_path / "5", "__glibc=2.96", conda(needy, dependencies={"__glibc": ">=2.17"})),
    ]
    prefix = tmp_path / "p"
    first, second, third, fourth, fifth = run_all(
        envforge, [("install", place, "--prefix", prefix) for place in cases]
    )
    for done in (first, second):
        done.assert_error(2, "needy-1.0", "needs glibc 2.97")
    third.assert_error(2, "w-1.0-py3-none-manylinux_2_98_x86_64.whl needs glibc 2.98")
    fourth.assert_error(2, "needs Linux 99.1", "--ignore-check kernel")
    fifth.assert_error(2, "assumes glibc 2.96", "its packages themselves ask for 2.17")
    assert untouched(prefix)


def test_what_the_job_needs_elsewhere_is_only_said(envforge: Shell, tmp_path: Path) -> None:
    level = microarchitecture()
    place = one(tmp_path, f"__linux=99.0 __cuda=99.9 __archspec=1={LEVELS[-1]}")
    (done,) = run_all(envforge, [("install", place, "--prefix", tmp_path / "p")])
    assert done.status == 0
    assert "note: the lock assumes Linux 99.0, and this machine has" in done.err
    assert re.search(
        "note: the lock assumes CUDA 99.9, and (this machine has no NVIDIA driver|the driver)", done.err
    )
    lower = level in LEVELS[:-1]
    assert (f"a processor of x86_64_v4, and this machine has {level}" in done.err) == lower


def test_a_profile_decides_instead_of_the_machine(envforge: Shell, tmp_path: Path) -> None:
    place, prefix = (
        one(tmp_path, "__glibc=2.99 __linux=5.14 __cuda=12.4 __archspec=1=x86_64_v3"),
        tmp_path / "p",
    )
    profiles = {
        "glibc=2.28 linux=5.14 cuda=12.4 x86_64_v3": "and the profile has 2.28",
        "glibc=2.99 linux=4.18 cuda=12.4 x86_64_v3": "Linux 5.14, and the profile has 4.18",
        "glibc=2.99 linux=5.14 x86_64_v3": "CUDA 12.4, and the profile has none",
        "glibc=2.99 linux=5.14 cuda=11.8 x86_64_v3": "envforge lock --cuda 11.8",
        "glibc=2.99 linux=5.14 cuda=12.4 x86_64_v2": "x86_64_v3, and the profile has x86_64_v2",
    }
    calls: list[tuple[object, ...]] = []
    calls += [("install", place, "--prefix", prefix, "--profile", f"{HERE} {words}") for words in profiles]
    other = "osx-arm64 glibc=2.99"
    calls += [("install", place, "--prefix", prefix, "--profile", other)]
    calls += [
        ("install", place, "--prefix", prefix, "--profile", f"{HERE} glibc=3.0.0 linux=6 cuda=13 x86_64_v4")
    ]
    needy = conda(library("needy", {"lib/n": b""}), dependencies={"__cuda": ">=12.9", "__linux": "*"})
    plain = one(tmp_path / "plain", None, needy)
    calls += [("install", plain, "--prefix", tmp_path / "q", "--profile", f"{HERE} cuda=12.4")]
    calls += [("install", plain, "--prefix", tmp_path / "q")]
    *refused, elsewhere, taken, asking, noted = run_all(envforge, calls)
    asking.assert_error(2, "needy-1.0-0.conda needs CUDA 12.9, and the profile has 12.4")
    assert noted.status == 0
    assert cuda_version() or "needs CUDA 12.9, and this machine has no NVIDIA driver" in noted.err
    for done, words in zip(refused, profiles.values(), strict=True):
        done.assert_error(2, words)
    elsewhere.assert_error(2, "the profile is of osx-arm64")
    assert taken.status == 0
    assert "note" not in taken.err


def test_what_is_misspelt_is_said(envforge: Shell, tmp_path: Path) -> None:
    place, prefix = one(tmp_path, "glibc 2.28"), tmp_path / "p"
    broken, unknown, profile = run_all(
        envforge,
        [
            ("install", place, "--prefix", prefix),
            ("install", place, "--prefix", prefix, "--ignore-check", "platform"),
            ("install", place, "--prefix", prefix, "--profile", "here"),
        ],
    )
    broken.assert_error(2, f"envforge.target.{HERE}")
    unknown.assert_error(2, *CHECKS)
    profile.assert_error(2, "does not begin with a platform")
    assert untouched(prefix)


@pytest.mark.parametrize(
    ("filename", "glibc"),
    [
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "2.17"),
        ("a-1-cp311-cp311-manylinux_2_34_x86_64.manylinux_2_9_x86_64.whl", "2.9"),
        ("a-1-cp311-cp311-manylinux2010_x86_64.whl", "2.12"),
        ("a-1-cp311-cp311-linux_x86_64.whl", None),
        ("a-1-py3-none-any.whl", None),
    ],
)
def test_the_tags_of_a_wheel_name_a_glibc(filename: str, glibc: str | None) -> None:
    assert glibc_of_wheel(filename) == glibc


def test_the_highest_need_counts() -> None:
    specs = (">=2.9,<3.0.a0", ">=2.17, <3", "*", ">=2.99|<2")
    rows = [conda(library(f"n{i}", {}), dependencies={"__glibc": s}).row for i, s in enumerate(specs)]
    assert needed_version(rows, "__glibc") == ("2.17", "n1-1.0-0.conda")
    assert needed_version(rows, "__linux") is None


# -- the path ------------------------------------------------------------------------------------------


def test_a_path_may_be_as_long_as_the_shortest_placeholder_and_no_longer(
    envforge: Shell, tmp_path: Path
) -> None:
    prefix = tmp_path / "p"
    length = len(str(prefix)) + len(".generations/123456789012")
    fits, short = (
        one(
            tmp_path / str(size),
            package=library("tool", {"bin/t": binary(size)}, placeholder=placeholder(size)),
        )
        for size in (length, length - 1)
    )
    refused, done = run_all(
        envforge, [("install", short, "--prefix", prefix), ("install", fits, "--prefix", prefix)]
    )
    refused.assert_error(2, f"{length} bytes, and {length - 1} fit", "1 bytes shorter")
    assert done.status == 0, done.err
    assert (prefix / "bin" / "t").read_bytes().startswith(b"\0" + str(prefix.resolve()).encode() + b"/lib\0")


def placeholder(size: int) -> str:
    return "/opt/".ljust(size, "_")


def binary(size: int) -> bytes:
    return b"\0" + placeholder(size).encode() + b"/lib\0rest"


def test_the_length_is_refused_before_anything_is_unpacked(envforge: Shell, tmp_path: Path) -> None:
    place = one(tmp_path, package=library("tool", {"bin/t": binary(20)}, placeholder=placeholder(20)))
    (done,) = run_all(envforge, [("install", place, "--prefix", tmp_path / "p")])
    done.assert_error(2, "too long for tool")
    assert untouched(tmp_path / "p")


# -- the disk ------------------------------------------------------------------------------------------


def on_disk(
    envforge: Shell, options: str, disk: Path, *words: object, env: dict[str, str] | None = None
) -> Ended:
    """``install`` with a tmpfs at ``disk`` that nobody else sees; a refusal or dry run writes nothing."""
    disk.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("r") as seen:
        script = f'mount -t tmpfs -o {options} tmpfs "$0" && "$@"; status=$?; '
        script += f'find "$0" > "{seen.name}"; exit $status'
        done = envforge("install", *words, before=(*PRIVATE, script, str(disk)), status=None, env=env)
        if "--dry-run" in words or (done.status != 0 and "--ignore-check" not in words):
            assert seen.read().splitlines() == [str(disk)]  # not a byte
    return done


def large(tmp_path: Path, *, files: int = 1, size: int = 0) -> Path:
    contents = {f"share/{number}": bytes([number % 251]) * size for number in range(files)}
    return one(tmp_path, package=library("large", contents))


@small_disks
def test_too_little_space_is_refused(envforge: Shell, tmp_path: Path) -> None:
    place, disk = large(tmp_path, size=3 << 20), tmp_path / "disk"
    words = (place, "--prefix", disk / "p")
    done = on_disk(envforge, "size=2m", disk, *words)
    done.assert_error(3, "not enough space: about 3.2 MB needed, 2.1 MB free", f"at: {disk} (tmpfs)")
    done.assert_error(3, f"do: df -h {disk}", "--ignore-check space")
    done = on_disk(envforge, "size=2m", disk, *words, "--ignore-check", "space")
    assert "note: --ignore-check space: there is not enough space: about 3.2 MB" in done.err
    done.assert_error(3, "no room to unpack", "df -h . ; df -i .")  # as the disk itself says it
    done = on_disk(envforge, "size=2m", disk, *words, "--store", tmp_path / "new", "--dry-run", "--json")
    assert done.status == 3  # the store lies elsewhere: nothing can be linked
    assert on_disk(envforge, "size=8m", disk, *words, "--dry-run").status == 0
    assert on_disk(envforge, "size=8m", disk, *words).status == 0


@small_disks
def test_too_few_inodes_are_refused(envforge: Shell, tmp_path: Path) -> None:
    place, disk = large(tmp_path, files=60), tmp_path / "disk"
    done = on_disk(envforge, "nr_inodes=40", disk, place, "--prefix", disk / "p")
    done.assert_error(3, "not enough inodes", "needed, 39 free", "df -i", "--ignore-check inodes")
    assert on_disk(envforge, "nr_inodes=0", disk, place, "--prefix", disk / "p").status == 0  # no limit


@small_disks
def test_a_file_system_that_starts_nothing_is_refused(envforge: Shell, tmp_path: Path) -> None:
    place, disk = one(tmp_path), tmp_path / "disk"
    done = on_disk(envforge, "noexec", disk, place, "--prefix", disk / "p")
    done.assert_error(3, "noexec", f"at: {disk}", "--ignore-check noexec")
    done = on_disk(envforge, "noexec", disk, place, "--prefix", disk / "p", "--ignore-check", "noexec")
    assert done.status == 0


@contextmanager
def mounted(image: Path, disk: Path) -> Iterator[Path]:
    """A real ext4 with few inodes."""
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-N", "160", image], capture_output=True, check=False)
    if made.returncode or subprocess.run(["mount", "-o", "loop", image, disk], check=False).returncode:
        pytest.skip("no ext4 can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(not ROOT or shutil.which("mkfs.ext4") is None, reason="needs root and mkfs.ext4")
def test_a_real_disk_has_inodes_and_quotas(envforge: Shell, tmp_path: Path) -> None:
    many, few = large(tmp_path / "many", files=200), one(tmp_path / "few")
    with mounted(tmp_path / "image", tmp_path / "disk") as disk:
        table = f"Disk quotas for user me (uid 0):\n  Filesystem blocks …\n {disk} 90 0 {{}} 0 7 0 {{}} 0\n"
        asked = {}
        for name, limits in (("files", (9000, 8)), ("bytes", (91, 0)), ("enough", (9000, 4000))):
            bin_ = tmp_path / name
            bin_.mkdir()
            (bin_ / "quota").write_text(f"#!/bin/sh\nprintf '{table.format(*limits)}'\nexit 1\n")
            (bin_ / "quota").chmod(0o755)
            asked[name] = {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
        inodes, *_ = run_all(envforge, [("install", many, "--prefix", disk / "p")], env=asked["enough"])
        inodes.assert_error(3, "not enough inodes", "(ext4)")
        words = ("install", few, "--prefix", disk / "p")
        (full,) = run_all(envforge, [words], env=asked["bytes"])
        full.assert_error(
            3, "the quota of your user is not enough: about", "1.0 kB left", "--ignore-check quota"
        )
        refused, ignored = run_all(
            envforge, [(*words, "--dry-run"), (*words, "--ignore-check", "quota")], env=asked["files"]
        )
        refused.assert_error(3, "the quota of your user is not enough", "1 files left")
        assert ignored.status == 0
        assert "quota" not in ignored.err  # nobody was asked
        (enough,) = run_all(envforge, [("install", few, "--prefix", disk / "q")], env=asked["enough"])
        assert enough.status == 0


# -- how much ------------------------------------------------------------------------------------------


def test_a_dry_run_says_how_much_and_writes_nothing(envforge: Shell, tmp_path: Path) -> None:
    place, prefix = large(tmp_path, files=40, size=1000), tmp_path / "p"
    words = ("install", place, "--prefix", prefix)
    said, dry, done, nothing = run_all(
        envforge,
        [(*words, "--dry-run"), (*words, "--dry-run", "--json"), words, (*words, "--dry-run", "--json")],
    )
    assert re.search(r"^would write about \d+ kB in \d+ files and directories$", said.out, re.MULTILINE)
    assert dry.json["dry_run"] is True
    assert dry.json["unknown"] == 0
    assert 40_000 < dry.json["bytes"] < 400_000
    assert 40 < dry.json["files"] < 100
    assert done.status == 0
    assert nothing.json["changed"] is False
    assert nothing.json["bytes"] == 0


def test_what_is_in_the_store_is_not_written_again(
    tmp_path: Path, channel: DemoChannel, envforge: Shell
) -> None:
    tool = conda(library("tool", {"bin/t": b"\0" + PLACEHOLDER.encode() + b"\0"}))
    wheel = pip(Wheel(name="w", version="1.0", files={"w.py": b"1"}))
    place = mirror(tmp_path / "mirror", python(channel), tool, wheel)
    source, store = MirrorSource(place), Store(tmp_path / "store")
    rows = source.lockfile.packages

    def needs(final: Path, store: Store, *, compiled: bool) -> tuple[int, int]:
        found = needs_of(source, rows, final=final, store=store, compiled=lambda _: compiled, jobs=2)
        assert found.unknown == 0
        assert found.room == len(PLACEHOLDER)
        assert found.narrowest == "tool"
        return found.store.bytes, found.generation.bytes

    cold = needs(tmp_path / "p", store, compiled=False)
    envforge("install", place, "--prefix", tmp_path / "p", "--store", store.root)
    warm = needs(tmp_path / "q", store, compiled=False)
    known = needs(tmp_path / "q", store, compiled=True)
    assert cold[0] > warm[0] > known[0]
    assert known[1] == warm[1] <= cold[1]
    elsewhere = needs(Path("/proc/none"), store, compiled=True)  # another file system: all is copied
    assert elsewhere[1] > known[1] * 5


def test_artifacts_that_cannot_be_read_are_not_refused_here(tmp_path: Path) -> None:
    wheel = Wheel(name="w", version="1.0", files={"w/a.py": b"12345", "w/b.so": b"1234567"})
    artifact = pip(wheel)
    path = tmp_path / artifact.row.filename
    path.write_bytes(artifact.data)
    found = artifact_contents(path, artifact.row.filename)
    assert found is not None
    assert (found.sources, found.source_files) == (5, 1)
    assert found.bytes > 12
    path.write_bytes(artifact.data[:-30])
    assert artifact_contents(path, artifact.row.filename) is None
    assert artifact_contents(tmp_path / "none.conda", "none.conda") is None
    (tmp_path / "broken.conda").write_bytes(b"x" * 100)
    (tmp_path / "old.tar.bz2").write_bytes(b"x" * 100_000)
    assert artifact_contents(tmp_path / "broken.conda", "broken.conda") == Contents(bytes=400, files=1)
    assert artifact_contents(tmp_path / "old.tar.bz2", "old.tar.bz2") == Contents(bytes=400_000, files=7)
    assert tree_contents(tmp_path) is None
    (tmp_path / "w-1.0.dist-info").mkdir()
    (tmp_path / "w-1.0.dist-info" / "RECORD").write_text('w.py,sha256=x,11\n"a,b.so",sha256=y,31\nRECORD,,\n')
    wheel_tree = tree_contents(tmp_path)
    assert wheel_tree is not None
    assert (wheel_tree.bytes, wheel_tree.files, wheel_tree.sources) == (42, 2, 11)
    assert listed(b'{"paths": [{"_path": "bomb", "size_in_bytes": 99999999999999}]}') is None
