"""The answer of ``--check`` when it is no."""

from __future__ import annotations

from envforge.model.lockfile import Lockfile

__all__ = ["Unmet", "is_ours"]


class Unmet(Exception):
    """The first requirement that does not hold: what, and where it was written."""

    def __init__(self, what: str, at: str) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


def is_ours(lockfile: Lockfile) -> bool:
    """Whether envforge wrote the lockfile, and it says more of itself than another tool's."""
    return any(key.startswith("envforge.target.") for key in lockfile.custom)
