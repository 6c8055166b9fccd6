"""``envforge rollback``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.cli.history import described
from envforge.node.history import rollback
from envforge.node.prefix import Prefix

__all__ = ["command"]


@click.command("rollback")
@click.argument("prefix", type=click.Path(path_type=Path))
@click.argument("generation", required=False)
@click.option("--dry-run", is_flag=True, help="Say which generation it would be, and change nothing.")
@output_options
def command(
    prefix: Path, generation: str | None, *, dry_run: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Point PREFIX to the generation that was current before, or to GENERATION.

    The beginning of a name is enough.  Nothing is copied or removed; the same command again goes back.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    place = Prefix(prefix)
    moment = rollback(place, generation, dry_run=dry_run)
    arrow = "would be" if dry_run else "->"
    lines = [f"{place.path} {arrow} {moment.generation.name}"]
    print_result(console, lines, {"prefix": str(place.path), "dry_run": dry_run, **described(moment)})
    return 0
