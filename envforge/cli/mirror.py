"""``envforge mirror``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envforge.cli.console import Console, human_size, output_options, print_result, read_text
from envforge.cli.options import platforms_option
from envforge.errors import InputError
from envforge.formats import conda_lock
from envforge.model.platforms import check_platform

if TYPE_CHECKING:
    from envforge.layout.plan import LockfileInput

__all__ = ["command"]


@click.command("mirror")
@click.argument("paths", metavar="[LOCKFILE]... DIR", nargs=-1, type=click.Path(path_type=Path))
@platforms_option("Only what this platform needs; repeatable.")
@click.option("--prune", is_flag=True, help="Remove artifacts that no lockfile in the mirror needs.")
@click.option(
    "-j", "--jobs", default=8, show_default=True, help="Downloads at once.", type=click.IntRange(1, 64)
)
@click.option("--dry-run", is_flag=True, help="Say what would be downloaded, and write nothing.")
@output_options
def command(
    paths: tuple[Path, ...],
    platforms: tuple[str, ...],
    *,
    prune: bool,
    jobs: int,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Download exactly what LOCKFILEs name into DIR: conda channels and a simple index.

    conda, micromamba, pixi, pip and uv use DIR without envforge, from file:// or any static web server.
    LOCKFILE left out is ./conda-lock.yml.
    """
    from envforge.cli.defaults import network
    from envforge.mirror import MirrorOptions, mirror
    from envforge.resolvers.building.builder import BuildingFetcher
    from envforge.settings import cache_directory

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if not paths:
        raise InputError("no directory was named", do="envforge mirror conda-lock.yml DIR")
    *named, directory = paths
    named = named or [Path("conda-lock.yml")]
    inputs = [_input(path) for path in named]
    places = [(one.lockfile, path.absolute().parent) for one, path in zip(inputs, named, strict=True)]
    options = MirrorOptions(
        platforms=tuple(check_platform(name, at="-p") for name in platforms),
        prune=prune,
        jobs=jobs,
        dry_run=dry_run,
    )
    fetcher = BuildingFetcher(places, cache=cache_directory(), reporter=console, access=network())
    result = mirror(inputs, directory, fetcher=fetcher, options=options, reporter=console)
    would = "would download" if dry_run else "downloaded"
    size = "" if dry_run else f" ({human_size(result.bytes)})"
    lines = [f"{would} {result.downloaded} files{size}, kept {result.kept}"]
    if result.removed:
        lines.append(f"removed {len(result.removed)} files that no lockfile needs")
    lines.append(f"{directory} holds {', '.join(result.locks)}")
    document = {
        "directory": str(directory),
        "downloaded": result.downloaded,
        "bytes": result.bytes,
        "kept": result.kept,
        "removed": list(result.removed),
        "locks": list(result.locks),
        "digest": result.digest,
        "dry_run": dry_run,
    }
    print_result(console, lines, document)
    return 0


def _input(path: Path) -> LockfileInput:
    """What the file at ``path`` says, of channels that may be used."""
    from envforge.cli.defaults import check_lockfile
    from envforge.layout.plan import LockfileInput
    from envforge.settings import load_settings

    text = read_text(path)
    lockfile = conda_lock.read(text, source=str(path))
    check_lockfile(lockfile, load_settings())
    return LockfileInput(content=text.encode(), filename=path.name, lockfile=lockfile)
