"""``envforge list``"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result, read_text
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage

__all__ = ["command"]


@click.command("list")
@click.argument(
    "source",
    metavar="[LOCKFILE|MIRROR|BUNDLE|PREFIX]",
    default="conda-lock.yml",
    type=click.Path(path_type=Path),
)
@click.option("-p", "--platform", help="Only the packages of this platform.")
@click.option("--lock", metavar="NAME", help="Which lock of a mirror.")
@output_options
def command(
    source: Path,
    *,
    platform: str | None,
    lock: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """List the packages of a lockfile, mirror, bundle or prefix, with platform, version and where from."""
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    rows = [row for row in _rows(source, lock) if platform in (None, row.platform)]
    rows.sort(key=lambda row: (row.platform, row.name, row.manager, row.category))
    document = {"source": str(source), "packages": [_described(row) for row in rows]}
    print_result(console, _table(rows), document)
    return 0


def _rows(source: Path, lock: str | None) -> Iterable[LockedPackage]:
    if source.is_dir() and (source / ".envforge").is_dir():
        from envforge.node.receipts import read_receipt

        return read_receipt(source)[1].packages
    if source.is_dir():
        from envforge.node.sources import MirrorSource

        return MirrorSource(source, lock).lockfile.packages
    from envforge.node.bundles import Bundle, is_bundle

    if is_bundle(source):
        bundle = Bundle(source)
        return bundle.lock()[0].rows(bundle.contents.platform, bundle.contents.groups)
    if not source.exists():
        raise InputError(
            "no such lockfile, mirror, bundle or prefix", at=str(source), do="name one, or envforge lock"
        )
    from envforge.formats import conda_lock

    return conda_lock.read(read_text(source), source=str(source)).packages


def _described(row: LockedPackage) -> dict[str, object]:
    return {
        "name": row.name,
        "version": row.version,
        "build": row.build_string if row.manager == "conda" else None,
        "manager": row.manager,
        "platform": row.platform,
        "group": row.category,
        "url": row.url,
        "sha256": row.sha256,
    }


def _table(rows: list[LockedPackage]) -> list[str]:
    cells = [
        (
            row.platform,
            row.name,
            row.version,
            row.build_string if row.manager == "conda" else "",
            row.channel if row.manager == "conda" else "PyPI",
        )
        for row in rows
    ]
    widths = [max((len(cell[column]) for cell in cells), default=0) for column in range(4)]
    lines = ["  ".join((*map(str.ljust, cell[:4], widths), cell[4])).rstrip() for cell in cells]
    return [*lines, f"{len(rows)} packages"]
