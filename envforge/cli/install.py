"""``envforge install``"""

from __future__ import annotations

import os
from pathlib import Path

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.cli.defaults import check_lockfile
from envforge.cli.profiles import PROFILE_HELP, profile_target
from envforge.cli.sources import check_signed, open_source
from envforge.edges.machine import jobs_available
from envforge.edges.store import Store
from envforge.errors import InputError
from envforge.model.signature import Signed
from envforge.node.history import stores_before
from envforge.node.install import InstallOptions, InstallResult, host_platform, install
from envforge.node.linking.interpreter import ask_interpreter
from envforge.node.prefix import Prefix
from envforge.node.preflight import CHECKS
from envforge.node.sources.bundles import BundleSource, check_bundle_platform
from envforge.node.sources.source import ArtifactSource
from envforge.settings import FROM_BUNDLE, load_settings, store_layers, use_log_file

__all__ = ["command"]


@click.command("install")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-p", "--prefix", required=True, type=click.Path(path_type=Path), help="The path to use it at.")
@click.option("--lock", metavar="NAME|FILE", help="Which lock of the mirror, or a lockfile that it serves.")
@click.option("--expect-lock", metavar="sha256:HEX", help="Refuse any other lockfile than this.")
@click.option("--require-signature", is_flag=True, help="Refuse a file that no trusted key has signed.")
@click.option(
    "--trusted-keys",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The keys that may sign SOURCE, one a line; implies --require-signature.",
)
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
@click.option(
    "--profile",
    metavar="P",
    help=f"Where it will run, if not here: {PROFILE_HELP}.",
)
@click.option(
    "--ignore-check",
    "ignored",
    metavar="NAME",
    multiple=True,
    type=click.Choice(CHECKS),
    help="Install although this check refuses; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing.")
@output_options
def command(
    source: Path,
    prefix: Path,
    *,
    lock: str | None,
    expect_lock: str | None,
    require_signature: bool,
    trusted_keys: Path | None,
    groups: tuple[str, ...],
    stores: tuple[Path, ...],
    jobs: int | None,
    keep: int | None,
    python: str | None,
    run_scripts: tuple[str, ...],
    profile: str | None,
    ignored: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Make the environment of SOURCE at --prefix.

    SOURCE is a bundle or a mirror, which need no network, or a lockfile.

    The new environment is made beside the old one and takes its place in one step; what fails or is killed
    leaves the old one as it was.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    signed = check_signed(source, trusted_keys, required=require_signature)
    place = Prefix(prefix)
    place.check()
    root, lower = store_layers(stores, place.generations / "store")
    use_log_file(place.generations / "log.txt")
    # What the environment was made from before is looked into, and not written to.
    store = Store(
        root, tuple(dict.fromkeys(layer for layer in (*lower, *stores_before(place)) if layer != root))
    )
    opened = open_source(source, lock=lock, store=store, reporter=console, expected=expect_lock)
    check_lockfile(opened.lockfile, load_settings())
    if signed is not None:
        _tell_signed(console, signed, opened)
    options = InstallOptions(
        groups=_groups(opened, groups),
        jobs=jobs or jobs_available(place.path),
        dry_run=dry_run,
        keep=keep,
        python=None if python is None else ask_interpreter(python),
        scripts=tuple(dict.fromkeys(run_scripts)),
        ignored=frozenset(ignored),
        profile=profile_target(profile) if profile is not None else None,
    )
    result = install(opened, prefix, store=store, options=options, reporter=console)
    _print(console, result, dry_run=dry_run)
    return 0


def _groups(opened: ArtifactSource, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The groups that are asked for; of a bundle, those that it was made for, if none is."""
    if isinstance(opened, BundleSource):
        check_bundle_platform(opened, host_platform())
        if not asked:
            return opened.groups
    return tuple(dict.fromkeys(("main", *asked)))


def _tell_signed(console: Console, signed: Signed, opened: ArtifactSource) -> None:
    """Say who signed it, once that is what was signed.

    :raises InputError: if the signature speaks of another lock.
    """
    if signed.facts is not None and signed.facts.lock != opened.lockfile.digest():
        raise InputError(
            "the signature is of a bundle of another lock",
            at=f"signed {signed.facts.lock[:12]}, found {opened.lockfile.digest()[:12]}",
            do="do not use it; ask whoever sent it for the file and its signature",
        )
    console.note(f"signed by {signed.who} with {signed.key}")


def _print(console: Console, result: InstallResult, *, dry_run: bool) -> None:
    if not result.changed:
        lines = [f"{result.prefix} is what was asked for already ({result.generation.name})"]
    elif dry_run:
        lines = [
            f"would install {result.packages} packages at {result.prefix}",
            f"would write about {human_size(result.bytes)} in {result.files} files and directories",
            *([result.changes] if result.changes else []),
        ]
        if result.unknown:
            lines.append(f"{result.unknown} packages are not at hand, and not counted")
    else:
        lines = [
            f"installed {result.packages} packages, {result.files} files, {human_size(result.bytes)}",
            f"{result.prefix} -> {result.generation.name}",
            *([result.changes] if result.changes else []),
            # A bundle's program says more, after this.
            *([] if os.environ.get(FROM_BUNDLE) else [f"next: envforge verify {result.prefix}"]),
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
        "unknown": result.unknown,
        "dry_run": dry_run,
    }
    print_result(console, lines, document)
