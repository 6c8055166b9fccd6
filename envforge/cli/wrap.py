"""``envforge wrap``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.cli.image_use import use_options
from envforge.errors import InputError
from envforge.node.outside import check_place, make_files
from envforge.node.using.processes import find_generation
from envforge.node.using.wrap import commands, wrapper

__all__ = ["command", "make_and_print"]


@click.command("wrap")
@click.argument("place", metavar="PREFIX|IMAGE", type=click.Path(path_type=Path))
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.option(
    "--bin",
    "directory",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Write them here.",
)
@click.option("--all", "everything", is_flag=True, help="Every command of the environment.")
@use_options
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    place: Path,
    names: tuple[str, ...],
    *,
    directory: Path,
    everything: bool,
    base: Path | None,
    binds: tuple[str, ...],
    no_gpu: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write a small program into DIR for each COMMAND: it starts it in the environment at PREFIX or in IMAGE.

    They keep to the generation that PREFIX points to now; make them again after an update.  What lies in DIR
    already and was not made for this prefix is not overwritten.  'envforge uninstall' removes them.  One for
    an image finds out where it runs what starts images there, and whether there is a GPU.
    """
    from envforge.node.using.containers import find_image, is_image, write_programs

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if bool(names) == everything:
        raise InputError(
            "name the commands to wrap, or say --all" if everything is False else "--all needs no names",
            at="the command line",
            do=f"envforge wrap {place} --bin {directory} python",
        )
    folder = Path(os.path.abspath(directory))  # noqa: PTH100 - a symlink is the user's choice
    if is_image(place):
        image = find_image(place, base=base, binds=binds, gpu=not no_gpu)
        programs = {folder / _plain(name): image.program([name]) for name in _named(names)}
        write_programs(programs, dry_run=dry_run)
        verb = "would write" if dry_run else "wrote"
        document = {"image": str(image.path), "files": [str(path) for path in programs], "dry_run": dry_run}
        print_result(console, [f"{verb} {path}" for path in programs], document)
        return 0
    generation = find_generation(place)
    chosen = commands(generation) if everything else tuple(dict.fromkeys(names))
    files = {folder / name: wrapper(generation, name) for name in chosen}
    return make_and_print(console, generation, files, mode=0o755, dry_run=dry_run)


def _named(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise InputError(
            "what commands an image has is seen in it only",
            at="--all",
            do="name them: envforge wrap IMAGE python",
        )
    return tuple(dict.fromkeys(names))


def _plain(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or not name.isprintable():
        raise InputError(
            f"{name!r} is no name of a command", at="the command line", do="name one, such as python"
        )
    return name


def make_and_print(
    console: Console, generation: Path, files: dict[Path, bytes], *, mode: int, dry_run: bool
) -> int:
    """Write the files of a prefix that lie outside it, and say so."""
    if dry_run:
        for path, content in files.items():
            check_place(generation.parent, path, content)
    else:
        _, remembered = make_files(generation.parent, files, mode=mode)
        if not remembered:
            console.note(f"{generation.parent} cannot be written to: uninstall will not know of these files")
    verb = "would write" if dry_run else "wrote"
    document = {"generation": str(generation), "files": [str(path) for path in files], "dry_run": dry_run}
    print_result(console, [f"{verb} {path}" for path in files], document)
    return 0
