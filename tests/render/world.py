"""A mirror and a lockfile made by hand, and the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from envforge.cli.app import run
from envforge.formats import conda_lock, lock_json, manifest_json
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile
from envforge.model.manifest import Manifest, MirrorFile
from tests.conftest import Ended

from .apptainer_parser import Stage, parse

DIGEST = "sha256:" + "5" * 64
BASE = f"docker:rockylinux@{DIGEST}"
CHANNEL = "https://conda.example/demo"


def conda_row(
    name: str, *, platform: str = "linux-64", version: str = "1.0", channel: str = CHANNEL
) -> LockedPackage:
    url = f"{channel}/{platform}/{name}-{version}-h0_0.conda"
    return LockedPackage(
        name=name,
        version=version,
        manager="conda",
        platform=platform,
        url=url,
        sha256=hashlib.sha256(url.encode()).hexdigest(),
        md5=hashlib.md5(url.encode()).hexdigest(),
    )


def pip_row(name: str, url: str, *, platform: str = "linux-64") -> LockedPackage:
    return LockedPackage(
        name=name,
        version="1.0",
        manager="pip",
        platform=platform,
        url=url,
        sha256=hashlib.sha256(url.encode()).hexdigest(),
    )


def lock_of(*rows: LockedPackage, name: str = "", assumed: str = "__glibc=2.28") -> Lockfile:
    platforms = tuple(sorted({row.platform for row in rows}))
    custom = {f"envforge.target.{platform}": assumed for platform in platforms}
    return Lockfile(
        packages=rows,
        channels=(LockedChannel(url=CHANNEL),),
        platforms=platforms,
        sources=("environment.yml",),
        content_hash=dict.fromkeys(platforms, "0" * 64),
        custom=custom | ({"envforge.name": name} if name else {}),
    )


def write_lockfile(path: Path, lockfile: Lockfile) -> str:
    """Write it, and return its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = conda_lock.write(lockfile).encode()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def write_mirror(directory: Path, locks: dict[str, Lockfile], *, without: str = "") -> dict[str, str]:
    """A mirror of ``locks``, artifacts empty; returns the sha256 of each lockfile."""
    digests: dict[str, str] = {}
    files = []
    for name, lockfile in locks.items():
        shared = directory / "locks" / f"{name}.conda-lock.yml"
        digests[name] = write_lockfile(shared, lockfile)
        text = lock_json.write(lockfile, source_sha256=digests[name])
        shared.with_name(f"{name}.json").write_text(text, encoding="utf-8")
        for row in lockfile.packages:
            path = f"artifacts/{row.platform}/{row.filename}"
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            if row.filename != without:
                (directory / path).touch()
            files.append(MirrorFile(path=path, sha256=row.sha256 or "", size=0))
    unique = {file.path: file for file in files}
    manifest = Manifest(
        locks=tuple(sorted(locks)), channels=(), files=tuple(unique[path] for path in sorted(unique))
    )
    (directory / "manifest.json").write_text(manifest_json.write(manifest), encoding="utf-8")
    return digests


def envforge(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> Ended:
    capsys.readouterr()
    status = run([str(word) for word in argv])
    captured = capsys.readouterr()
    return Ended(status, captured.out, captured.err)


def rendered(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[str, list[Stage]]:
    outcome = envforge(capsys, "render", "singularity", *argv)
    assert outcome.status == 0, outcome.err
    return outcome.out, parse(outcome.out)
