"""``envforge probe``"""

from __future__ import annotations

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.formats import profile_json
from envforge.probe import probe
from envforge.probe import script as program

__all__ = ["command"]


@click.command("probe")
@click.option("--script", is_flag=True, help="Print a POSIX sh program that makes the same on a node.")
@output_options
def command(*, script: bool, as_json: bool, quiet: bool, verbose: bool) -> int:
    """Print this node's profile as JSON: platform, glibc, kernel, processor, NVIDIA driver and its CUDA, MPI.

    'envforge lock --profile FILE' locks for such a node.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if script:
        text = program()
        print_result(console, [text.rstrip("\n")], {"script": text})
        return 0
    profile = probe()
    click.echo(profile_json.write(profile), nl=False)
    if not profile.driver:
        console.note("no NVIDIA driver here; on a cluster, run it where the GPUs are: srun --gres=gpu:1 …")
    return 0
