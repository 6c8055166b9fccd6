"""``envforge list``"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from envforge.cli import completing
from envforge.cli.answers import counted
from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.cli.options import platform_option
from envforge.cli.tables import aligned
from envforge.errors import EnvforgeError, InputError
from envforge.model.groups import MAIN, with_groups
from envforge.model.holding import Holding, build_of, origin_of
from envforge.model.lockfile import LockedPackage

__all__ = ["command"]

_Listed = tuple[LockedPackage, tuple[str, ...]]
_Match = Callable[[LockedPackage], bool]
_KINDS = {"prefix": "envforge", "conda": "conda", "venv": "virtual environment"}


@click.command("list")
@click.argument(
    "words",
    metavar="[LOCKFILE|MIRROR|BUNDLE|PREFIX] [MATCHSPEC]",
    nargs=-1,
    shell_complete=completing.sources,
)
@click.option("--root", type=click.Path(path_type=Path), help="List the environments below this directory.")
@platform_option("Only the packages of this platform.")
@click.option("--lock", metavar="NAME", help="Which lock of a mirror.")
@output_options
def command(
    words: tuple[str, ...],
    *,
    root: Path | None,
    platform: str | None,
    lock: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """List the packages of a lockfile, mirror, bundle or environment: platform, version, size, where from.

    The size is that of the artifact, as far as it is there; in an environment, that of the installed files.
    Conda environments and virtual environments that other tools made are read, too.

    With a MATCHSPEC ('xz>=5.6') only what it fits is listed; status 1 if nothing does.  With --root DIR those
    environments below DIR are, that hold it; what cannot be read is named on stderr.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    most = 1 if root is not None else 2
    if len(words) > most:
        raise InputError(
            f"{len(words)} words, where {most} can be used", at=" ".join(words), do="envforge list --help"
        )
    if root is not None:
        return _list_below(console, root, words[0] if words else None)
    source = words[0] if words else "conda-lock.yml"
    return _list_one(console, source, words[1] if len(words) > 1 else None, platform, lock)


def _match(text: str | None) -> _Match | None:
    if text is None:
        return None
    from envforge.node.matching import matcher

    return matcher(text)


def _list_one(console: Console, source: str, spec: str | None, platform: str | None, lock: str | None) -> int:
    from envforge.list import holding

    match = _match(spec)
    held = holding(source, lock=lock, reporter=console)
    rows = [row for row in held.lockfile.packages if platform in (None, row.platform)]
    rows = [row for row in rows if match is None or match(row)]
    found = with_groups(sorted(rows, key=lambda row: (row.platform, row.name, row.manager)))
    document = {
        "source": source,
        "kind": held.kind,
        "packages": [_described(held, row, groups) for row, groups in found],
    }
    print_result(console, _table(held, found), document)
    return int(match is not None and not rows)


def _described(held: Holding, row: LockedPackage, groups: Sequence[str]) -> dict[str, object]:
    return {
        "name": row.name,
        "version": row.version,
        "build": build_of(row) or None,
        "manager": row.manager,
        "platform": row.platform,
        "groups": list(groups),
        "size": held.size(row),
        "origin": origin_of(row) or None,
        "url": row.url or None,
        "sha256": row.sha256,
    }


def _table(held: Holding, found: Sequence[_Listed]) -> Iterator[str]:
    sizes = [held.size(row) for row, _ in found]
    cells = [
        (
            row.platform,
            row.name,
            row.version,
            build_of(row),
            "" if size is None else human_size(size),
            origin_of(row),
            "" if groups == (MAIN,) else f"({', '.join(groups)})",
        )
        for (row, groups), size in zip(found, sizes, strict=True)
    ]
    yield from aligned(cells, right=(4,))
    known = sum(size for size in sizes if size is not None)
    yield counted(len(found), "package", "packages") + (f", {human_size(known)}" if known else "")


# -- below a directory ---------------------------------------------------------------------------------


def _list_below(console: Console, root: Path, spec: str | None) -> int:
    from envforge.list import holding, survey

    match = _match(spec)
    seen = survey(root)
    found: list[tuple[Holding, list[_Listed]]] = []
    for path in seen.paths():
        console.step(str(path))
        try:
            held = holding(str(path), reporter=console)
        except EnvforgeError as error:
            console.note(f"{path}: {error.what}")
            seen.unread.append(path)
            continue
        rows = with_groups(row for row in held.lockfile.packages if match is not None and match(row))
        if match is None or rows:
            found.append((held, rows))
    for path in seen.unread:
        console.detail(f"{path}: not read")
    if seen.unread:
        console.note(f"{len(seen.unread)} directories cannot be read; --verbose names them")
    document = {
        "root": str(root),
        "matchspec": spec,
        "environments": [_environment(held, rows) for held, rows in found],
        "unread": [str(path) for path in seen.unread],
    }
    print_result(console, _environments(found, match is not None), document)
    return int(match is not None and not found)


def _environment(held: Holding, rows: Sequence[_Listed]) -> dict[str, object]:
    return {
        "path": held.source,
        "kind": held.kind,
        "name": held.lockfile.name,
        "platform": held.lockfile.platforms[0],
        "packages": len(with_groups(held.lockfile.packages)),
        "size": sum(held.sizes.values()),
        "matching": [_described(held, row, groups) for row, groups in rows],
    }


def _environments(
    found: Sequence[tuple[Holding, list[_Listed]]],
    matched: bool,  # noqa: FBT001
) -> Iterator[str]:
    cells = []
    for held, rows in found:
        what = (
            ", ".join(" ".join(filter(None, (row.name, row.version, build_of(row)))) for row, _ in rows)
            if matched
            else counted(len(with_groups(held.lockfile.packages)), "package", "packages")
        )
        size = human_size(sum(held.sizes.values()))
        cells.append((held.source, _KINDS[held.kind], held.lockfile.platforms[0], size, what))
    yield from aligned(cells, right=(3,))
    yield counted(len(found), "environment", "environments")
