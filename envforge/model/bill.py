"""What a package says about its licence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PackageFacts"]


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """The licence that a package names, in its own words, and the texts that it brings, by their paths.

    Both come from outside: one printable line, and texts without control characters, cut where they are long.
    """

    license: str | None = None
    texts: tuple[tuple[str, str], ...] = ()
