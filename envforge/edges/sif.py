"""SIF, the Singularity Image Format, as far as needed to read one: where its root is, and its labels.

Format: version 01 of https://github.com/apptainer/sif: a header, a table of 585-byte descriptors, and the
data objects that they point to; little-endian.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from envforge.errors import CouldNotError, InputError

__all__ = ["Sif", "read_sif"]

_HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_PARTITION, _JSON = 0x4004, 0x4006
_SQUASHFS, _PRIMARY = 1, 2  # the kind of a partition, and its part: the root of the image
_MOST, _LIMIT = 4096, 16 << 20


@dataclass(frozen=True, kw_only=True)
class Sif:
    """Where the root file system begins, a SquashFS, and the labels of the image."""

    offset: int
    labels: dict[str, str]


def read_sif(path: Path) -> Sif:
    """Read the table of a SIF.

    :raises InputError: if it is none, or one whose root is no SquashFS.
    :raises CouldNotError: if it cannot be read.
    """
    offset, labels = None, dict[str, str]()
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            for kind, begin, size, extra in _descriptors(file, path):
                if begin < 0 or size < 0 or begin + size > end:
                    raise _damaged(path)
                if kind == _PARTITION and struct.unpack_from("<ii", extra) == (_SQUASHFS, _PRIMARY):
                    offset = begin
                elif kind == _JSON and size <= _LIMIT:
                    file.seek(begin)
                    labels |= _labels(file.read(size))
    except OSError as error:
        raise CouldNotError(f"cannot read the image: {error.strerror or error}", at=str(path)) from error
    if offset is None:
        raise InputError("the SIF has no root file system that is a SquashFS", at=str(path))
    return Sif(offset=offset, labels=labels)


def _descriptors(file: BinaryIO, path: Path) -> list[tuple[int, int, int, bytes]]:
    first = file.read(_HEADER.size)
    if len(first) < _HEADER.size or first[32:41] != b"SIF_MAGIC":
        raise InputError("this is no SIF", at=str(path), do="name an image that apptainer build has written")
    _, _, version, _, _, _, _, _, total, begin, _, _, _ = _HEADER.unpack(first)
    if version[:2] != b"01":
        raise InputError(f"a SIF of version {version[:2]!r}, and 01 can be read", at=str(path))
    if not 0 <= total <= _MOST or begin < _HEADER.size:
        raise _damaged(path)
    file.seek(begin)
    content = file.read(total * _DESCRIPTOR.size)
    if len(content) != total * _DESCRIPTOR.size:
        raise _damaged(path)
    found = (_DESCRIPTOR.unpack_from(content, number * _DESCRIPTOR.size) for number in range(total))
    return [(entry[0], entry[5], entry[6], entry[13]) for entry in found if entry[1]]


def _labels(content: bytes) -> dict[str, str]:
    """The labels in ``inspect-metadata.json``; nothing of another document."""
    try:
        labels = json.loads(content)["data"]["attributes"]["labels"]
        return {key: value for key, value in labels.items() if isinstance(value, str)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _damaged(path: Path) -> InputError:
    return InputError(
        "the SIF is damaged", at=str(path), do="carry it again; compare sha256sum on both sides"
    )
