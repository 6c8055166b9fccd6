"""``envforge export``"""

from __future__ import annotations

import platform as machine
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from envforge.cli import completing
from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.options import platforms_option
from envforge.errors import InputError
from envforge.model.foreign import Loss, Written
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import check_platform, platform_of

__all__ = ["command", "described_losses", "tell_losses"]

_NAMED = 4
"""Packages that a note names before it says how many more there are."""


@click.command("export")
@click.argument("name", metavar="FORMAT", shell_complete=completing.formats)
@click.argument("source", metavar="[LOCKFILE]", default="conda-lock.yml", type=click.Path(path_type=Path))
@platforms_option(
    "Which platform of the lock; repeatable.  [default: with -o DIR all, else the only one or this machine's]"
)
@click.option("--group", "groups", multiple=True, help="Also export this group; repeatable.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write FILE, or into DIR.  [default: stdout]"
)
@click.option("--format-version", "version", type=int, metavar="N", help="pixi: write version 7 or 6.")
@click.option("--md5", is_flag=True, help="explicit: the md5 of each file, for a conda older than 24.9.")
@click.option("--dry-run", is_flag=True, help="Say what would be written and lost, and write nothing.")
@output_options
def command(
    name: str,
    source: Path,
    platforms: tuple[str, ...],
    groups: tuple[str, ...],
    output: Path | None,
    *,
    version: int | None,
    md5: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Write the lockfile as another tool's file: pylock, requirements, explicit, environment, pixi, pipfile.

    What the format cannot hold is said on stderr.  All but pixi are for one platform a file.
    """
    from envforge.export import ONE_PLATFORM, ExportOptions, export
    from envforge.formats import conda_lock

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    lockfile = conda_lock.read(read_text(source), source=str(source))
    into = output is not None and output.is_dir()
    chosen = tuple(check_platform(one, at="-p") for one in platforms)
    if not chosen and name in ONE_PLATFORM and not into:
        chosen = (_default_platform(lockfile),)
    options = ExportOptions(platforms=chosen, groups=("main", *groups), version=version, md5=md5)
    files = export(lockfile, name, options)
    if len(files) > 1 and not into:
        raise InputError(
            f"{len(files)} files, and one place to write to",
            at="-o" if output else "-p",
            do=f"mkdir DIR && envforge export {name} {shlex.quote(str(source))} -o DIR",
        )
    paths = [_path(written, output, source, files) for written in files]
    if not dry_run:
        for written, path in zip(files, paths, strict=True):
            if path is not None:
                write_atomically(path, written.text)
    _print(console, name, files, paths, dry_run=dry_run)
    return 0


def _default_platform(lockfile: Lockfile) -> str:
    if len(lockfile.platforms) == 1:
        return lockfile.platforms[0]
    return platform_of(machine.system(), machine.machine())


def _path(written: Written, output: Path | None, source: Path, files: Sequence[Written]) -> Path | None:
    if output is None:
        return None
    filename = written.filename
    if len(files) > 1 and written.platform is not None and written.platform not in filename:
        stem, dot, suffix = filename.rpartition(".")
        filename = f"{stem}.{written.platform}{dot}{suffix}"
    path = output / filename if output.is_dir() else output
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError("that is the lockfile itself", at=f"-o {output}", do="name another file")
    return path


def _print(
    console: Console, name: str, files: Sequence[Written], paths: Sequence[Path | None], *, dry_run: bool
) -> None:
    entries, lines = [], []
    for written, path in zip(files, paths, strict=True):
        tell_losses(console, written)
        entry: dict[str, object] = {
            "path": None if path is None else str(path),
            "platform": written.platform,
            "losses": described_losses(written.losses),
        }
        if path is None:
            entry["text"] = written.text
            lines.append(written.text.rstrip("\n"))
        else:
            lines.append(f"{path} {'would be written' if dry_run else 'written'}")
        entries.append(entry)
    document = {"format": name, "files": entries, "written": not dry_run}
    print_result(console, [] if dry_run and paths == [None] else lines, document)


def tell_losses(console: Console, written: Written) -> None:
    """A note for each thing that a file cannot hold."""
    for lost in written.losses:
        console.note(f"{written.filename} does not hold {lost.what}{_names(lost)}")


def _names(lost: Loss) -> str:
    if not lost.packages:
        return ""
    named = ", ".join(lost.packages[:_NAMED])
    more = len(lost.packages) - _NAMED
    return f": {named}" + (f" and {more} more" if more > 0 else "")


def described_losses(lost: Sequence[Loss]) -> list[dict[str, object]]:
    """Losses as ``--json`` has them."""
    return [{"what": one.what, "packages": list(one.packages)} for one in lost]
