"""``envforge why``"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from envforge.cli import completing
from envforge.cli.choosing import chosen_platforms
from envforge.cli.console import Console, output_options, print_result
from envforge.cli.options import lockfile_option, platforms_option
from envforge.cli.tables import cut, width
from envforge.why import Presence, Reason, why

__all__ = ["command"]

_MOST = 10
_NAMED = 3
"""Ways, and beginnings of one, that are named without ``--verbose``."""


@click.command("why")
@click.argument("package", metavar="PKG", shell_complete=completing.packages)
@lockfile_option("In this lockfile, mirror, bundle or prefix.")
@platforms_option("On this platform; repeatable.  [default: all that are locked]")
@output_options
def command(
    package: str,
    *,
    source: str,
    platforms: tuple[str, ...],
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
    found = why(held, package, chosen_platforms(held.lockfile, platforms))
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
        "written": reason.asked.written,
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
        ways = _joined(presence.reasons)
        some = ways if verbose else ways[:_MOST]
        for reasons in some:
            yield cut(f"  {_way(reasons, len(reasons) if verbose else _NAMED)}", columns)
        if len(some) < len(ways):
            yield f"  and {len(ways) - len(some)} more ways; --verbose names them all"


def _joined(reasons: Sequence[Reason]) -> list[list[Reason]]:
    """Reasons that differ in nothing but where they begin are one line."""
    ways: dict[object, list[Reason]] = {}
    for reason in reasons:
        way = tuple(need.needed for need in reason.needs) or reason.asked
        ways.setdefault((way, reason.asked.written or reason.asked.at), []).append(reason)
    return list(ways.values())


def _way(reasons: Sequence[Reason], most: int) -> str:
    """``numpy>=1.26 (environment.yml:7) → libblas → libopenblas >=0.3.27``.

    At its beginning stands what was asked for, at its end what is asked of the last.
    """
    asked, needs = reasons[0].asked, reasons[0].needs
    start = f"{asked.text} ({asked.at})" if asked.at else asked.text
    if len(reasons) > 1:
        names = [reason.asked.name for reason in reasons]
        start = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
        start += "" if asked.written else f" ({asked.at})"
    between = [need.needed[1] for need in needs[:-1]]
    end = [f"{needs[-1].needed[1]} {needs[-1].text}".rstrip()] if needs else []
    return " → ".join([start, *between, *end])
