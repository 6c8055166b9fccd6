"""``envforge extract``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.edges.scratch import disk_error, scratch, sweep_beside
from envforge.errors import CouldNotError, InputError

__all__ = ["command"]


@click.command("extract")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@output_options
def command(bundle: Path, directory: Path, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Write what BUNDLE carries into the new directory DIR, every file checked: DIR is a mirror then.

    conda, mamba, pixi, pip and uv use it as it is; so does `envforge install DIR`.
    """
    from envforge.node.sources.bundles import Bundle

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    opened = Bundle(bundle)
    if os.path.lexists(directory):
        raise InputError("there is something of that name", at=str(directory), do="name a new directory")
    place = directory.absolute()
    total = sum(member.size for member in opened.members.values())
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
    document = {"directory": str(directory), "files": count, "lock": opened.contents.lock}
    print_result(console, [f"{directory} holds {opened.contents.name}: {count} files"], document)
    return 0
