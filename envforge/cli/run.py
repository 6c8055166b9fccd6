"""``envforge run``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options
from envforge.errors import InputError
from envforge.node.using import become, find_generation

__all__ = ["command", "note_python_path"]


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("prefix", type=click.Path(path_type=Path))
@click.argument("words", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@output_options
def command(prefix: Path, words: tuple[str, ...], *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Run COMMAND in the environment at PREFIX, activated, and become it.

    Its signals and its exit status are its own: 127 if there is no such command, 126 if it cannot be
    executed.  PREFIX is followed once: the command stays with the generation that it started in.  What it
    prints is its own, too: with --json only an error of envforge's is a document.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    words = words[1:] if words[:1] == ("--",) else words
    if not words:
        raise InputError("no command to run", at="the command line", do=f"envforge run {prefix} -- python")
    generation = find_generation(prefix)
    note_python_path(console)
    become(generation, words, console)


def note_python_path(console: Console) -> None:
    """Say that PYTHONPATH stays behind, which somebody may have set on purpose."""
    if os.environ.get("PYTHONPATH"):
        console.note("PYTHONPATH is not taken along: its modules would come before those that were locked")
