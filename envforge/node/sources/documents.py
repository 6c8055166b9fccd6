"""Reading envforge's own files on a node: from somewhere else, so of any size and kind until looked at."""

from __future__ import annotations

import stat
from pathlib import Path

from envforge.errors import CouldNotError, InputError

__all__ = ["read_document"]

LIMIT = 512_000_000
"""Bytes; the receipt of a million files is a quarter of that."""


def read_document(path: Path, what: str, *, do: str) -> str:
    """The text of a file.

    :param what: what it is, for the error: ``the receipt``.
    :param do: what helps if it cannot be used.
    :raises FileNotFoundError: if it is not there.
    :raises InputError: if it is no file, no text, or too large.
    :raises CouldNotError: if it may not be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise InputError(f"{what} is no file", at=str(path), do=do)
        if status.st_size > LIMIT:
            raise InputError(f"{what} is too large: {status.st_size} bytes", at=str(path), do=do)
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not text", at=str(path), do=do) from error
    except OSError as error:
        raise CouldNotError(
            f"cannot read {what}: {error.strerror or error}", at=str(path), do="check who may read it"
        ) from error
