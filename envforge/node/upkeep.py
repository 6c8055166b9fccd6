"""Looking after a store: what it holds, whether it is what it was, and what nobody has used for long."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.extract import package_paths
from envforge.edges.hashing import file_sha256
from envforge.edges.listing import read_listing
from envforge.edges.scratch import disk_error
from envforge.edges.store import KINDS, Store
from envforge.edges.wheels import tree_hashes
from envforge.errors import CouldNotError, EnvforgeError
from envforge.formats import runtime_json

__all__ = ["Altered", "StoreEntry", "altered", "entries", "prune", "remove"]

_HEX = re.compile(r"[0-9a-f]{64}")
_DAY = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class StoreEntry:
    """One artifact, unpacked package, list of that, package's bytecode, or note in a layer of a store.

    ``size`` are bytes and ``files`` counts of what is not counted before, as one file may be there twice;
    ``used`` is when it was last of use to an installation, in seconds since 1970.
    """

    kind: str
    sha256: str
    path: Path
    size: int
    files: int
    used: float


@dataclass(frozen=True, kw_only=True)
class Altered:
    """An entry that is not what it was, and the file by which one sees it."""

    entry: StoreEntry
    file: str


def entries(layer: Path) -> Iterator[StoreEntry]:
    """Everything in one layer of a store, kind by kind.

    :raises CouldNotError: if it cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    try:
        for kind in KINDS:
            for path in _paths(layer / kind):
                size, files = _measure(path, seen)
                yield StoreEntry(
                    kind=kind,
                    sha256=path.name,
                    path=path,
                    size=size,
                    files=files,
                    used=path.lstat().st_mtime,
                )
    except OSError as error:
        raise CouldNotError(
            f"cannot read the store: {error.strerror or error}",
            at=str(error.filename or layer),
            do="check who may read it",
        ) from error


def _paths(directory: Path) -> Iterator[Path]:
    """What is called by a sha256, at any depth: a file or a directory, whose own content is not looked at."""
    if not directory.is_dir():
        return
    for path in sorted(directory.iterdir()):
        if _HEX.fullmatch(path.name):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _paths(path)


def _measure(path: Path, seen: set[tuple[int, int]]) -> tuple[int, int]:
    size = files = 0
    found = [str(path)]
    for base, _, names in os.walk(path):
        found += [f"{base}/{name}" for name in names]
    for name in found:
        try:
            status = os.lstat(name)
        except FileNotFoundError:  # somebody else prunes
            continue
        if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            size += status.st_size
            files += 1
    return size, files


def prune(store: Store, *, days: float, dry_run: bool = False) -> tuple[StoreEntry, ...]:
    """Remove what no installation has used for ``days``; environments keep the files that they share with it.

    :returns: what is removed.
    :raises CouldNotError: if something cannot be removed.
    """
    oldest = time.time() - days * _DAY
    old = tuple(entry for entry in entries(store.root) if entry.used <= oldest)
    if not dry_run:
        store.clean()
        for entry in old:
            remove(store, entry)
    return old


def remove(store: Store, entry: StoreEntry) -> None:
    """Remove one entry, in one rename.

    :raises CouldNotError: if that is not permitted.
    """
    try:
        store.drop(entry.path)
    except FileNotFoundError:  # somebody else was faster
        return
    except OSError as error:
        raise disk_error(error, entry.path) from error


def altered(found: Sequence[StoreEntry], *, jobs: int) -> tuple[Altered, ...]:
    """Those entries that are not what they were.

    An artifact is known by its own sha256.  An unpacked package is held against the hashes that it brings,
    and bytecode against those that were written down with it: that finds accidents.  ``install`` holds
    packages against their artifacts, too.

    :param jobs: how many threads hash.
    """

    def look(entry: StoreEntry) -> Altered | None:
        file = _first_altered(entry)
        return None if file is None else Altered(entry=entry, file=file)

    with ThreadPoolExecutor(jobs) as pool:
        return tuple(one for one in pool.map(look, found) if one is not None)


def _first_altered(entry: StoreEntry) -> str | None:
    try:
        if entry.kind == "artifacts":
            return None if file_sha256(entry.path) == entry.sha256 else entry.path.name
        if entry.kind == "lists":
            return None if read_listing(entry.path) is not None else entry.path.name
        if entry.kind == "runtimes":
            runtime_json.read(entry.path.read_text(encoding="utf-8"))
            return None
        hashes = _bytecode_hashes(entry.path) if entry.kind == "bytecode" else _package_hashes(entry.path)
        for name, sha256 in hashes.items():
            if file_sha256(entry.path / name) != sha256:
                return name
    except (OSError, EnvforgeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return f"cannot be read: {error}"
    return None


def _bytecode_hashes(directory: Path) -> dict[str, str]:
    listed = json.loads((directory / "list.json").read_bytes())
    return {str(int(entry[0])): str(entry[2]) for entry in listed.values() if entry is not None}


def _package_hashes(tree: Path) -> dict[str, str]:
    if not (tree / "info" / "paths.json").exists():
        return tree_hashes(tree)
    return {
        entry["_path"]: entry["sha256"]
        for entry in package_paths(tree, tree.name)
        if isinstance(entry.get("sha256"), str) and not (tree / entry["_path"]).is_symlink()
    }
