"""``envforge store``"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.edges.machine import jobs_available
from envforge.edges.store import KINDS, Store
from envforge.errors import InputError
from envforge.node.prefix import Prefix
from envforge.node.upkeep import StoreEntry, altered, entries, prune, remove
from envforge.settings import store_layers

__all__ = ["command"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group("store", context_settings={"max_content_width": 100})
def command() -> None:
    """Look after a store: the artifacts, unpacked packages and bytecode that environments are made of.

    Which one: --store DIR, else ENVFORGE_STORE, else the one beside --prefix P.
    """


def _store_options(function: F) -> F:
    for option in (
        click.option("-p", "--prefix", type=click.Path(path_type=Path), help="The store beside this prefix."),
        click.option(
            "--store",
            "stores",
            multiple=True,
            type=click.Path(path_type=Path),
            help="The store; with several layers, the last is written to.",
        ),
    ):
        function = option(function)
    return function


def _opened(stores: tuple[Path, ...], prefix: Path | None) -> Store:
    beside = None if prefix is None else Prefix(prefix).generations / "store"
    root, lower = store_layers(stores, beside or Path())
    if beside is None and not stores and (root, lower) == (Path(), ()):
        raise InputError("which store?", at="the command line", do="name it: --store DIR, or --prefix P")
    if not root.is_dir():
        raise InputError("there is no store here", at=str(root), do="name another: --store DIR")
    return Store(root, lower)


@command.command("dir")
@_store_options
@output_options
def directory(
    *, stores: tuple[Path, ...], prefix: Path | None, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Print the store's directories.

    One a layer; the one that is written to comes first.
    """
    store = _opened(stores, prefix)
    layers = [str(layer) for layer in store.layers]
    print_result(Console(json=as_json, quiet=quiet, verbose=verbose), layers, {"layers": layers})
    return 0


@command.command("size")
@_store_options
@output_options
def size(*, stores: tuple[Path, ...], prefix: Path | None, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Say how much the store holds.  Files that environments share with it are counted here, too."""
    store = _opened(stores, prefix)
    layers = []
    for layer in store.layers:
        found = list(entries(layer))
        layers.append({"layer": str(layer), **{kind: _total(found, kind) for kind in KINDS}})
    lines = []
    for told in layers:
        lines.append(str(told["layer"]))
        lines += [_size_line(kind, told[kind]) for kind in KINDS]
    print_result(Console(json=as_json, quiet=quiet, verbose=verbose), lines, {"layers": layers})
    return 0


def _total(found: Sequence[StoreEntry], kind: str) -> dict[str, int]:
    chosen = [entry for entry in found if entry.kind == kind]
    return {
        "entries": len(chosen),
        "files": sum(entry.files for entry in chosen),
        "bytes": sum(entry.size for entry in chosen),
    }


def _size_line(kind: str, total: Any) -> str:
    size = human_size(total["bytes"])
    return f"  {kind:<9}  {total['entries']:>5} packages  {total['files']:>7} files  {size:>7}"


@command.command("prune")
@_store_options
@click.option(
    "--unused-for",
    "days",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Remove what no installation has used for so long; 0 removes all.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@output_options
def pruned(
    *,
    stores: tuple[Path, ...],
    prefix: Path | None,
    days: float,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Remove what has not been used for a while.

    No environment is harmed: it keeps the files that it shares with the store.  What is needed again is
    unpacked again.  Only the layer that is written to is pruned.
    """
    store = _opened(stores, prefix)
    gone = prune(store, days=days, dry_run=dry_run)
    size = sum(entry.size for entry in gone)
    verb = "would remove" if dry_run else "removed"
    document = {
        "removed": [{"kind": entry.kind, "sha256": entry.sha256, "bytes": entry.size} for entry in gone],
        "dry_run": dry_run,
    }
    lines = [f"{verb} {len(gone)} entries, {human_size(size)}"]
    print_result(Console(json=as_json, quiet=quiet, verbose=verbose), lines, document)
    return 0


@command.command("verify")
@_store_options
@click.option("-j", "--jobs", type=click.IntRange(1, 256), help="Threads.  [default: what is allowed]")
@click.option("--remove", "removing", is_flag=True, help="Remove what was altered; it is unpacked again.")
@output_options
def verified(
    *,
    stores: tuple[Path, ...],
    prefix: Path | None,
    jobs: int | None,
    removing: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Hash everything in the store.

    Exit status 1 if anything was altered.  A file that was edited in an environment is the same file in the
    store, and in every other environment that shares it: `envforge verify PREFIX` finds it there.
    """
    store = _opened(stores, prefix)
    found = [entry for layer in store.layers for entry in entries(layer)]
    wrong = altered(found, jobs=jobs or jobs_available(store.root))
    removable = [one for one in wrong if one.entry.path.is_relative_to(store.root)] if removing else []
    for one in removable:
        remove(store, one.entry)
    lines = [f"altered  {one.entry.path}: {one.file}" for one in wrong]
    lines.append(f"{len(found)} entries, {len(wrong)} altered, {len(removable)} removed")
    document = {
        "entries": len(found),
        "altered": [{"kind": one.entry.kind, "path": str(one.entry.path), "file": one.file} for one in wrong],
        "removed": [str(one.entry.path) for one in removable],
    }
    print_result(Console(json=as_json, quiet=quiet, verbose=verbose), lines, document)
    return 1 if len(wrong) > len(removable) else 0
