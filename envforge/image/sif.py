"""``image sif``: an OCI archive made into a SIF by Apptainer, where it is installed."""

from __future__ import annotations

from pathlib import Path

from envforge.edges.apptainer import Apptainer
from envforge.edges.scratch import replacing
from envforge.reporting import Reporter

__all__ = ["write_sif"]


def write_sif(archive: Path, path: Path, *, tool: Apptainer, reporter: Reporter) -> int:
    """Write a SIF: beside its place first, and renamed to it when all of it is there.

    :returns: its size.
    :raises CouldNotError: if Apptainer fails or the disk refuses; nothing is left then.
    """
    reporter.step(f"{tool.name} build")
    if not tool.reproducible:
        reporter.note(f"{tool} writes the time and a random number into a SIF: the bytes differ each time")
    with replacing(path, 0o755) as beside:
        tool.build(archive, beside)
        return beside.stat().st_size
