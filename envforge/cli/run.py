"""``envforge run``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options
from envforge.cli.image_use import use_options
from envforge.errors import InputError
from envforge.node.using.processes import become, become_program, find_generation

__all__ = ["command", "note_python_path"]


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@use_options
@click.argument("place", metavar="PREFIX|IMAGE", type=click.Path(path_type=Path))
@click.argument("words", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED)
@output_options
def command(
    place: Path,
    words: tuple[str, ...],
    *,
    base: Path | None,
    binds: tuple[str, ...],
    no_gpu: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Run COMMAND in the environment at PREFIX or in IMAGE, activated, and become it.

    Its signals and its exit status are its own: 127 if there is no such command, 126 if it cannot be
    executed.  PREFIX is followed once: the command stays with the generation that it started in.  An image is
    started by apptainer, singularity, ch-run or squashfuse, whichever is here, with the GPUs and the
    directories of the machine.  What it prints is its own, too: with --json only an error of envforge's is a
    document.
    """
    from envforge.node.using.containers import find_image, is_image

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    words = words[1:] if words[:1] == ("--",) else words
    if not words:
        raise InputError("no command to run", at="the command line", do=f"envforge run {place} -- python")
    if is_image(place):
        note_python_path(console)
        become_program(find_image(place, base=base, binds=binds, gpu=not no_gpu).program(words))
    generation = find_generation(place)
    note_python_path(console)
    become(generation, words, console)


def note_python_path(console: Console) -> None:
    """Say that PYTHONPATH stays behind, which somebody may have set on purpose."""
    if os.environ.get("PYTHONPATH"):
        console.note("PYTHONPATH is not taken along: its modules would come before those that were locked")
