"""``envforge uninstall``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.node.history import uninstall
from envforge.node.prefix import Prefix

__all__ = ["command"]


@click.command("uninstall")
@click.argument("prefix", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@output_options
def command(prefix: Path, *, dry_run: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Remove PREFIX, all of its generations and what lies beside them, and what was made for it elsewhere.

    That includes a store that lies beside the prefix, and not one that was named with --store.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    place = Prefix(prefix)
    removed = uninstall(place, dry_run=dry_run)
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {path}" for path in removed]
    document = {"prefix": str(place.path), "removed": [str(path) for path in removed], "dry_run": dry_run}
    print_result(console, lines, document)
    return 0
