"""``envforge kernel``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.cli.image_use import use_options
from envforge.cli.wrap import make_and_print
from envforge.node.using.activate import label
from envforge.node.using.kernel import (
    LAUNCH,
    check_kernel_name,
    kernel_of_image,
    kernel_spec,
    kernels_directory,
)
from envforge.node.using.processes import find_generation

__all__ = ["command"]


@click.command("kernel")
@click.argument("place", metavar="PREFIX|IMAGE", type=click.Path(path_type=Path))
@click.option("--name", help="The name of the kernel.  [default: that of the prefix]")
@click.option("--display-name", metavar="TEXT", help="What Jupyter shows.  [default: Python (NAME)]")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The directory of kernels.  [default: the user's own, where Jupyter looks]",
)
@use_options
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    place: Path,
    *,
    name: str | None,
    display_name: str | None,
    directory: Path | None,
    base: Path | None,
    binds: tuple[str, ...],
    no_gpu: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Make the Python of the environment at PREFIX or in IMAGE a kernel, for a JupyterLab outside it.

    The environment must have ipykernel.  The kernel keeps to the generation that PREFIX points to now; make
    it again after an update.  'envforge uninstall' removes it.
    """
    from envforge.node.using.containers import find_image, is_image, write_programs

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    kernels = kernels_directory() if directory is None else Path(os.path.abspath(directory))  # noqa: PTH100
    if is_image(place):
        image = find_image(place, base=base, binds=binds, gpu=not no_gpu)
        own = image.facts.name
        path = kernels / _kernel_name(name, own) / "kernel.json"
        text = kernel_of_image(image.program(LAUNCH), display_name or f"Python ({name or own})")
        write_programs({path: text}, mode=0o644, dry_run=dry_run)
        verb = "would write" if dry_run else "wrote"
        document = {"image": str(image.path), "files": [str(path)], "dry_run": dry_run}
        print_result(console, [f"{verb} {path}"], document)
        return 0
    generation = find_generation(place)
    own = generation.parent.name.removesuffix(".generations")
    chosen = _kernel_name(name, own)
    content = kernel_spec(generation, display_name or f"Python ({name or own})")
    files = {kernels / chosen / "kernel.json": content}
    return make_and_print(console, generation, files, mode=0o644, dry_run=dry_run)


def _kernel_name(asked: str | None, own: str) -> str:
    return check_kernel_name(label(own).lower().replace("+", "_") if asked is None else asked)
