"""``envforge share``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.errors import CouldNotError, InputError

__all__ = ["command"]


@click.command("share")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--lockfile",
    "source",
    default="conda-lock.yml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="What to share.",
)
@click.option("--force", is_flag=True, help="Write into a directory that is not empty.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    directory: Path,
    source: Path,
    *,
    force: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write a folder for collaborators: the lockfile, the same for conda, pixi, pip and uv, and a README.

    What none of the files can hold is said on stderr and in the README.
    """
    from envforge.cli.export import described_losses, tell_losses
    from envforge.formats import conda_lock
    from envforge.share import share

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    lockfile = conda_lock.read(read_text(source), source=str(source))
    shared = share(lockfile)
    if directory.exists() and not force and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            "there is something already", at=str(directory), do="name a new directory, or add --force"
        )
    if not dry_run:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CouldNotError(
                f"cannot make the directory: {error.strerror}", at=str(directory), do="name another place"
            ) from error
        for name, text in shared.files.items():
            write_atomically(directory / name, text)
    for written in shared.written:
        if verbose:
            tell_losses(console, written)
    for lost in shared.losses:
        console.note(f"no other tool can have {lost.what}: {', '.join(lost.packages)}")
    state = "would be written" if dry_run else "written"
    document = {
        "directory": str(directory),
        "files": sorted(shared.files),
        "losses": {written.filename: described_losses(written.losses) for written in shared.written},
        "in_none": described_losses(shared.losses),
        "written": not dry_run,
    }
    lines = [*(f"{directory / name}" for name in sorted(shared.files)), f"{len(shared.files)} files {state}"]
    print_result(console, lines, document)
    return 0
