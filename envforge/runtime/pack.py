"""A runtime as one file: a gzipped tar whose bytes depend on the packages and the release alone."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from envforge.edges.ustar import END, header, padding
from envforge.formats.elf_stripped import StrippedElf, strip_elf
from envforge.formats.gzip_members import gzip_members

__all__ = ["Packed", "pack"]

_CHUNK = 1 << 20
ROOT = "runtime"


class Packed:
    """What was packed: ``files`` counts entries, ``kib`` is what they take on a disk of 4 KiB blocks."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.files = 0
        self.kib = 0


def pack(files: Mapping[str, Path | bytes], library: str, target: Path) -> Packed:
    """Write the new file ``target``.

    :param files: by path; ordinary files or contents.
    :param library: ``lib/pythonX.Y``: what lies there as bytecode is made unchecked.
    :raises OSError: if that is not possible.
    """
    packed = Packed()
    with target.open("xb") as out:
        for member in gzip_members(_tar(files, library, packed), jobs=min(8, os.cpu_count() or 1)):
            out.write(member)
            packed.sha256.update(member)
            packed.size += len(member)
    return packed


def _tar(files: Mapping[str, Path | bytes], library: str, packed: Packed) -> Iterator[bytes]:
    made: set[str] = set()
    bytecode = f"cpython-{library.removeprefix('lib/python').replace('.', '')}"
    for name in sorted(files):
        data = _settled(name, files, bytecode)
        if data is None:
            continue
        yield from _folders(f"{ROOT}/{name}", made, packed)
        stripped = _stripped(data)
        size = stripped.size if stripped else _size(data)
        yield header(f"{ROOT}/{name}", size=size, mode=_mode(files[name]))
        yield from _content(data, stripped)
        yield padding(size)
        packed.files += 1
        packed.kib += -(-size // 4096) * 4
    yield END


def _folders(name: str, made: set[str], packed: Packed) -> Iterator[bytes]:
    parts = name.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        folder = "/".join(parts[:end])
        if folder not in made:
            made.add(folder)
            packed.files += 1
            packed.kib += 4
            yield header(folder, size=0, mode=0o755, directory=True)


def _stripped(data: Path | bytes) -> StrippedElf | None:
    if isinstance(data, bytes):
        return None
    with data.open("rb") as file:
        return strip_elf(file)


def _size(data: Path | bytes) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _content(data: Path | bytes, stripped: StrippedElf | None) -> Iterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    head, end, tail = (stripped.head, stripped.end, stripped.tail) if stripped else (b"", _size(data), b"")
    yield head
    with data.open("rb") as file:
        at = file.seek(len(head))
        while chunk := file.read(min(_CHUNK, end - at)):
            at += len(chunk)
            yield chunk
    yield tail


def _mode(data: Path | bytes) -> int:
    return 0o755 if isinstance(data, Path) and data.stat().st_mode & stat.S_IXUSR else 0o644


def _settled(name: str, files: Mapping[str, Path | bytes], tag: str) -> Path | bytes | None:
    """The content of a file; ``None`` for bytecode that is of no use.

    Bytecode that a package brings is kept where it is of its source and of this Python, with a header that
    says not to check it (PEP 552).  None is made here: this machine's Python is another one.
    """
    data = files[name]
    folder, _, last = name.rpartition("/")
    if not last.endswith(".pyc") or isinstance(data, bytes):
        return data
    stem, _, rest = last.partition(".")
    source = files.get(f"{folder.removesuffix('/__pycache__')}/{stem}.py")
    if rest != f"{tag}.pyc" or not isinstance(source, Path):
        return None
    code, text = data.read_bytes(), source.read_bytes()
    by_time = code[4:8] == bytes(4)
    if len(code) <= 16 or (by_time and code[12:16] != (len(text) & 0xFFFFFFFF).to_bytes(4, "little")):
        return None
    return code[:4] + (1).to_bytes(4, "little") + hashlib.sha256(text).digest()[:8] + code[16:]
