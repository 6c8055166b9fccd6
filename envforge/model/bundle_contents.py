"""What a bundle holds of a mirror."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BundleContents"]


@dataclass(frozen=True, kw_only=True)
class BundleContents:
    """One environment for one platform.

    ``name`` is that of the lock below ``locks/``, ``lock`` its digest; ``runtime`` the sha256 of the runtime
    that an environment is given, ``since`` that of the manifest or lockfile whose artifacts were left out.
    ``bytes`` and ``files`` are about what installing it writes.
    """

    name: str
    lock: str
    platform: str
    groups: tuple[str, ...]
    bytes: int
    files: int
    runtime: str | None = None
    since: str | None = None
