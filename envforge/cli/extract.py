"""``envforge extract``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.edges.scratch import disk_error, scratch, sweep_beside
from envforge.errors import CouldNotError, InputError

__all__ = ["command"]


@click.command("extract")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    bundle: Path, directory: Path, *, dry_run: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Write what BUNDLE carries into the new directory DIR, every file checked: DIR is a mirror then.

    conda, mamba, pixi, pip and uv use it as it is; so does `envforge install DIR`.
    """
    from envforge.node.sources.bundles import Bundle

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    opened = Bundle(bundle)
    if os.path.lexists(directory):
        raise InputError("there is something of that name", at=str(directory), do="name a new directory")
    place = directory.absolute()
    entries = opened.manifest.files
    total = sum(entry.size for entry in entries)
    document = {"directory": str(directory), "lock": opened.contents.lock, "dry_run": dry_run}
    if dry_run:
        count = len(entries) + 1  # and the manifest
        would = f"would write {count} files, {human_size(total)}, into {directory}"
        print_result(console, [would], {**document, "files": count, "bytes": total})
        return 0
    sweep_beside(place)
    try:
        with scratch(place.parent) as work, console.task("extracting", total) as progress:
            fresh = work / "mirror"
            fresh.mkdir()
            fresh.chmod(0o755)
            count = opened.extract(fresh, progress.advance)
            fresh.rename(place)
    except OSError as error:
        raise disk_error(error, place) from error
    except CouldNotError as error:
        if "--store" in (error.do or ""):  # nothing goes into a store here
            error.do = "name a DIR where you may write"
        raise
    lines = [f"{directory} holds {opened.contents.name}: {count} files"]
    print_result(console, lines, {**document, "files": count, "bytes": total})
    return 0
