"""``envforge diff``"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from envforge.cli import completing
from envforge.cli.console import Console, output_options, print_result
from envforge.cli.differences import difference_document, markdown_lines, summary, text_lines
from envforge.cli.options import platforms_option
from envforge.errors import InputError
from envforge.model.difference import LockDifference
from envforge.model.graph import Asked
from envforge.model.holding import Holding

__all__ = ["command"]

_LOCKFILE = "conda-lock.yml"


@click.command("diff")
@click.argument("old", metavar="[OLD", required=False, shell_complete=completing.sources)
@click.argument("new", metavar="[NEW]]", required=False, shell_complete=completing.sources)
@platforms_option("Only on this platform; repeatable.")
@click.option(
    "--format",
    "form",
    type=click.Choice(("text", "markdown")),
    default="text",
    show_default=True,
    help="Text for a terminal, or Markdown for a pull request.",
)
@output_options
def command(
    old: str | None,
    new: str | None,
    *,
    platforms: tuple[str, ...],
    form: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Say in what NEW differs from OLD, package by package; status 1 if it does.

    Either is a lockfile, mirror, bundle, prefix, conda environment or virtual environment; or a lockfile in
    git, REVISION:PATH.  NEW left out is the same file as it is now; both left out, conda-lock.yml is
    compared with what was committed last.

    What was asked for comes first; it is read from the specifications beside the lockfiles, and where there
    is none, it is what no other package needs.  Platforms on which a package differs in the same way are one
    line.
    """
    from envforge.diff import alike, diff
    from envforge.list import holding

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    old = old or f"HEAD:./{_LOCKFILE}"
    new = new or _present(old)
    before, after = holding(old, reporter=console), holding(new, reporter=console)
    one, other = alike(before, after)
    difference = diff(one, other, asked=_asked((before, after)), platforms=platforms or None)
    if not difference.platforms and not difference:
        raise InputError(
            "they have no platform in common" if not platforms else "neither has that platform",
            at=f"{old} {new}",
            do=f"name one of: -p {' -p '.join(one.platforms)}",
        )
    document = {"old": old, "new": new, **difference_document(difference)}
    print_result(console, _lines(f"{old} → {new}", form, difference), document)
    return int(bool(difference))


def _present(old: str) -> str:
    """What ``old`` is now: the same file in the working tree."""
    if ":" not in old or Path(old).exists():
        return _LOCKFILE
    path = old.partition(":")[2]
    if path.startswith(("./", "../")):
        return str(Path(path))
    from envforge.edges.git import git

    top = git("rev-parse", "--show-cdup")  # without ./ a path begins where the repository does
    return str(Path(top.stdout.strip()) / path) if top.returncode == 0 else path


def _asked(sides: Iterable[Holding]) -> tuple[Asked, ...] | None:
    """What either specification asks for; ``None`` where neither is at hand."""
    known = [held.asked for held in sides if held.asked is not None]
    return tuple(one for asked in known for one in asked) if known else None


def _lines(title: str, form: str, difference: LockDifference) -> Iterable[str]:
    if form == "markdown":
        return list(markdown_lines(difference, title))
    return [*text_lines(difference), f"{title}: {summary(difference)}"]
