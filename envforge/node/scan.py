"""What lies on disk: every entry of a tree as the receipt records it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.extract import normal_mode
from envforge.edges.hashing import file_sha256
from envforge.errors import CouldNotError
from envforge.model.receipt import FileRecord

__all__ = ["RECEIPT", "file_record", "scan", "settle_modes"]

RECEIPT = ".envforge/receipt.json"
"""The one file of a generation that the receipt cannot list: itself."""


def scan(
    tree: Path, owners: Mapping[str, tuple[str, str]] | None = None, *, jobs: int = 4
) -> dict[str, FileRecord]:
    """Every entry below ``tree`` but the receipt, by path; files hashed in ``jobs`` threads.

    :param owners: who brought each path and how: ``path -> (owner, how)``; envforge itself where absent.
    :raises CouldNotError: if something cannot be read.
    """
    known = owners or {}
    entries: list[tuple[str, os.stat_result]] = []
    _walk(tree, "", entries)
    files = [name for name, status in entries if stat.S_ISREG(status.st_mode)]
    hashes = _hashes(tree, files, jobs)
    return {name: _record(tree, name, status, hashes, known) for name, status in entries}


def _hashes(tree: Path, files: Sequence[str], jobs: int) -> dict[str, str]:
    """The sha256 of each file, in shares: a task for each would cost more than the hashing."""

    def share(names: Sequence[str]) -> dict[str, str]:
        return {name: file_sha256(Path(f"{tree}/{name}")) for name in names}

    shares = [found for found in (files[start :: 4 * jobs] for start in range(4 * jobs)) if found]
    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(share, shares):
            hashes |= found
    return hashes


def _walk(tree: Path, below: str, entries: list[tuple[str, os.stat_result]]) -> None:
    try:
        with os.scandir(tree / below) as directory:
            found = sorted(directory, key=lambda entry: entry.name)
            for entry in found:
                name = f"{below}{entry.name}"
                if name == RECEIPT:
                    continue
                entries.append((name, entry.stat(follow_symlinks=False)))
                if entry.is_dir(follow_symlinks=False):
                    _walk(tree, f"{name}/", entries)
    except OSError as error:
        raise CouldNotError(
            f"cannot read: {error.strerror or error}", at=str(error.filename or tree / below)
        ) from error


def _record(
    tree: Path,
    name: str,
    status: os.stat_result,
    hashes: Mapping[str, str],
    owners: Mapping[str, tuple[str, str]],
) -> FileRecord:
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        return FileRecord(path=name, kind="directory", mode=mode, how="directory")
    owner, how = owners.get(name, ("envforge", "metadata"))
    if stat.S_ISLNK(status.st_mode):
        return FileRecord(path=name, kind="link", target=str((tree / name).readlink()), owner=owner, how=how)
    if not stat.S_ISREG(status.st_mode):
        return FileRecord(path=name, kind="special", mode=mode)
    return FileRecord(
        path=name,
        kind="file",
        mode=mode,
        size=status.st_size,
        sha256=hashes[name],
        owner=owner,
        how=how,
    )


def file_record(tree: Path, name: str) -> FileRecord:
    """One entry below ``tree`` as it is now."""
    path = tree / name
    return _record(tree, name, path.lstat(), {name: file_sha256(path)}, {})


def settle_modes(tree: Path) -> None:
    """Give every entry the mode that follows from the packages, whatever the umask was."""
    tree.chmod(0o755)
    for base, directories, files in os.walk(tree):
        for name in (*directories, *files):
            path = f"{base}/{name}"
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                os.chmod(path, 0o755)  # noqa: PTH101, S103
            elif stat.S_ISREG(mode) and stat.S_IMODE(mode) != normal_mode(mode):
                os.chmod(path, normal_mode(mode))  # noqa: PTH101
