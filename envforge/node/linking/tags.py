"""Which wheels a Python can use, from the tags in their names (PEP 425, 600, 656, 703)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage

__all__ = ["PythonTags", "check_tags"]

_MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}
_PYTHON = re.compile(r"(py|cp)(\d)(\d*)")
_ABI = re.compile(r"cp(\d)(\d+)([a-z]*)")
_LINUX = re.compile(r"(?:linux|manylinux(?:1|2010|2014|_\d+_\d+))_(\w+)")


@dataclass(frozen=True, kw_only=True)
class PythonTags:
    """The Python that wheels are for: ``version`` such as ``(3, 12)``, whether it is built without the global
    lock, and the machine as wheels call it; ``None`` where it is not Linux, and not looked at.
    """

    version: tuple[int, int]
    free_threaded: bool
    machine: str | None

    @classmethod
    def of(cls, version: str, platform: str, *, free_threaded: bool = False) -> PythonTags:
        """From a full version such as ``3.12.13`` and a conda platform."""
        major, minor = (int("".join(filter(str.isdigit, part))) for part in version.split(".")[:2])
        return cls(version=(major, minor), free_threaded=free_threaded, machine=_MACHINES.get(platform))

    def take(self, filename: str) -> bool:
        """Whether a wheel of this name can be installed; its manylinux version is for others to look at."""
        parts = filename.removesuffix(".whl").split("-")
        if len(parts) < 5:
            return False
        pythons, abis, machines = (part.split(".") for part in parts[-3:])
        return any(self._fits(p, a) for p in pythons for a in abis) and any(map(self._runs, machines))

    def _fits(self, python: str, abi: str) -> bool:
        match = _PYTHON.fullmatch(python)
        if match is None or int(match[2]) != self.version[0]:
            return False
        minor = int(match[3]) if match[3] else None
        own = minor == self.version[1]
        if abi == "none":
            return own or (match[1] == "py" and (minor is None or minor <= self.version[1]))
        if abi == "abi3":
            older = minor is not None and minor <= self.version[1]
            return match[1] == "cp" and older and not self.free_threaded
        found = _ABI.fullmatch(abi)
        if found is None or match[1] != "cp" or not own or (int(found[1]), int(found[2])) != self.version:
            return False
        return ("t" in found[3]) == self.free_threaded

    def _runs(self, platform: str) -> bool:
        if platform == "any" or self.machine is None:
            return True
        match = _LINUX.fullmatch(platform)
        return match is not None and match[1] == self.machine


def check_tags(rows: Iterable[LockedPackage], tags: PythonTags) -> None:
    """Refuse wheels that this Python cannot use, before anything is written.

    :raises InputError: naming the first of them.
    """
    for row in rows:
        if row.manager == "pip" and not tags.take(row.filename):
            threads = " without the global lock" if tags.free_threaded else ""
            raise InputError(
                f"{row.filename} is not for this environment: "
                f"Python {tags.version[0]}.{tags.version[1]}{threads} on {tags.machine or 'this platform'}",
                at=f"package {row.name} {row.version} (pip, {row.platform})",
                do="lock again for this Python: envforge lock",
            )
