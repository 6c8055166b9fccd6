"""``envforge stage``"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from envforge.cli.console import Console, output_options, print_result
from envforge.edges.machine import jobs_available
from envforge.errors import BusyError, CouldNotError
from envforge.settings import FROM_BUNDLE, use_log_file

__all__ = ["command"]

_NO_STEPS = ("4294967291", "4294967290")
"""What Slurm calls the script of a job and its interactive shell, where it gives them a number."""


@click.command("stage")
@click.argument("source", metavar="BUNDLE|IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--to", "directory", required=True, metavar="DIR", type=click.Path(path_type=Path),
    help="A directory on a disk of the node's own; made if it is not there.",
)  # fmt: skip
@click.option("--here", is_flag=True, help="On this node alone, although the job has several.")
@click.option(
    "--wait", type=click.FloatRange(min=0), default=3600.0, show_default=True, metavar="SECONDS",
    help="For another process of the node that stages the same; then exit status 75.",
)  # fmt: skip
@click.option(
    "--store", "stores", multiple=True, type=click.Path(path_type=Path),
    help="Where what a delta leaves out is found; repeatable.",
)  # fmt: skip
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 256), help="Threads and processes.  [default: what is allowed]"
)
@click.option("--dry-run", is_flag=True, help="Check everything that can be checked, and write nothing.")
@output_options
def command(
    source: Path,
    directory: Path,
    *,
    here: bool,
    wait: float,
    stores: tuple[Path, ...],
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Put the environment of BUNDLE, or a copy of IMAGE, into DIR, and print the path to use.

    For disks that a compute node has for itself.  Nothing is done twice: of several tasks of a node one does
    it, and the others wait.  In the script of a Slurm job it is done on every node of the job; with srun,
    where srun says.
    """
    from envforge.node.sources.bundles import is_bundle
    from envforge.node.stage import StageOptions, stage_bundle, stage_image

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    use_log_file(directory.absolute() / "envforge-stage.log")
    options = StageOptions(
        jobs=jobs or jobs_available(directory),
        seconds=wait,
        stores=tuple(store.absolute() for store in stores),
        dry_run=dry_run,
    )
    nodes = 0 if here or dry_run else _other_nodes()
    if nodes:
        words = ["--wait", f"{wait:g}", *(f"--store={store}" for store in options.stores)]
        words += [] if jobs is None else ["--jobs", str(jobs)]
        path, changed = _on_each(nodes, source.absolute(), directory.absolute(), words, console), None
    else:
        stage = stage_bundle if is_bundle(source) else stage_image
        staged = stage(source, directory, options=options, reporter=console)
        path, changed = str(staged.path), staged.changed
    document = {"path": path, "changed": changed, "nodes": nodes or 1, "dry_run": dry_run}
    print_result(console, [path], document)
    return 0


def _other_nodes() -> int:
    """How many nodes the Slurm job has, if it is to be done on others than this or on more; else 0.

    In a step that srun has started it is on each of them already.
    """
    variables = os.environ
    count = variables.get("SLURM_JOB_NUM_NODES", "")
    if (
        not (count.isdecimal() and len(count) < 7)
        or variables.get("SLURM_STEP_ID", _NO_STEPS[0]) not in _NO_STEPS
    ):
        return 0
    # The shell of salloc runs where salloc does, and may have no node of the job.
    return int(count) if int(count) > 1 or "SLURMD_NODENAME" not in variables else 0


def _on_each(nodes: int, source: Path, directory: Path, words: list[str], console: Console) -> str:
    """Run the same on every node of the job; returns the path, which is the same everywhere.

    :raises BusyError: if that is what is wrong.
    :raises CouldNotError: if it failed on a node.
    """
    from envforge.edges.process import Command, run

    own = os.environ.get(FROM_BUNDLE)
    if own:
        # The runtime that runs here may lie on a disk of this node alone: each unpacks its own.
        program = ["sh", str(Path(own).absolute()), "stage"]
    else:
        program = [sys.executable, "-I", "-m", "envforge", "stage", str(source)]
    console.step(f"staging on {nodes} nodes")
    srun = ("srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1")
    argv = (*srun, *program, "--to", str(directory), "--here", "--quiet", *words)
    done = run(Command(argv=argv, base=os.environ))
    paths = set(done.stdout.splitlines())
    if done.returncode == 0 and len(paths) == 1:
        return paths.pop()
    said = next((line for line in done.stderr.splitlines() if "envforge: " in line), "srun failed")
    kind = BusyError if done.returncode == BusyError.exit_code else CouldNotError
    raise kind(
        f"not staged on every node: {said.strip()}",
        at=f"job {os.environ.get('SLURM_JOB_ID', '')}",
        do="the same command again; what was staged is not done twice",
        story=done.stderr,
    )
