"""Implementations of MPI, and which of them can stand for each other."""

from __future__ import annotations

from collections.abc import Iterable

from envforge.model.lockfile import LockedPackage

__all__ = ["mpi_family"]

_FAMILIES = {
    "mpich": "mpich",
    "mvapich": "mpich",
    "mvapich2": "mpich",
    "impi_rt": "mpich",
    "intel-mpi": "mpich",
    "openmpi": "openmpi",
}
"""By the conda package; a family shares a binary interface: that of MPICH, or that of Open MPI."""


def mpi_family(rows: Iterable[LockedPackage]) -> str | None:
    """``mpich`` or ``openmpi``: the family of the MPI among ``rows``; ``None`` if there is none."""
    found = (_FAMILIES.get(row.name) for row in rows if row.manager == "conda")
    return next(filter(None, found), None)
