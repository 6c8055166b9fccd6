"""Fetching the artifacts of a lock into the store, for a machine with network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from envforge.edges.fetch import Fetcher
from envforge.edges.parallel import Stop, in_parallel
from envforge.edges.store import Store
from envforge.model.lockfile import LockedPackage
from envforge.reporting import Reporter

__all__ = ["fetch_packages"]

_AT_ONCE = 8


def fetch_packages(
    rows: Sequence[LockedPackage], store: Store, *, fetcher: Fetcher, reporter: Reporter
) -> None:
    """Have every artifact of ``rows`` in ``store``; what a layer has already is not fetched.

    :raises CouldNotError: for the first one that cannot be fetched; what has landed stays, and
        what came of the others is gone on with the next time.
    """
    missing = {row.sha256: row for row in rows if store.artifact(row.sha256 or "") is None}
    if not missing:
        return
    reporter.step(f"downloading {len(missing)} packages")
    stop = Stop()
    with reporter.task("download", None) as progress:

        def advance(amount: int) -> None:
            stop.check()
            progress.advance(amount)

        def fetch(row: LockedPackage) -> Path:
            stop.check()
            return store.fetch_artifact(
                row.sha256 or "",
                lambda path: fetcher.download(
                    row.url,
                    path,
                    sha256=row.sha256,
                    md5=row.md5,
                    with_md5=False,
                    resume=True,
                    advance=advance,
                ),
            )

        in_parallel([partial(fetch, row) for row in missing.values()], _AT_ONCE, stop.event.set)
