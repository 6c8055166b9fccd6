"""``envforge image``"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envforge.cli.console import Console, human_size, output_options, print_result
from envforge.cli.containers import ROOM, apptainer_build
from envforge.cli.image_job import Job, image_options, registry_place, site_base
from envforge.errors import InputError
from envforge.model.mpi import mpi_of
from envforge.node.using.activate import RUN

if TYPE_CHECKING:
    from envforge.node.image_tree import ImageTree

__all__ = ["command", "write_squashfs_of"]

_BASE = "an OCI archive or layout, or docker:NAME@sha256:HEX."


@click.group("image")
def command() -> None:
    """Write an image of a bundle, mirror, lockfile or prefix: one file for container runtimes."""


@command.command("oci", short_help="An OCI archive, which docker load reads, too.")
@image_options
@click.option(
    "--base",
    metavar="BASE",
    help=f"What to start from: {_BASE}  [default: the setting base-image, else nothing]",
)
@click.option(
    "--registry",
    metavar="HOST/PATH",
    help="A site's registry, for the lines that come next, and what Shifter pulls.  [default: the setting]",
)
@output_options
def image_oci(
    *, as_json: bool, quiet: bool, verbose: bool, registry: str | None, output: Path, **words: Any
) -> int:
    """Write an OCI archive with the environment of SOURCE at --prefix, on top of --base.

    SOURCE is a bundle, a mirror, a lockfile or a prefix.  No daemon, no root and no container tool is needed,
    and the image may be for another platform than this machine's.  Podman, skopeo, buildah, umoci and
    Apptainer read it, and so does docker load.  The same lock, base and release give the same bytes.
    """
    from envforge.image.oci import write_oci

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    place = registry_place(registry)
    words["base"] = words["base"] or site_base()
    job = Job.of(console, output, **words)
    if job.dry_run:
        return job.would()
    with job.made() as made:
        result = write_oci(made.tree, made.base, output, jobs=job.jobs, reporter=console)
    document = {
        **job.document(made.tree),
        "digest": result.digest,
        "size": result.size,
        "base": result.base,
        "layers": [{"name": n, "digest": digest, "size": size} for n, digest, size in result.layers],
    }
    base = f" on {result.base}" if result.base else ""
    lines = [
        f"{output}   {human_size(result.size)}, {len(result.layers)} layers{base}",
        f"manifest {result.digest}, lock sha256:{made.tree.facts.lock}",
    ]
    print_result(console, lines, document)
    file, name = shlex.quote(str(output)), result.name
    if result.base is None:
        console.note("there is no base in it: nothing runs in it until it lies on top of one")
    else:
        sif = output.with_suffix("").with_suffix(".sif")
        console.note(f"next: {apptainer_build(sif, f'oci-archive:{file}')}")
        console.note(ROOM)
        console.note(f"on the cluster: {job.started('apptainer run')} {shlex.quote(str(sif))} COMMAND")
        console.note(f"or: podman load -i {file}   # or docker load; it is localhost/{name}:latest then")
    named = f"{place or 'REGISTRY'}/{name}:{made.tree.facts.lock[:12]}"
    console.note(f"or: skopeo copy oci-archive:{file} docker://{named}")
    if place is not None and result.base is not None:
        _tell_shifter(console, named, made.tree)
    return 0


def _tell_shifter(console: Console, named: str, tree: ImageTree) -> None:
    """What its gateway pulls, and where its way with MPI has a limit."""
    console.note(f"then, for Shifter: shifterimg pull docker:{named}")
    console.note(f"and: shifter --image=docker:{named} {tree.facts.prefix}/{RUN} COMMAND")
    mpi = mpi_of(tree.receipt.packages)
    if mpi is not None and mpi.family == "openmpi":
        console.note(
            "Shifter puts the site's MPICH in place of the image's; the one in it is Open MPI, for which it "
            "cannot stand: lock with mpich to run on several nodes"
        )
    elif mpi is not None and mpi.own:
        console.note(
            "Shifter puts the site's MPICH into LD_LIBRARY_PATH, and the one in the environment comes before "
            "that: lock a stub, mpich=*=external_* of conda-forge/label/mpi-external, to run on several nodes"
        )


@command.command("squashfs", short_help="A SquashFS: one file that is mounted at the prefix.")
@image_options
@click.option(
    "--base",
    metavar="BASE",
    help=f"Make a root file system of this, with the environment in it: {_BASE}  [default: the prefix alone]",
)
@click.option(
    "--compression",
    type=click.Choice(("gzip", "zstd", "lz4", "xz")),
    default="gzip",
    show_default=True,
    help="gzip is read everywhere; zstd is smaller, and read faster.",
)
@output_options
def image_squashfs(
    *, as_json: bool, quiet: bool, verbose: bool, compression: str, output: Path, **words: Any
) -> int:
    """Write a SquashFS of SOURCE with mksquashfs: one file instead of tens of thousands.

    It holds the content of --prefix, linked for that path, and is mounted there by Apptainer, squashfuse or
    the kernel.  With --base it is a whole root file system, which ch-run and enroot start.
    """
    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    return write_squashfs_of(console, output, compression=compression, **words)


def write_squashfs_of(console: Console, output: Path, *, compression: str, **words: Any) -> int:
    """What ``image squashfs`` does; ``words`` are the options of every image."""
    from envforge.edges.squashfs import find_mksquashfs
    from envforge.image.rootfs import make_rootfs
    from envforge.image.squashfs import write_squashfs

    tool = find_mksquashfs()
    job = Job.of(console, output, **words)
    if job.dry_run:
        return job.would()
    with job.made() as made:
        root = made.work / "root" if made.base is not None else None
        if root is not None and made.base is not None:
            make_rootfs(made.tree, made.base, root, reporter=console)
        result = write_squashfs(
            made.tree, root, output, tool=tool, compression=compression, jobs=job.jobs, reporter=console
        )
    document = {
        **job.document(made.tree),
        "kind": result.kind,
        "size": result.size,
        "base": None if job.base is None else str(job.base),
    }
    what = f"for {job.prefix}" if job.base is None else f"a root file system on {job.base}"
    lines = [f"{output}   {human_size(result.size)}, {what}", f"lock sha256:{made.tree.facts.lock}"]
    print_result(console, lines, document)
    file = shlex.quote(str(output))
    if job.base is None:
        mounted = f"{file}:{job.prefix}:image-src=/"
        console.note(
            f"next: {job.started('apptainer exec')} -B {mounted} BASE.sif {job.prefix}/{RUN} COMMAND"
        )
        console.note(f"or: squashfuse {file} {job.prefix}   # at that path and nowhere else")
    else:
        console.note(f"next: ch-run --set-env {file} -- COMMAND")
        console.note(f"or: srun --container-image={file} COMMAND   # where Slurm has pyxis")
    return 0


@command.command("tree", short_help="A directory, for the one path that it will have.")
@image_options
@output_options
def image_tree(*, as_json: bool, quiet: bool, verbose: bool, output: Path, **words: Any) -> int:
    """Write the environment of SOURCE as a directory, linked for --prefix and for no other path.

    For a tool that makes an image of what it finds there: the build of a recipe does this, in the image.
    """
    from envforge.image.tree import write_tree

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    if output.exists() or output.is_symlink():
        raise InputError("there is something already", at=f"-o {output}", do="name a directory that is not")
    job = Job.of(console, output, base=None, **words)
    if job.dry_run:
        return job.would()
    with job.made() as made:
        write_tree(made.tree, output)
    lines = [f"{output}   for {job.prefix}", f"lock sha256:{made.tree.facts.lock}"]
    print_result(console, lines, job.document(made.tree))
    return 0


@command.command("sif", short_help="A SIF, through the Apptainer that is here.")
@image_options
@click.option(
    "--base", metavar="BASE", help=f"What to start from: {_BASE}  [default: the setting base-image]"
)
@output_options
def image_sif(*, as_json: bool, quiet: bool, verbose: bool, output: Path, **words: Any) -> int:
    """Write a SIF of SOURCE on top of --base, through apptainer or singularity, always with the same options.

    APPTAINER_TMPDIR, or SINGULARITY_TMPDIR, is where it works; without, the store.
    """
    from envforge.edges.apptainer import find_apptainer
    from envforge.image.oci import write_oci
    from envforge.image.sif import write_sif

    console = Console(json=as_json, quiet=quiet, verbose=verbose)
    tool = find_apptainer()
    words["base"] = words["base"] or site_base()
    if words["base"] is None:
        raise InputError(
            "no base image was named, and a SIF needs one to run",
            at="--base",
            do="--base base.oci.tar | --base docker:NAME@sha256:HEX",
        )
    job = Job.of(console, output, **words)
    if job.dry_run:
        return job.would()
    with job.made() as made:
        archive = made.work / "image.oci.tar"
        result = write_oci(made.tree, made.base, archive, jobs=job.jobs, reporter=console)
        size = write_sif(archive, output, tool=tool, reporter=console)
    document = {
        **job.document(made.tree),
        "digest": result.digest,
        "size": size,
        "base": result.base,
        "tool": str(tool),
    }
    lines = [
        f"{output}   {human_size(size)}, on {result.base}, by {tool}",
        f"lock sha256:{made.tree.facts.lock}",
    ]
    print_result(console, lines, document)
    console.note(f"next: {job.started(f'{tool.name} run')} {shlex.quote(str(output))} COMMAND")
    return 0
