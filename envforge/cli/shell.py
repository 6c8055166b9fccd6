"""``envforge shell``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from envforge.cli.console import Console, output_options
from envforge.cli.run import note_python_path
from envforge.node.using import become_shell, find_generation

__all__ = ["command"]


@click.command("shell")
@click.argument("prefix", type=click.Path(path_type=Path))
@output_options
def command(prefix: Path, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Start your shell ($SHELL) in the environment at PREFIX; leave it with 'exit'.

    It reads its own files (.bashrc, .zshrc, config.fish) first, so that the environment is first on the
    path whatever they do; csh and tcsh cannot be told to, and read them last.  Without a terminal it takes
    commands from standard input.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    generation = find_generation(prefix)
    note_python_path(console)
    become_shell(generation, console, interactive=sys.stdin.isatty())
