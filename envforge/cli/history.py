"""``envforge history``"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.node.history import Moment, history
from envforge.node.prefix import Prefix

__all__ = ["command", "described"]


@click.command("history")
@click.argument("prefix", type=click.Path(path_type=Path))
@output_options
def command(prefix: Path, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """List the generations of PREFIX, the one that was used last first; * marks the current one."""
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    place = Prefix(prefix)
    moments = history(place)
    document = {"prefix": str(place.path), "generations": [described(moment) for moment in moments]}
    print_result(console, _lines(moments, verbose=verbose), document)
    return 0


def described(moment: Moment) -> dict[str, object]:
    """One generation for ``--json``."""
    return {
        "generation": moment.generation.name,
        "path": str(moment.generation),
        "current": moment.current,
        **asdict(moment.installation),
    }


def _lines(moments: tuple[Moment, ...], *, verbose: bool) -> list[str]:
    width = max(len(moment.generation.name) for moment in moments)
    lines = []
    for moment in moments:
        note = moment.installation
        mark = "*" if moment.current else " "
        when = note.made[:16].replace("T", " ")
        lines.append(
            f"{mark} {moment.generation.name:<{width}}  {when:<16}  {note.packages:>4} packages  "
            f"{human_size(note.size):>7}  lock {note.lock[:12] or '?'}"
        )
        if note.changes:
            lines.append(f"  {'':<{width}}  {note.changes}")
        if verbose:
            made = f"by {note.user or '?'} on {note.host or '?'}" + (f", {note.job}" if note.job else "")
            lines.append(f"  {'':<{width}}  {made}, with {note.tool or '?'}")
    return lines
