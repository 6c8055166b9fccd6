"""The specification: what a person wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envforge.model.platforms import VirtualPackage

__all__ = ["CHANNEL_PRIORITIES", "Assumption", "EnvironmentSpec", "Line"]

CHANNEL_PRIORITIES = ("strict", "flexible", "disabled")
"""As conda calls them: a package from the first channel that has it; that channel preferred; the newest."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One dependency as it was written: a MatchSpec or a PyPI requirement.

    ``at`` says where (``environment.yml:7``).  ``platforms`` is ``None`` for all of them, or those that
    a selector (``# [linux]``) kept.  ``hashes`` are ``ALGORITHM:HEX`` of the artifacts that a PyPI
    requirement may be, empty for any.
    """

    text: str
    at: str
    platforms: tuple[str, ...] | None = None
    group: str = "main"
    hashes: tuple[str, ...] = ()

    def applies_to(self, platform: str) -> bool:
        """Whether the line counts for ``platform``."""
        return self.platforms is None or platform in self.platforms


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A virtual package that the specification says its targets offer; ``platforms`` as in :class:`Line`."""

    package: VirtualPackage
    at: str
    platforms: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """Channels in priority order, conda dependencies, PyPI requirements and where to look for them.

    A PyPI requirement may be the path of a project, relative to the first of ``sources``.  ``constraints``
    limit the versions of projects that are needed anyway, ``conda_constraints`` those of conda packages.
    ``channel_priority`` is one of :data:`CHANNEL_PRIORITIES`, ``exclude_newer`` what
    :func:`~envforge.model.moments.cutoff` reads; ``None`` where nothing is said.  ``indexes`` are simple
    index URLs, the first the default one; empty means PyPI.  ``index_of`` are projects, by canonical name,
    and the one index each is taken from.  ``find_links`` are directories, or pages, of artifacts.
    ``no_binary`` are the projects that are built from their sdist.  ``prerelease`` allows pre-releases of
    every project.  ``python`` is the Python, as ``3.11`` or ``3.11.9``, of an environment that brings none of
    its own.  ``assumed`` is what the targets are said to offer.  ``sources`` are the paths that were read, as
    they were given.
    """

    name: str | None
    channels: tuple[str, ...]
    platforms: tuple[str, ...]
    conda: tuple[Line, ...]
    pip: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    conda_constraints: tuple[Line, ...] = ()
    channel_priority: str | None = None
    exclude_newer: str | None = None
    indexes: tuple[str, ...] = ()
    index_of: tuple[tuple[str, str], ...] = ()
    find_links: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    prerelease: bool = False
    python: str | None = None
    assumed: tuple[Assumption, ...] = ()
    sources: tuple[str, ...] = ()

    def conda_for(self, platform: str) -> tuple[Line, ...]:
        """The conda dependencies that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.conda, platform))

    def pip_for(self, platform: str) -> tuple[Line, ...]:
        """The PyPI requirements that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.pip, platform))

    def constraints_for(self, platform: str) -> tuple[Line, ...]:
        """The limits on PyPI versions that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.constraints, platform))

    def conda_constraints_for(self, platform: str) -> tuple[Line, ...]:
        """The limits on conda packages that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.conda_constraints, platform))

    def assumed_for(self, platform: str) -> tuple[VirtualPackage, ...]:
        """What the specification says ``platform`` offers."""
        return tuple(
            one.package for one in self.assumed if one.platforms is None or platform in one.platforms
        )


def _applying(lines: Iterable[Line], platform: str) -> Iterable[Line]:
    return (line for line in lines if line.applies_to(platform))
