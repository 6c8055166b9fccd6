"""Reading a mirror: its manifest, and whether its files are what the manifest says."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.errors import CouldNotError, InputError
from envforge.formats import manifest_json
from envforge.model.manifest import Manifest, MirrorFile
from envforge.model.receipt import Difference
from envforge.node.sources.documents import read_document

__all__ = ["MANIFEST", "check_files", "read_manifest"]

MANIFEST = "manifest.json"
_UNFINISHED = ".envforge-mirror"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the mirror at ``directory``.

    :raises InputError: if there is no mirror, or an unfinished one, or one of a newer version.
    :raises CouldNotError: if it cannot be read.
    """
    path = directory / MANIFEST
    try:
        text = read_document(path, "the manifest", do="carry the mirror again: it was damaged")
    except FileNotFoundError as error:
        unfinished = (directory / _UNFINISHED).exists()
        raise InputError(
            "the mirror is not finished" if unfinished else "there is no mirror here",
            at=str(directory),
            do=f"envforge mirror conda-lock.yml {shlex.quote(str(directory))}   # where there is network",
        ) from error
    try:
        return manifest_json.read(text)
    except InputError as error:
        raise error.inside(str(path)) from None


def check_files(directory: Path, manifest: Manifest, *, jobs: int | None = None) -> tuple[Difference, ...]:
    """Every way in which the mirror's files differ from its manifest, sorted by path.

    A file that the manifest does not name is ``added``: harmless, and gone with ``mirror --prune``.

    :param jobs: how many threads hash.
    """
    named = {file.path for file in manifest.files}
    with ThreadPoolExecutor(max_workers=jobs or min(8, os.cpu_count() or 1)) as pool:
        found = [
            difference
            for difference in pool.map(lambda f: _check(directory, f), manifest.files)
            if difference
        ]
    found += [Difference(kind="added", path=path) for path in _paths(directory) if path not in named]
    return tuple(sorted(found, key=lambda difference: difference.path))


def _check(directory: Path, file: MirrorFile) -> Difference | None:
    path = directory / file.path
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return Difference(kind="missing", path=file.path)
    except OSError as error:
        return Difference(kind="changed", path=file.path, detail=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return Difference(kind="changed", path=file.path, detail="not a regular file")
    if status.st_size != file.size:
        detail = f"{status.st_size} bytes instead of {file.size}"
        return Difference(kind="changed", path=file.path, detail=detail)
    try:
        same = file_sha256(path) == file.sha256
    except CouldNotError as error:
        return Difference(kind="changed", path=file.path, detail=error.what)
    return None if same else Difference(kind="changed", path=file.path, detail="content")


def _paths(directory: Path) -> Iterator[str]:
    """Every file and link below ``directory`` but the manifest itself and what a writer keeps there."""
    for base, directories, files in os.walk(directory):
        if Path(base) == directory:
            directories[:] = [name for name in directories if name != _UNFINISHED]
            files = [name for name in files if name != MANIFEST]
        links = [name for name in directories if Path(base, name).is_symlink()]
        for name in (*files, *links):
            yield Path(base, name).relative_to(directory).as_posix()
