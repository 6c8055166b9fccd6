"""How a generation came to be: beside it, because inside it would differ from one run to the next."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Installation"]


@dataclass(frozen=True, kw_only=True)
class Installation:
    """When, where, by whom and of what a generation was made.

    Times are UTC in ISO 8601.  ``switched`` is when the prefix was last pointed to it, empty if it never was;
    ``lock`` the digest of the lock; ``name`` the environment's; ``packages`` and ``files`` are counts,
    ``size`` bytes; ``changes`` says in words how it differs from the one before; ``stores`` are the layers of
    the store that it was made from.
    """

    made: str
    switched: str = ""
    host: str = ""
    user: str = ""
    job: str = ""
    tool: str = ""
    name: str = ""
    lock: str = ""
    groups: tuple[str, ...] = ("main",)
    packages: int = 0
    files: int = 0
    size: int = 0
    changes: str = ""
    stores: tuple[str, ...] = ()
