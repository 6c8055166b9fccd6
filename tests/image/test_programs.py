"""The programs that make a SquashFS or a SIF: absent, old, without a compression, failing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from envforge.node.proving.images import image_facts
from tests.bundle.real import publish
from tests.image.conftest import Command
from tests.image.world import packages, write_base

MKSQUASHFS = shutil.which("mksquashfs")


def provide(place: Path, name: str, script: str) -> None:
    """A program of that name in ``place/bin``, and nothing else on PATH but the tools of sh."""
    (place / "bin").mkdir(exist_ok=True)
    (place / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / "bin" / name).chmod(0o755)


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envforge.edges.squashfs._SBIN", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_nothing_is_begun_without_the_program(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar")
    done = envforge_here("image", "squashfs", made, "-o", "env.sqsh", status=3)
    done.assert_error(3, "there is no mksquashfs here", "squashfs-tools")
    done = envforge_here("image", "sif", made, "--base", "base.tar", "-o", "env.sif", status=3)
    done.assert_error(3, "neither apptainer nor singularity", "envforge image oci")
    assert sorted(os.listdir(tmp_path)) == ["base.tar"]


@pytest.mark.skipif(MKSQUASHFS is None, reason="no mksquashfs")
def test_an_old_mksquashfs_is_given_what_it_knows(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    script = f"""
        case $* in
            -version) echo "mksquashfs version 4.3 (2014/05/12)" ;;
            *-mkfs-time* | *-all-time* | *-no-hardlinks*) echo "invalid option" >&2; exit 1 ;;
            *) exec {MKSQUASHFS} "$@" ;;
        esac"""
    provide(tmp_path, "mksquashfs", script)
    done = envforge_here("image", "squashfs", made, "-o", "env.sqsh")
    assert "mksquashfs 4.3 writes the time into the file: the bytes differ each time" in done.err
    assert image_facts(tmp_path / "env.sqsh").prefix == "/opt/env"


@pytest.mark.parametrize(
    ("says", "do"),
    [
        ('FATAL ERROR: Compressor \\"zstd\\" is not supported!', "this mksquashfs has no zstd"),
        ("FATAL ERROR: Write on output file failed: No space left on device", "df -h"),
    ],
)
def test_what_mksquashfs_says_is_passed_on(
    envforge_here: Command, made: Path, tmp_path: Path, says: str, do: str
) -> None:
    version = 'case $1 in -version) echo "mksquashfs version 4.6.1"; exit ;; esac'
    provide(tmp_path, "mksquashfs", f'{version}\n: >"$2"\necho "{says}" >&2\nexit 1')
    done = envforge_here("image", "squashfs", made, "-o", "e.sqsh", "--compression", "zstd", status=3)
    done.assert_error(3, "mksquashfs failed", do)
    assert not [name for name in os.listdir(tmp_path) if "sqsh" in name]


def test_what_apptainer_is_given(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    """An archive beside which it works, without a tag; a time that is always the same."""
    script = """
        case $1 in --version) echo "apptainer version 1.5.0"; exit ;; esac
        echo "$*|$SOURCE_DATE_EPOCH|$APPTAINER_TMPDIR|$PWD" >"$HOME/said"
        : >"$3"
    """
    provide(tmp_path, "apptainer", script)
    write_base(tmp_path / "base.tar")
    done = envforge_here("image", "sif", made, "--base", "base.tar", "-o", "env.sif")
    argv, epoch, room, where = (tmp_path / "said").read_text().strip().split("|")
    assert argv.startswith("build --force ")
    assert argv.endswith(" oci-archive:image.oci.tar")
    assert epoch == "315532800"
    assert room == where
    assert str(tmp_path / "cache") in where
    assert "differ each time" not in done.err
    assert (tmp_path / "env.sif").exists()
    failing = script.replace(': >"$3"', 'echo "FATAL:   no space left on device" >&2; exit 255')
    provide(tmp_path, "apptainer", failing.replace("1.5.0", "1.4.5").replace("no space", "No space"))
    done = envforge_here("image", "sif", made, "--base", "base.tar", "-o", "other.sif", status=3)
    assert "apptainer 1.4.5 writes the time" in done.err
    assert "do: set APPTAINER_TMPDIR" in done.err
    assert not [name for name in os.listdir(tmp_path) if "other" in name]


@pytest.mark.skipif(MKSQUASHFS is None, reason="no mksquashfs")
def test_a_bundle_may_be_a_squashfs(envforge_here: Command, tmp_path: Path) -> None:
    """From the lockfile, where the packages are fetched."""
    provide(tmp_path, "mksquashfs", f'exec {MKSQUASHFS} "$@"')
    lockfile = publish(tmp_path / "site", *packages(), name="made")
    envforge_here("bundle", lockfile, "--squashfs", "env.sqsh")
    facts = image_facts(tmp_path / "env.sqsh")
    assert (facts.kind, facts.prefix) == ("environment", "/opt/env")
    done = envforge_here("bundle", lockfile, "--squashfs", "x.sqsh", "-o", "b.sh", status=2)
    done.assert_error(2, "a SquashFS is no bundle")
