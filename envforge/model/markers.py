"""Platforms in the words of PEP 508: the values that a marker may ask for."""

from __future__ import annotations

__all__ = ["MACHINES", "SYSTEMS", "platform_marker"]

MACHINES = {
    "linux-64": "x86_64",
    "linux-aarch64": "aarch64",
    "linux-ppc64le": "ppc64le",
    "osx-64": "x86_64",
    "osx-arm64": "arm64",
    "win-64": "AMD64",
    "win-arm64": "ARM64",
}
"""``platform_machine``."""
SYSTEMS = {
    "linux": ("posix", "linux", "Linux"),
    "osx": ("posix", "darwin", "Darwin"),
    "win": ("nt", "win32", "Windows"),
}
"""``os_name``, ``sys_platform`` and ``platform_system``, by the beginning of the platform."""


def platform_marker(platform: str) -> str | None:
    """A marker that holds on ``platform`` and on no other one; ``None`` for one that has no wheels."""
    if platform not in MACHINES:
        return None
    system = SYSTEMS[platform.partition("-")[0]][1]
    return f"platform_machine == '{MACHINES[platform]}' and sys_platform == '{system}'"
