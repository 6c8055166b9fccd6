"""Fetching the artifacts of a lock into the store, for a machine with network."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.fetch import Fetcher
from envforge.edges.store import Store
from envforge.model.lockfile import LockedPackage
from envforge.reporting import Reporter

__all__ = ["fetch_packages"]

_AT_ONCE = 8


def fetch_packages(
    rows: Sequence[LockedPackage], store: Store, *, fetcher: Fetcher, reporter: Reporter
) -> None:
    """Have every artifact of ``rows`` in ``store``; what a layer has already is not fetched.

    :raises CouldNotError: for the first one that cannot be fetched; what has landed stays.
    """
    missing = {row.sha256: row for row in rows if store.artifact(row.sha256 or "") is None}
    if not missing:
        return
    reporter.step(f"downloading {len(missing)} packages")
    with reporter.task("download", None) as progress, ThreadPoolExecutor(_AT_ONCE) as pool:

        def fetch(row: LockedPackage) -> Path:
            return store.add_artifact(
                row.sha256 or "",
                lambda path: fetcher.download(
                    row.url, path, sha256=row.sha256, md5=row.md5, advance=progress.advance
                ),
            )

        futures = [pool.submit(fetch, row) for row in missing.values()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
