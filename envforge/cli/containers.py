"""What the commands that make images and recipes say of the next step: lines to paste."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from envforge.model.mpi import Mpi

__all__ = ["ROOM", "apptainer_build", "started"]

ROOM = (
    "where /tmp is small, set APPTAINER_TMPDIR to a local directory with room for the image; where the home "
    "directory is, APPTAINER_CACHEDIR, too"
)


def apptainer_build(image: Path, source: str) -> str:
    """The command that makes a SIF of ``source``, which is quoted already."""
    return f"APPTAINER_TMPDIR=${{TMPDIR:-/tmp}} apptainer build {shlex.quote(str(image))} {source}"


def started(verb: str, *, cuda: str | None, mpi: Mpi | None, directories: Sequence[str] = ()) -> str:
    """How Apptainer is started on a cluster: by Slurm if it is parallel, with the driver if it has a GPU.

    :param verb: ``apptainer run``.
    :param directories: those of the cluster's MPI, which are bound.
    """
    words = [f"srun --mpi={mpi.pmi}"] if mpi is not None else []
    words += [verb, *(["--nv"] if cuda else []), *(f"-B {directory}" for directory in directories)]
    return " ".join(words)
