"""``envforge install``"""

from __future__ import annotations

from pathlib import Path

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.cli.sources import open_source
from envforge.edges.store import Store
from envforge.node.bytecode import jobs_available
from envforge.node.install import InstallOptions, InstallResult, install
from envforge.node.interpreter import ask_interpreter
from envforge.node.prefix import Prefix
from envforge.settings import store_layers, use_log_file

__all__ = ["command"]


@click.command("install")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-p", "--prefix", required=True, type=click.Path(path_type=Path), help="The path to use it at.")
@click.option("--lock", metavar="NAME|FILE", help="Which lock of the mirror, or a lockfile that it serves.")
@click.option("--expect-lock", metavar="sha256:HEX", help="Refuse any other lockfile than this.")
@click.option("--group", "groups", multiple=True, help="Also install this group; repeatable.")
@click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Keep unpacked packages here; with several, the last is written to.  [default: beside the prefix]",
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 256), help="Threads and processes.  [default: what is allowed]"
)
@click.option(
    "--keep",
    type=click.IntRange(0, 1000),
    metavar="N",
    help="Generations to keep beside the new one.  [default: 1]",
)
@click.option(
    "--python",
    metavar="PYTHON",
    help="For a lock of wheels alone: make a virtual environment of this Python.",
)
@click.option(
    "--run-scripts",
    multiple=True,
    metavar="NAME",
    help="Run the post-link script of this conda package; repeatable.  [default: none is run]",
)
@click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing.")
@output_options
def command(
    source: Path,
    prefix: Path,
    *,
    lock: str | None,
    expect_lock: str | None,
    groups: tuple[str, ...],
    stores: tuple[Path, ...],
    jobs: int | None,
    keep: int | None,
    python: str | None,
    run_scripts: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Make the environment of SOURCE at --prefix: a mirror (no network), or a lockfile (with network).

    The new environment is made beside the old one and takes its place in one step; what fails or is killed
    leaves the old one as it was.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    place = Prefix(prefix)
    place.check()
    root, lower = store_layers(stores, place.generations / "store")
    use_log_file(place.generations / "log.txt")
    store = Store(root, lower)
    chosen = tuple(dict.fromkeys(("main", *groups)))
    opened = open_source(
        source,
        lock=lock,
        store=store,
        reporter=console,
        expected=expect_lock,
    )
    options = InstallOptions(
        groups=chosen,
        jobs=jobs or jobs_available(),
        dry_run=dry_run,
        keep=keep,
        python=None if python is None else ask_interpreter(python),
        scripts=tuple(dict.fromkeys(run_scripts)),
    )
    result = install(opened, prefix, store=store, options=options, reporter=console)
    _print(console, result, dry_run=dry_run)
    return 0


def _print(console: Console, result: InstallResult, *, dry_run: bool) -> None:
    if not result.changed:
        lines = [f"{result.prefix} is what was asked for already ({result.generation.name})"]
    elif dry_run:
        lines = [
            f"would install {result.packages} packages at {result.prefix}",
            *([result.changes] if result.changes else []),
        ]
    else:
        lines = [
            f"installed {result.packages} packages, {result.files} files, {human_size(result.bytes)}",
            f"{result.prefix} -> {result.generation.name}",
            *([result.changes] if result.changes else []),
            f"next: envforge verify {result.prefix}",
        ]
    document = {
        "prefix": str(result.prefix),
        "generation": str(result.generation),
        "changed": result.changed,
        "packages": result.packages,
        "files": result.files,
        "bytes": result.bytes,
        "lock": result.lock,
        "changes": result.changes,
        "removed": [path.name for path in result.removed],
        "dry_run": dry_run,
    }
    print_result(console, lines, document)
