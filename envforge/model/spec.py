"""The specification: what a person wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["EnvironmentSpec", "Line"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One dependency as it was written: a MatchSpec or a PyPI requirement.

    ``at`` says where (``environment.yml:7``).  ``platforms`` is ``None`` for all of them, or those that
    a selector (``# [linux]``) kept.
    """

    text: str
    at: str
    platforms: tuple[str, ...] | None = None
    group: str = "main"

    def applies_to(self, platform: str) -> bool:
        """Whether the line counts for ``platform``."""
        return self.platforms is None or platform in self.platforms


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """Channels in priority order, conda dependencies, PyPI requirements and where to look for them.

    A PyPI requirement may be the path of a project, relative to the file that it is written in.
    ``indexes`` are simple index URLs, the first the default one; empty means PyPI.  ``no_binary`` are the
    projects that are built from their sdist.  ``sources`` are the paths that were read, as they were given.
    """

    name: str | None
    channels: tuple[str, ...]
    platforms: tuple[str, ...]
    conda: tuple[Line, ...]
    pip: tuple[Line, ...] = ()
    indexes: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def conda_for(self, platform: str) -> tuple[Line, ...]:
        """The conda dependencies that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.conda, platform))

    def pip_for(self, platform: str) -> tuple[Line, ...]:
        """The PyPI requirements that count for ``platform``, in the order they were written."""
        return tuple(_applying(self.pip, platform))


def _applying(lines: Iterable[Line], platform: str) -> Iterable[Line]:
    return (line for line in lines if line.applies_to(platform))
