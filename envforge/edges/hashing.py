"""The sha256 of a file: what everything that is believed was held against."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from envforge.errors import CouldNotError

__all__ = ["file_sha256"]

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in lower-case hex.

    :raises CouldNotError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - most files are small, and there are many
            size = min(os.fstat(file.fileno()).st_size + 1, _CHUNK)  # a buffer no larger than the file
            while chunk := file.read(size):
                digest.update(chunk)
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error
    return digest.hexdigest()
