"""``envforge demo``"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result

__all__ = ["command"]


@click.command("demo")
@click.argument("directory", metavar="[DIR]", default="envforge-demo", type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Do not take a wheel from the real PyPI.")
@output_options
def command(directory: Path, *, offline: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Take the whole path once in DIR: lock, bundle, install without network, verify, extract, render.

    A small conda channel and a PyPI index are made on the spot; where PyPI is reached, a wheel of it comes
    along.  Each step shows the command that does it for real.
    """
    from envforge.demo.tour import Visited, take_tour
    from envforge.edges.fetch import Fetcher

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    pypi = not offline and Fetcher(retries=0).reachable("https://pypi.org/simple/iniconfig/")
    lively = not as_json and not quiet

    def tell(text: str) -> None:
        if lively:
            click.echo(f"# {text}")

    def show(step: Visited) -> None:
        if lively:
            click.echo(f"\n# {step.title}\n$ {step.command}")
            click.echo("\n".join(f"  {line}" for line in step.output.splitlines()))

    tell(
        "PyPI is reached: a wheel of it comes along"
        if pypi
        else "PyPI is not reached: the index made here will do"
    )
    tour = take_tour(directory.absolute(), pypi=pypi, tell=tell, show=show)
    lines = [
        "",
        f"All of it is in {directory}: environment.yml, conda-lock.yml, greet.sh, mirror, prefix, greet.def.",
        "With an environment.yml of your own: envforge lock, envforge bundle, carry the file over, sh FILE.",
    ]
    document = {
        "directory": str(tour.directory),
        "prefix": str(tour.prefix),
        "pypi": pypi,
        "steps": [asdict(step) for step in tour.steps],
    }
    print_result(console, lines if lively else [], document)
    return 0
