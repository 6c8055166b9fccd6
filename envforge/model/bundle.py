"""The bundle: what its header says, and what it holds of a mirror."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from envforge.errors import InputError

__all__ = ["ALIGNMENT", "BUNDLE_PLATFORMS", "HEADER_SIZE", "BundleContents", "Header"]

HEADER_SIZE = 16384
"""Bytes before the tar; the same in every bundle."""

ALIGNMENT = 512
"""Members of a tar begin at multiples of this many bytes."""

BUNDLE_PLATFORMS = ("linux-64", "linux-aarch64")
"""The platforms that a bundle can be made for."""

_LARGEST = 10**15  # bytes and KiB; the arithmetic of a shell holds it
_SHA256 = "[0-9a-f]{64}"
_FORMS = {
    "version": re.compile(r"[A-Za-z0-9._+-]{1,64}"),
    "platform": re.compile("|".join(BUNDLE_PLATFORMS)),
    "name": re.compile(r"[A-Za-z0-9._+-]{1,80}"),
    "lock": re.compile(f"({_SHA256})?"),
    "glibc": re.compile(r"(2\.(0|[1-9][0-9]{0,3}))?"),
    "runtime": re.compile(f"({_SHA256})?"),
    "manifest": re.compile(_SHA256),
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The values of a bundle's header; each is one that a shell takes as it is.

    ``version`` is the envforge that made the bundle; ``name`` the environment's, as
    :func:`envforge.node.using.activate.label` writes it; ``lock`` the digest of the lock, empty if none;
    ``glibc`` the lowest that runtime and lock need, empty if they need none.  ``kib`` and ``files`` are what
    a first installation needs at the prefix: KiB, files and directories.  ``runtime`` and ``manifest`` are
    the sha256 of ``runtime.tar.gz`` and ``manifest.json``, with where their bytes begin in the file and how
    many they are; of a bundle without a runtime the first three are empty, 0 and 0.

    :raises InputError: for a value that no header can hold.
    """

    version: str
    platform: str
    name: str
    manifest: str
    manifest_at: int
    manifest_size: int
    lock: str = ""
    glibc: str = ""
    kib: int = 0
    files: int = 0
    runtime: str = ""
    runtime_at: int = 0
    runtime_size: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, form = getattr(self, field.name), _FORMS.get(field.name)
            if form is None:
                usable = type(value) is int and 0 <= value < _LARGEST
            else:
                usable = isinstance(value, str) and form.fullmatch(value) is not None
            if not usable:
                raise InputError(f"{value!r} where a {field.name} for a bundle is needed", at=field.name)
        self._check_place("manifest")
        if self.runtime:
            self._check_place("runtime")
        elif self.runtime_at or self.runtime_size:
            raise InputError("a place of a runtime, and no runtime", at="runtime_at")

    def _check_place(self, name: str) -> None:
        begin, size = getattr(self, f"{name}_at"), getattr(self, f"{name}_size")
        if begin % ALIGNMENT or begin < HEADER_SIZE + ALIGNMENT or not size:
            raise InputError(f"{size} bytes at {begin} are no member of the tar", at=f"{name}_at")


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
