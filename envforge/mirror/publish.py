"""Putting derived files in place, and taking away what the new manifest no longer names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from envforge.errors import CouldNotError
from envforge.mirror.artifacts import cannot_write, place
from envforge.model.manifest import Manifest

__all__ = ["tidy", "write_files"]

PARTS = ("conda", "locks", "pypi")


def write_files(directory: Path, scratch: Path, files: Mapping[str, bytes]) -> None:
    """Write each file beside and rename it; one that is right already is not touched.

    :raises CouldNotError: if a file cannot be written.
    """
    for number, (relative, content) in enumerate(files.items()):
        final, partial = directory / relative, scratch / f"page-{number:06d}"
        if _is(final, content):
            settle_mode(final)
            continue
        try:
            partial.write_bytes(content)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise cannot_write(final, error) from error
        place(partial, final)


def _is(path: Path, content: bytes) -> bool:
    try:
        return not path.is_symlink() and path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def settle_mode(path: Path) -> None:
    """Give a kept file the mode that every file of a mirror has, if it is ours to change."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o7777 != 0o644:
            path.chmod(0o644)


def tidy(directory: Path, old: Manifest, new: Manifest, *, prune: bool) -> tuple[str, ...]:
    """Remove what would mislead: indexes and copies that the new manifest does not name.

    :param prune: remove every file that it does not name.
    :returns: the paths removed.
    :raises CouldNotError: if one cannot be removed.
    """
    named = {file.path for file in new.files}
    digests = {file.sha256 for file in new.files}
    moved = {file.path for file in old.files if file.sha256 in digests}
    stale = [
        path for path in _walk(directory) if path not in named and (prune or path in moved or _is_index(path))
    ]
    for path in stale:
        try:
            (directory / path).unlink(missing_ok=True)
        except OSError as error:
            raise CouldNotError(
                f"cannot remove: {error.strerror or error}",
                at=str(directory / path),
                do="check who may write there",
            ) from error
    _remove_empty(directory)
    return tuple(stale)


def _is_index(path: str) -> bool:
    name = PurePosixPath(path).name
    return path.startswith(("pypi/simple/", "locks/")) or (
        path.startswith("conda/") and name in ("repodata.json", "repodata.json.zst")
    )


def _walk(directory: Path) -> list[str]:
    found = []
    for part in PARTS:
        for base, directories, files in os.walk(directory / part):
            links = [name for name in directories if Path(base, name).is_symlink()]
            found += [Path(base, name).relative_to(directory).as_posix() for name in (*files, *links)]
    return sorted(found)


def _remove_empty(directory: Path) -> None:
    for part in PARTS:
        for base, _, _ in os.walk(directory / part, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                Path(base).rmdir()


def artifact_paths(manifest: Manifest) -> Iterable[tuple[str, str]]:
    """Path and sha256 of everything in a manifest that came from outside."""
    return ((file.path, file.sha256) for file in manifest.files if file.url is not None)
