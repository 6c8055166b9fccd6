"""``envforge why``"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from envforge.cli.choosing import chosen_platforms
from envforge.cli.completion import packages, platforms
from envforge.cli.console import Console, output_options, print_result
from envforge.cli.tables import aligned, cut, width
from envforge.why import Presence, Reason, why

__all__ = ["command"]

_MOST = 10
"""Reasons that are named without ``--verbose``."""


@click.command("why")
@click.argument("package", metavar="PKG", shell_complete=packages)
@click.option(
    "-l",
    "--lockfile",
    "source",
    default="conda-lock.yml",
    show_default=True,
    metavar="SOURCE",
    help="In this lockfile, mirror, bundle or prefix.",
)
@click.option(
    "-p",
    "--platform",
    "named",
    multiple=True,
    shell_complete=platforms,
    help="On this platform; repeatable.  [default: all that are locked]",
)
@output_options
def command(
    package: str,
    *,
    source: str,
    named: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Say why PKG is there: what was asked for that needs it, each with a shortest way to it.

    PKG may be a virtual package, such as __glibc or __cuda: then it is said who asks for it.  Status 1 if it
    is not there.
    """
    from envforge.list import holding

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    held = holding(source, reporter=console)
    found = why(held, package, chosen_platforms(held.lockfile, named))
    document = {"source": source, "package": package, "found": [_document(one) for one in found]}
    print_result(console, _lines(found, verbose=verbose), document)
    return 0


def _document(presence: Presence) -> dict[str, object]:
    node = presence.node
    return {
        "name": node.name,
        "version": node.version,
        "manager": node.manager,
        "platforms": list(presence.platforms),
        "reasons": [_reason(reason) for reason in presence.reasons],
    }


def _reason(reason: Reason) -> dict[str, object]:
    return {
        "asked": reason.asked.text,
        "at": reason.asked.at or None,
        "chain": [
            {
                "name": need.needed[1],
                "manager": need.needed[0],
                "requirement": need.text or None,
            }
            for need in reason.needs
        ],
    }


def _lines(found: Sequence[Presence], *, verbose: bool) -> Iterator[str]:
    columns = width()
    for presence in found:
        node = presence.node
        of = " (PyPI)" if node.manager == "pip" else ""
        yield cut(
            f"{node.name} {node.version}".rstrip() + f"{of} on {', '.join(presence.platforms)}", columns
        )
        some = presence.reasons if verbose else presence.reasons[:_MOST]
        for line in aligned([(reason.asked.at, _way(reason)) for reason in some]):
            yield cut(f"  {line}", columns)
        if len(some) < len(presence.reasons):
            yield f"  and {len(presence.reasons) - len(some)} more; --verbose names them all"


def _way(reason: Reason) -> str:
    """``numpy>=1.26 → libblas → libopenblas >=0.3.27``: what was asked for, and what the last asks of it."""
    if not reason.needs:
        return reason.asked.text
    last = reason.needs[-1]
    between = [need.needed[1] for need in reason.needs[:-1]]
    return " → ".join([reason.asked.text, *between, f"{last.needed[1]} {last.text}".rstrip()])
