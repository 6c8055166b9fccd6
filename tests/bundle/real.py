"""Lockfiles of packages made on the spot, for bundles that envforge itself writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from envforge.formats import conda_lock
from envforge.model.lockfile import LockedChannel, Lockfile
from tests.node.world import HERE, Artifact

__all__ = ["SMALL", "publish"]

SMALL = ("bundle", "--no-runtime", "-o")
"""How a bundle is asked for that is made at once: a path and the lockfile follow."""


def publish(directory: Path, *artifacts: Artifact, name: str = "made") -> Path:
    """Put ``artifacts`` below ``directory``, and return the lockfile that locks them there."""
    rows = []
    for artifact in artifacts:
        path = directory / artifact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(artifact.data)
        rows.append(replace(artifact.row, url=path.absolute().as_uri()))
    channel = LockedChannel(url=(directory.absolute() / "conda/made").as_uri(), used_env_vars=())
    platforms = tuple(sorted({row.platform for row in rows} | {HERE}))
    lockfile = Lockfile(packages=tuple(rows), channels=(channel,), platforms=platforms)
    path = directory / f"{name}.conda-lock.yml"
    path.write_text(conda_lock.write(lockfile))
    return path
