"""``envforge shell``"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from envforge.cli.console import Console, output_options
from envforge.cli.image_use import use_options
from envforge.cli.run import note_python_path
from envforge.node.using.processes import become_program, become_shell, find_generation

__all__ = ["command"]


@click.command("shell")
@click.argument("place", metavar="PREFIX|IMAGE", type=click.Path(path_type=Path))
@use_options
@output_options
def command(
    place: Path,
    *,
    base: Path | None,
    binds: tuple[str, ...],
    no_gpu: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Start your shell ($SHELL) in the environment at PREFIX, or a shell in IMAGE; leave it with 'exit'.

    It reads its own files (.bashrc, .zshrc, config.fish) first, so that the environment is first on the
    path whatever they do; csh and tcsh cannot be told to, and read them last.  Without a terminal it takes
    commands from standard input.
    """
    from envforge.node.using.containers import SHELL, find_image, is_image

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if is_image(place):
        note_python_path(console)
        words = SHELL if sys.stdin.isatty() else ("sh",)
        become_program(find_image(place, base=base, binds=binds, gpu=not no_gpu).program(words))
    generation = find_generation(place)
    note_python_path(console)
    become_shell(generation, console, interactive=sys.stdin.isatty())
