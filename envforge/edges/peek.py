"""How much an artifact or a tree of the store holds, before anything is unpacked.

An estimate, made in milliseconds: nothing is hashed, nothing is written, and what cannot be read is no
error here but no information.  Whoever unpacks the same file later says what is wrong with it.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.archive import ENTRY_LIMIT, FILE_LIMIT, WHEEL_LIMIT, wheel_members
from envforge.errors import EnvforgeError

__all__ = ["Contents", "artifact_contents", "guessed", "listed", "tree_contents"]

PACKED = 4
"""How many times its own size an archive unpacks to, where that cannot be read; most lie between 3 and 5."""
FILE_SIZE = 16 << 10
"""Bytes of archive for one file, where files cannot be counted; rather too many, to refuse little."""

_RECORD = re.compile(rb"^(.+),[^,]*,(\d{1,15})\r?$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an artifact unpacks to.

    ``bytes`` and ``files`` count everything, ``links`` the symbolic links among the files.  ``patched`` are
    the files that hold a placeholder of the prefix, ``sources`` the Python sources.  ``room`` is the length
    in bytes of the shortest placeholder in a binary: no prefix may be longer.  ``listing`` is the size of the
    list itself, which the environment's records repeat.
    """

    bytes: int
    files: int
    links: int = 0
    patched: int = 0
    patched_files: int = 0
    sources: int = 0
    source_files: int = 0
    room: int | None = None
    listing: int = 0


def artifact_contents(path: Path, filename: str) -> Contents | None:
    """What the artifact at ``path`` unpacks to; ``None`` if it is missing or makes no sense.

    A ``.tar.bz2`` is not looked into, because all of it would have to be unpacked; neither is a ``.conda``
    that is kept under another name, because py-rattler goes by the name.
    """
    try:
        size = path.stat().st_size
    except OSError:
        return None
    if filename.endswith(".whl"):
        return _wheel(path, filename)
    found = None
    if filename.endswith(".conda") and path.name.endswith(".conda"):
        text = _paths_json(path)
        found = None if text is None else listed(text)
    return found or guessed(size)


def guessed(size: int) -> Contents:
    """What an archive of ``size`` bytes may hold, if nothing is known but that."""
    return Contents(bytes=size * PACKED, files=1 + size // FILE_SIZE)


def tree_contents(tree: Path) -> Contents | None:
    """What the unpacked package at ``tree`` holds, by its own list; ``None`` if there is no list."""
    try:
        return listed((tree / "info" / "paths.json").read_bytes())
    except OSError:
        pass
    try:
        records = [Path(entry.path, "RECORD") for entry in os.scandir(tree) if _is_info(entry.name)]
        return _recorded(records[0].read_bytes()) if len(records) == 1 else None
    except OSError:
        return None


def _is_info(name: str) -> bool:
    return name.endswith(".dist-info")


def listed(text: bytes) -> Contents | None:
    """What an ``info/paths.json`` adds up to; ``None`` if it is none, or no package can hold so much."""
    try:
        entries = [entry for entry in json.loads(text)["paths"] if entry.get("path_type") != "directory"]
        sizes = [_size(entry) for entry in entries]
        sources = [size for size, e in zip(sizes, entries, strict=True) if e["_path"].endswith(".py")]
        patched = [(e, size) for size, e in zip(sizes, entries, strict=True) if e.get("prefix_placeholder")]
        rooms = [len(e["prefix_placeholder"].encode()) for e, _ in patched if e.get("file_mode") == "binary"]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if sum(sizes) > WHEEL_LIMIT or len(entries) > ENTRY_LIMIT:
        return None
    return Contents(
        bytes=sum(sizes),
        files=len(entries),
        links=sum(entry.get("path_type") == "softlink" for entry in entries),
        patched=sum(size for _, size in patched),
        patched_files=len(patched),
        sources=sum(sources),
        source_files=len(sources),
        room=min(rooms, default=None),
        listing=len(text),
    )


def _size(entry: dict[str, object]) -> int:
    size = entry.get("size_in_bytes", 0)
    if not isinstance(size, int) or size < 0:
        raise ValueError(size)
    return size


def _recorded(text: bytes) -> Contents | None:
    """What a wheel's RECORD adds up to."""
    rows = [(name.decode(errors="replace"), int(size)) for name, size in _RECORD.findall(text)]
    return _added(rows)


def _added(rows: Iterable[tuple[str, int]]) -> Contents | None:
    rows = list(rows)
    total = sum(size for _, size in rows)
    if total > WHEEL_LIMIT or len(rows) > ENTRY_LIMIT:
        return None
    sources = [size for name, size in rows if name.endswith(".py")]
    return Contents(
        bytes=total,
        files=len(rows),
        sources=sum(sources),
        source_files=len(sources),
        listing=sum(len(name) + 60 for name, _ in rows),  # a line of RECORD has a hash of 50 letters as well
    )


def _wheel(path: Path, filename: str) -> Contents | None:
    try:
        wheel_members(path, filename)  # whose checks an honest archive passes
        with zipfile.ZipFile(path) as wheel:
            return _added((info.filename, info.file_size) for info in wheel.infolist() if not info.is_dir())
    except (EnvforgeError, OSError, ValueError, zipfile.BadZipFile):
        return None


def _paths_json(path: Path) -> bytes | None:
    """``info/paths.json`` of a ``.conda``."""
    import asyncio  # only who reads conda packages pays for it

    from rattler.exceptions import ExtractError, IoError

    try:
        return asyncio.run(_member(path, "info/paths.json"))
    except (OSError, ValueError, ExtractError, IoError):
        return None


async def _member(path: Path, name: str) -> bytes | None:
    from rattler.package_streaming import PackageArchive

    opened = await PackageArchive.from_path(path)
    count = 0
    async for entry in opened.stream("info"):
        count += 1
        if count > ENTRY_LIMIT:
            return None
        if entry.name == name:
            return await entry.read() if entry.is_file and entry.size <= FILE_LIMIT else None
    return None
