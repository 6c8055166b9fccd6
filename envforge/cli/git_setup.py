"""``envforge git-setup``"""

from __future__ import annotations

from collections.abc import Iterator

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.git_setup import ATTRIBUTES, Setup, plan, remove, setup

__all__ = ["command"]


@click.command("git-setup")
@click.option("--global", "everywhere", is_flag=True, help="For every repository of yours, and not this one.")
@click.option("--remove", "taking", is_flag=True, help="Take away what this command wrote.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
@output_options
def command(
    *, everywhere: bool, taking: bool, dry_run: bool, as_json: bool, quiet: bool, verbose: bool
) -> int:
    """Have git show and merge lockfiles by what they mean: git diff, git log -p, git merge, git rebase.

    git diff then prints what envforge diff does.  Where two branches changed a lockfile, their
    specifications are merged and locked, with the versions that either chose; where that cannot be done,
    git's conflict stays, and the reason is said.

    The lines in .gitattributes are for everybody who has the repository, and harm nobody without envforge.
    The rest is in this clone's configuration: each runs git-setup once.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    to_do = plan(everywhere=everywhere)
    changed = None
    if not dry_run:
        changed = remove(to_do) if taking else setup(to_do)
    document = {
        "global": everywhere,
        "removed": taking,
        "config": to_do.config,
        "attributes": str(to_do.attributes),
        "lines": list(ATTRIBUTES),
        "changed": changed,
        "written": not dry_run,
    }
    print_result(console, _lines(to_do, taking=taking, changed=changed), document)
    return 0


def _lines(to_do: Setup, *, taking: bool, changed: bool | None) -> Iterator[str]:
    scope = "--global" if to_do.everywhere else "--local"
    if changed is None:
        done = "would be removed" if taking else "would be written"
    elif changed:
        done = "removed" if taking else "written"
    else:
        done = "was not there" if taking else "is there already"
    yield f"git config {scope}: diff.envforge, merge.envforge   {done}"
    yield f"{to_do.attributes}: {', '.join(line.split()[0] for line in ATTRIBUTES)}   {done}"
