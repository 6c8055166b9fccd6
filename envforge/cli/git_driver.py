"""``envforge git-driver``: what git calls, once ``git-setup`` told it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result, read_text, write_atomically
from envforge.cli.differences import difference_document, summary, text_lines
from envforge.errors import EnvforgeError, InputError
from envforge.model.holding import Holding, build_of, origin_of

__all__ = ["command"]

_PART = 1 << 20


@click.group("git-driver")
def command() -> None:
    """What git calls to show or merge lockfiles; `envforge git-setup` tells it to."""


# -- what differs --------------------------------------------------------------------------------------


@command.command("diff")
@click.argument("words", metavar="PATH OLD HEX MODE NEW HEX MODE", nargs=-1, type=click.UNPROCESSED)
@output_options
def diff_command(words: tuple[str, ...], *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Print in what two versions of a lockfile differ, as the external diff program that git diff calls.

    What is no lockfile, or one that is in conflict, is shown by git itself.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if len(words) < 7:
        path = words[0] if words else "the lockfile"
        print_result(console, [f"* Unmerged path {path}"], {"path": path, "unmerged": True})
        return 0
    path, old, new = words[0], Path(words[1]), Path(words[4])
    try:
        lines, document = _difference(path, _side(old, path), _side(new, path))
    except EnvforgeError:
        _plainly(old, new)
        return 0
    print_result(console, lines, {"path": path, **document})
    return 0


def _difference(
    path: str, before: Holding | None, after: Holding | None
) -> tuple[list[str], Mapping[str, object]]:
    from envforge.diff import diff

    if before is None or after is None:
        there, said = (after, "added") if before is None else (before, "removed")
        count = len(there.lockfile.packages) if there is not None else 0
        return [f"lockfile {path} {said}: {count} packages"], {"said": said}
    known = [held.asked for held in (before, after) if held.asked is not None]
    asked = tuple(one for some in known for one in some) if known else None
    difference = diff(before.lockfile, after.lockfile, asked=asked)
    lines = [f"lockfile {path}: {summary(difference)}", *text_lines(difference)]
    return lines, difference_document(difference)


def _side(path: Path, name: str) -> Holding | None:
    """One version of the lockfile that lies at ``name`` in the repository; ``None`` if there is none."""
    from envforge.list import holding_of_text

    if str(path) in ("/dev/null", "nul"):
        return None
    return holding_of_text(read_text(path), name, lambda source: read_text(Path(name).parent / source))


def _plainly(old: Path, new: Path) -> None:
    from envforge.edges.git import git

    shown = git("diff", "--no-index", "--no-ext-diff", "--no-textconv", "--", str(old), str(new))
    click.echo(shown.stdout, nl=False)


@command.command("text")
@click.argument("file", type=click.Path(path_type=Path))
@output_options
def text_command(file: Path, *, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Print a lockfile with a line a package, for git log -p and others that compare lines.

    What is no lockfile is printed as it is.
    """
    from envforge.formats import conda_lock
    from envforge.model.lockfile import Lockfile

    console = Console(json=as_json, quiet=quiet, verbose=verbose)

    def lines(lockfile: Lockfile) -> Iterator[str]:
        yield from (f"channel {channel.url}" for channel in lockfile.channels)
        for platform in lockfile.platforms:
            yield f"platform {platform} {lockfile.custom.get(f'envforge.target.{platform}', '')}".rstrip()
        for row in sorted(lockfile.packages, key=lambda row: (row.name, row.manager, row.platform)):
            group = "" if row.category == "main" else f"({row.category})"
            digest = (row.sha256 or row.md5 or "")[:12]
            words = (row.name, row.version, build_of(row), row.platform, group, origin_of(row), digest)
            yield " ".join(word for word in words if word)

    try:
        shown = list(lines(conda_lock.read(read_text(file), source=str(file))))
    except InputError:
        if as_json or not file.is_file():
            raise
        with file.open(encoding="utf-8", errors="replace", newline="") as content:  # of any size
            while part := content.read(_PART):
                click.echo(part, nl=False)
        return 0
    print_result(console, shown, {"lines": shown})
    return 0


# -- merging -------------------------------------------------------------------------------------------


@command.command("merge")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("ours", type=click.Path(path_type=Path))
@click.argument("theirs", type=click.Path(path_type=Path))
@click.argument("path")
@click.argument("marker_size", metavar="[SIZE]", default="7")
@output_options
def merge_command(
    base: Path,
    ours: Path,
    theirs: Path,
    path: str,
    marker_size: str,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Merge two versions of the lockfile at PATH into OURS, for git merge: a merge driver, as git calls it.

    The specifications of both sides are merged and locked, and the versions that either side chose are kept
    where they fit.  If that cannot be done, OURS is left with git's conflict, and the status is not 0.
    """
    from envforge.cli.merging import Merge
    from envforge.edges.git import git

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    try:
        merged, text = Merge(base=base, ours=ours, theirs=theirs, path=path).merged(console)
        write_atomically(ours, text)
    except BaseException:
        labels = [word for label in ("ours", "base", "theirs") for word in ("-L", label)]
        git("merge-file", f"--marker-size={marker_size}", *labels, str(ours), str(base), str(theirs))
        raise
    document = {"path": path, "digest": merged.digest(), "packages": len(merged.packages)}
    lines = [f"{path}: the merged specification is locked   ({merged.digest()[:12]})"]
    print_result(console, lines, document)
    return 0
