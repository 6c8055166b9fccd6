"""The runtime that a lockfile locks: the conda part of the Python that a bundle carries, per platform.

It lies in ``custom`` under ``envforge.runtime.PLATFORM``, because conda-lock's models refuse unknown keys: a
JSON list of ``[url, sha256, md5]``, sorted.  An environment that has a usable Python shares its artifacts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = [
    "RUNTIME_GROUP",
    "RUNTIME_PLATFORMS",
    "MadeRuntime",
    "RuntimeFacts",
    "is_usable_python",
    "runtime_key",
    "runtime_rows",
    "runtime_text",
]

RUNTIME_PLATFORMS = ("linux-64", "linux-aarch64")
"""Where the node's half runs: py-rattler has wheels for these."""
RUNTIME_GROUP = "envforge.runtime"
"""The ``category`` of a runtime's rows, which tells them from the environment's."""
_OLDEST = (3, 10)
_OTHER_PYTHON = re.compile(r"pypy|graalpy|cp\d+t(_|$)")
"""Builds that no wheel of the stable ABI fits: other interpreters, and CPython without its lock."""


@dataclass(frozen=True, kw_only=True)
class RuntimeFacts:
    """What there is to know about a runtime's file: its sha256 in hex and its size in bytes.

    ``glibc`` is the lowest that it runs on, ``python`` its Python's version; ``files`` and ``kib`` are what
    it takes when it is unpacked: files and directories, and kibibytes.
    """

    sha256: str
    size: int
    glibc: str
    python: str
    files: int
    kib: int


@dataclass(frozen=True, kw_only=True)
class MadeRuntime(RuntimeFacts):
    """A runtime as one file, which is at ``path``."""

    path: Path


def runtime_key(platform: str) -> str:
    """The key of a lockfile's ``custom`` that holds the runtime of ``platform``."""
    return f"envforge.runtime.{platform}"


def is_usable_python(name: str, version: str, build: str) -> bool:
    """Whether a conda package is a Python that the node's half runs on."""
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", version)
    if name != "python" or numbers is None or _OTHER_PYTHON.search(build):
        return False
    return (int(numbers[1]), int(numbers[2])) >= _OLDEST


def runtime_text(rows: Iterable[LockedPackage]) -> str:
    """What a lockfile says of a runtime: its rows in one canonical line."""
    return json.dumps(sorted([row.url, row.sha256, row.md5] for row in rows), separators=(",", ":"))


def runtime_rows(lockfile: Lockfile, platform: str) -> tuple[LockedPackage, ...]:
    """The conda packages of the runtime of ``platform``; empty if the lockfile locks none.

    :raises InputError: if what the lockfile says of it is not what envforge writes.
    """
    key = runtime_key(platform)
    text = lockfile.custom.get(key)
    if text is None:
        return ()
    try:
        entries = json.loads(text)
        rows = tuple(_row(platform, *entry) for entry in entries)
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise InputError(
            f"the lockfile's runtime cannot be read: {str(error).splitlines()[0]}",
            at=f"metadata: custom_metadata: {key}",
            do=f"envforge lock -p {platform}   # writes it anew",
        ) from error
    if len({row.name for row in rows}) != len(rows) or sum(row.name == "python" for row in rows) != 1:
        raise InputError(
            "the lockfile's runtime is not one Python and what that needs",
            at=f"metadata: custom_metadata: {key}",
            do=f"envforge lock -p {platform}   # writes it anew",
        )
    return rows


def _row(platform: str, url: str, sha256: str, md5: str) -> LockedPackage:
    if not all(isinstance(text, str) for text in (url, sha256, md5)):
        raise InputError("a row is not three texts")
    stem = url.partition("?")[0].rpartition("/")[2].removesuffix(".conda").removesuffix(".tar.bz2")
    name, _, rest = stem.rpartition("-")[0].rpartition("-")
    if not name or not rest:
        raise InputError(f"{stem!r} is not NAME-VERSION-BUILD")
    return LockedPackage(
        name=name,
        version=rest,
        manager="conda",
        platform=platform,
        url=url,
        sha256=sha256,
        md5=md5,
        category=RUNTIME_GROUP,
        optional=True,
    )
