"""From what a user names as SOURCE to an artifact source; shared by install, verify and render."""

from __future__ import annotations

import hashlib
from pathlib import Path

from envforge.cli.console import read_text
from envforge.edges.store import Store
from envforge.errors import InputError
from envforge.node.sources import ArtifactSource, MirrorSource, StoreSource, lock_packages
from envforge.reporting import Reporter

__all__ = ["open_source"]


def open_source(
    path: Path,
    *,
    lock: str | None,
    store: Store,
    platform: str,
    groups: tuple[str, ...],
    reporter: Reporter,
) -> ArtifactSource:
    """The source at ``path``: a mirror directory, or a lockfile whose artifacts are fetched into ``store``.

    :param lock: which lock of a mirror.
    :raises InputError: if ``path`` is neither.
    """
    if path.is_dir():
        return MirrorSource(path, lock)
    if not path.exists():
        raise InputError(
            "no such mirror or lockfile", at=str(path), do="name a mirror directory or a conda-lock.yml"
        )
    from envforge.download import fetch_packages
    from envforge.edges.fetch import Fetcher
    from envforge.formats import conda_lock

    text = read_text(path)
    lockfile = conda_lock.read(text, source=str(path))
    rows = lock_packages(lockfile, platform, groups)
    fetch_packages(rows, store, fetcher=Fetcher(), reporter=reporter)
    return StoreSource(lockfile, hashlib.sha256(text.encode()).hexdigest(), store)
