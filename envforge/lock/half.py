"""What came out of the PyPI half: a noun, so that who has no such half need not load what makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage

__all__ = ["Half"]


@dataclass(frozen=True, kw_only=True)
class Half:
    """What came out: rows, what conda met of what they need, and the wheels that were built.

    ``custom`` is what the lockfile is to say of it beside the rows.
    """

    rows: tuple[LockedPackage, ...] = ()
    met: str = ""
    built: tuple[BuiltWheel, ...] = ()
    custom: Mapping[str, str] = field(default_factory=dict)
