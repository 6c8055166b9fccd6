"""``envforge kernel``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options
from envforge.cli.wrap import make_and_print
from envforge.node.activate import label
from envforge.node.kernel import check_kernel_name, kernel_spec, kernels_directory
from envforge.node.using import find_generation

__all__ = ["command"]


@click.command("kernel")
@click.argument("prefix", type=click.Path(path_type=Path))
@click.option("--name", help="The name of the kernel.  [default: that of the prefix]")
@click.option("--display-name", metavar="TEXT", help="What Jupyter shows.  [default: Python (NAME)]")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The directory of kernels.  [default: the user's own, where Jupyter looks]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    prefix: Path,
    *,
    name: str | None,
    display_name: str | None,
    directory: Path | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Make the Python of the environment at PREFIX a kernel, for a JupyterLab or JupyterHub outside it.

    The environment must have ipykernel.  The kernel keeps to the generation that PREFIX points to now; make
    it again after an update.  'envforge uninstall' removes it.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    generation = find_generation(prefix)
    own = generation.parent.name.removesuffix(".generations")
    chosen = check_kernel_name(label(own).lower().replace("+", "_") if name is None else name)
    kernels = kernels_directory() if directory is None else Path(os.path.abspath(directory))  # noqa: PTH100
    content = kernel_spec(generation, display_name or f"Python ({name or own})")
    files = {kernels / chosen / "kernel.json": content}
    return make_and_print(console, generation, files, mode=0o644, dry_run=dry_run)
