"""What the node's tests share: mirrors written from data in milliseconds, and many commands in one process.

Nothing is locked or downloaded here: a mirror is its files, and what a hostile one holds no tool of ours
would write.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.demo.channel import DemoChannel
from envforge.demo.index import Wheel, wheel_bytes
from envforge.demo.interpreter import host_platform
from envforge.demo.packages import Archive, File, Package, Symlink, package_bytes
from envforge.formats import lock_json, manifest_json
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.manifest import Manifest, MirrorFile
from tests.conftest import Ended, Shell
from tests.forks import PROGRAM, can_fork, forks

__all__ = ["HERE", "Artifact", "Call", "conda", "library", "mirror", "pip", "python", "run_all", "snapshot"]

HERE = host_platform()

Call = Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file of a mirror and the row that locks it."""

    row: LockedPackage
    data: bytes
    folder: str

    @property
    def path(self) -> str:
        """Where it lies in the mirror."""
        return f"{self.folder}/{self.row.filename}"


Contents = Mapping[str, bytes | File | Symlink]


def library(name: str, files: Contents, **more: object) -> Package:
    """A package for this platform; bytes become ordinary files."""
    made = {path: File(data=item) if isinstance(item, bytes) else item for path, item in files.items()}
    return replace(Package(name=name, version="1.0", subdir=HERE, files=made), **more)  # type: ignore[arg-type]


def conda(
    package: Package, archive: Archive = ".conda", *, data: bytes | None = None, **row: object
) -> Artifact:
    """A conda package in a mirror; ``data`` instead of what the writer makes, ``row`` where the lock says
    something else than the package."""
    content = package_bytes(package, archive) if data is None else data
    locked = LockedPackage(
        name=package.name,
        version=package.version,
        manager="conda",
        platform=HERE if package.subdir == "noarch" else package.subdir,
        url=f"https://conda.example.org/made/{package.subdir}/{package.stem}{archive}",
        sha256=hashlib.sha256(content).hexdigest(),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )
    locked = replace(locked, **row)  # type: ignore[arg-type]
    return Artifact(row=locked, data=content, folder=f"conda/made/{package.subdir}")


def pip(wheel: Wheel, *, data: bytes | None = None, **row: object) -> Artifact:
    """A wheel in a mirror."""
    content = wheel_bytes(wheel) if data is None else data
    locked = LockedPackage(
        name=wheel.name,
        version=wheel.version,
        manager="pip",
        platform=HERE,
        url=f"https://files.example.org/{wheel.filename}",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return Artifact(row=replace(locked, **row), data=content, folder="pypi/files")  # type: ignore[arg-type]


def python(channel: DemoChannel) -> Artifact:
    """The demonstration's Python."""
    (path,) = (channel.path / channel.platform).glob("python-*.conda")
    name, version, build = path.name.removesuffix(".conda").rsplit("-", 2)
    package = Package(name=name, version=version, build=build, subdir=channel.platform)
    return conda(package, data=path.read_bytes())


def mirror(
    directory: Path, *artifacts: Artifact, custom: Mapping[str, str] | None = None, platform: str = HERE
) -> Path:
    """A mirror of ``artifacts`` with the one lock ``made``, for ``platform``."""
    for artifact in artifacts:
        path = directory / artifact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(artifact.data)
    lockfile = Lockfile(
        packages=tuple(artifact.row for artifact in artifacts),
        channels=(),
        platforms=(platform,),
        custom=custom or {},
    )
    files = {
        artifact.path: MirrorFile(
            path=artifact.path,
            sha256=hashlib.sha256(artifact.data).hexdigest(),
            size=len(artifact.data),
        )
        for artifact in artifacts
    }
    manifest = Manifest(locks=("made",), channels=(), files=tuple(files.values()))
    (directory / "locks").mkdir(parents=True, exist_ok=True)
    text = lock_json.write(lockfile, source_sha256="0" * 64)
    (directory / "locks" / "made.json").write_text(text)
    (directory / "manifest.json").write_text(manifest_json.write(manifest))
    return directory


def run_all(
    envforge: Shell, calls: Sequence[Call], *, env: Mapping[str, str] | None = None, umask: int = -1
) -> list[Ended]:
    """Run several command lines, one after the other, in one new process: starting one costs most."""
    words = [[str(word) for word in call] for call in calls]
    variables = envforge.environment(env)
    if can_fork(env or {}):
        status, out, err = forks()(words, env=variables, cwd=envforge.cwd, umask=umask, many=True)
    else:
        done = subprocess.run(
            [sys.executable, PROGRAM],
            input=json.dumps(words),
            env=variables,
            cwd=envforge.cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            umask=umask,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    assert status == 0, err
    return [Ended(*answer) for answer in json.loads(out)]


def snapshot(directory: Path, *, skip: Callable[[str], bool] = lambda name: False) -> dict[str, object]:
    """Every entry below ``directory`` by path: its mode and content, or a link's text."""
    found: dict[str, object] = {}
    for base, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = Path(base, name)
            key = path.relative_to(directory).as_posix()
            if skip(key):
                continue
            if path.is_symlink():
                found[key] = os.readlink(path)
            else:
                content = path.read_bytes() if path.is_file() else b""
                found[key] = (path.stat().st_mode, content)
    return found
