"""What kind of image a file or directory is, by its content and not by its name.

::

    hsqs…                               SquashFS 4, little-endian
    a line of program, then SIF_MAGIC   SIF
    a tar with oci-layout               OCI archive
    a tar with manifest.json            docker archive
    a directory with oci-layout         OCI layout

A SquashFS of envforge's has 4096 bytes behind its end that say what it is (:data:`TRAILER`): nothing that
mounts it looks there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from envforge.edges.tarstream import read_tar
from envforge.errors import InputError

__all__ = ["TRAILER", "TRAILER_SIZE", "image_kind", "read_trailer"]

TRAILER = b"envforge image 1\n"
"""How the last :data:`TRAILER_SIZE` bytes of a SquashFS begin that envforge made; a line of JSON follows."""

TRAILER_SIZE = 4096
_MEMBERS = 4000
"""Members of a tar that are looked at."""


def image_kind(path: Path) -> str | None:
    """What ``path`` is: one of :data:`envforge.model.image.KINDS`; ``None`` for anything else."""
    try:
        if path.is_dir():
            return "oci" if (path / "oci-layout").is_file() else None
        with path.open("rb") as file:
            return _file_kind(file, str(path))
    except (OSError, InputError):
        return None


def _file_kind(file: BinaryIO, at: str) -> str | None:
    first = file.read(512)
    if first.startswith(b"hsqs"):
        return "squashfs"
    if first[32:41] == b"SIF_MAGIC":
        return "sif"
    if first[257:262] != b"ustar":
        return None
    file.seek(0)
    names = {entry.name for (entry, _), _ in zip(read_tar(file, at=at), range(_MEMBERS), strict=False)}
    if names & {"oci-layout", "index.json"}:
        return "oci-archive"
    return "docker-archive" if "manifest.json" in names or "repositories" in names else None


def read_trailer(path: Path) -> bytes | None:
    """The line of JSON behind the end of a SquashFS that envforge made; ``None`` where there is none.

    :raises OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) < 2 * TRAILER_SIZE:
            return None
        file.seek(-TRAILER_SIZE, os.SEEK_END)
        block = file.read(TRAILER_SIZE)
    return block[len(TRAILER) :].strip() if block.startswith(TRAILER) else None
