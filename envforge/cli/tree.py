"""``envforge tree``"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

import click

from envforge.cli import completing
from envforge.cli.choosing import one_platform
from envforge.cli.console import Console, output_options, print_result
from envforge.cli.options import lockfile_option, platforms_option
from envforge.cli.tables import cut, width
from envforge.errors import AnswerNo
from envforge.model.graph import Graph, Key, graph_of, tops
from envforge.model.holding import Holding
from envforge.tree import Branch, tree

__all__ = ["command"]

_MARKS = {"repeated": " (*)", "deep": " …", "": ""}
_WIDEST = 60
"""Columns of names; what is indented further does not push the requirements of all others to the right."""
_LEAST = 20
"""Columns that are left for requirements."""


@click.command("tree")
@click.argument("package", metavar="[PKG]", required=False, shell_complete=completing.packages)
@lockfile_option("Of this lockfile, mirror, bundle or prefix.")
@platforms_option("For this platform; repeatable.  [default: this machine's, or the first that is locked]")
@click.option("--reverse", is_flag=True, help="Who needs it, instead of what it needs.")
@click.option("--depth", type=click.IntRange(min=0), help="No more than N levels below the top.")
@output_options
def command(
    package: str | None,
    *,
    source: str,
    platforms: tuple[str, ...],
    reverse: bool,
    depth: int | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Draw what was asked for and what that needs, across conda and PyPI; or what PKG needs.

    Behind each package stands what the one above asks of it.  A package whose needs are drawn elsewhere has
    a (*), also where packages need each other.  What was asked for is read from the specification beside the
    lockfile; what nobody asked for and no other package needs comes after that.
    """
    from envforge.list import holding

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    held = holding(source, reporter=console)
    drawn = []
    for platform in one_platform(held.lockfile, platforms):
        graph = graph_of(held.lockfile, platform, held.groups)
        starts = _starts(held, graph, package, reverse=reverse)
        if starts:
            drawn.append((platform, tree(graph, starts, depth=depth, reverse=reverse)))
    if not drawn:
        raise AnswerNo(
            f"{package} is not in {source}" if package else f"there is nothing in {source}",
            at=", ".join(one_platform(held.lockfile, platforms)),
            do=f"envforge list {shlex.quote(source)}",
        )
    document = {
        "source": source,
        "platforms": {platform: [_document(branch) for branch in branches] for platform, branches in drawn},
    }
    print_result(console, _lines(source, drawn), document)
    return 0


def _starts(held: Holding, graph: Graph, package: str | None, *, reverse: bool) -> Sequence[Key]:
    if package is not None:
        return [node.key for node in graph.named(package)]
    if reverse:
        return [
            key
            for key in sorted(graph.nodes, key=lambda key: key[1])
            if key[0] != "virtual" and _is_leaf(graph, key)
        ]
    return [key for _, key in tops(graph, held.asked)]


def _is_leaf(graph: Graph, key: Key) -> bool:
    return all(need.needed[0] == "virtual" for need in graph.needs.get(key, ()))


def _document(branch: Branch) -> dict[str, object]:
    node = branch.node
    return {
        "name": node.name,
        "version": node.version,
        "manager": node.manager,
        "requirement": branch.requirement or None,
        "more": branch.more or None,
        "branches": [_document(one) for one in branch.branches],
    }


def _lines(source: str, drawn: Iterable[tuple[str, Sequence[Branch]]]) -> Iterator[str]:
    columns = width()
    for platform, branches in drawn:
        lines = [(f"{source} {platform}", "")]
        lines += _below(branches, "")
        most = _WIDEST if columns is None else max(min(_WIDEST, columns - _LEAST), 0)
        widest = min(max((len(left) for left, right in lines if right), default=0), most)
        for left, right in lines:
            yield cut(f"{left:<{widest}}  {right}".rstrip(), columns)


def _below(branches: Sequence[Branch], indent: str) -> Iterator[tuple[str, str]]:
    for branch in branches:
        last = branch is branches[-1]
        node = branch.node
        of = " (PyPI)" if node.manager == "pip" else ""
        label = f"{node.name} {node.version}".rstrip()
        yield (
            f"{indent}{'└── ' if last else '├── '}{label}{of}{_MARKS[branch.more]}",
            branch.requirement,
        )
        yield from _below(branch.branches, indent + ("    " if last else "│   "))
