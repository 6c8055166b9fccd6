"""``image sif``: an OCI archive made into a SIF by Apptainer, where it is installed."""

from __future__ import annotations

from pathlib import Path

from envforge.edges.apptainer import Apptainer
from envforge.edges.scratch import disk_error, owner_mark
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
    beside = path.with_name(f".{path.name}.{owner_mark()}")
    try:
        tool.build(archive, beside)
        beside.chmod(0o755)
        size = beside.stat().st_size
        beside.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        beside.unlink(missing_ok=True)
    return size
