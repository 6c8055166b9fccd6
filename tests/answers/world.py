"""Lockfiles from a few words, and the command line in this process."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from envforge.formats import conda_lock
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, join_specs

FORGE = "https://conda.anaconda.org/conda-forge"
BOTH = ("linux-64", "osx-arm64")


def conda(
    words: str,
    *depends: str,
    platforms: Sequence[str] = ("linux-64",),
    channel: str = FORGE,
    group: str = "main",
    noarch: bool = False,
) -> list[LockedPackage]:
    """Rows of ``NAME VERSION [BUILD]`` for some platforms."""
    name, version, *rest = words.split()
    rows = []
    for platform in platforms:
        build = rest[0] if rest else f"h{len(platform):03}_0"
        url = f"{channel}/{'noarch' if noarch else platform}/{name}-{version}-{build}.conda"
        rows.append(
            LockedPackage(
                name=name,
                version=version,
                manager="conda",
                platform=platform,
                url=url,
                sha256=hashlib.sha256(url.encode()).hexdigest(),
                md5=hashlib.md5(url.encode()).hexdigest(),
                dependencies=join_specs(depends),
                category=group,
                optional=group != "main",
            )
        )
    return rows


def pip(
    words: str,
    *depends: str,
    platforms: Sequence[str] = ("linux-64",),
    host: str = "https://files.pythonhosted.org/packages",
    group: str = "main",
) -> list[LockedPackage]:
    """Rows of ``NAME VERSION`` from PyPI for some platforms."""
    name, version = words.split()
    url = f"{host}/{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return [
        LockedPackage(
            name=name,
            version=version,
            manager="pip",
            platform=platform,
            url=url,
            sha256=hashlib.sha256(url.encode()).hexdigest(),
            dependencies=join_specs(depends),
            category=group,
            optional=group != "main",
        )
        for platform in platforms
    ]


def lock(
    *rows: Iterable[LockedPackage],
    platforms: Sequence[str] = (),
    sources: Sequence[str] = (),
    channels: Sequence[str] = (FORGE,),
    custom: Mapping[str, str] | None = None,
) -> Lockfile:
    """A lockfile of rows."""
    packages = tuple(row for some in rows for row in some)
    return Lockfile(
        packages=packages,
        channels=tuple(LockedChannel(url=url) for url in channels),
        platforms=tuple(platforms) or tuple(sorted({row.platform for row in packages})),
        sources=tuple(sources),
        custom=custom or {},
    )


def write(path: Path, lockfile: Lockfile) -> Path:
    """The lockfile as a file."""
    path.write_text(conda_lock.write(lockfile), encoding="utf-8")
    return path


def git(place: Path, *words: str) -> str:
    """Git as Ada, without anybody's configuration."""
    who = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}
    who |= {name.replace("AUTHOR", "COMMITTER"): text for name, text in who.items()}
    done = subprocess.run(
        ["git", *words],
        cwd=place,
        env={**os.environ, **who, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def commit(place: Path, message: str = "lock") -> None:
    """Commit all that is there."""
    if not (place / ".git").exists():
        git(place, "init", "-q", "-b", "main")
    git(place, "add", ".")
    git(place, "commit", "-q", "-m", message)
