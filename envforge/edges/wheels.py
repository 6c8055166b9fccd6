"""Wheels as trees: unpacked as they are, and held against the wheel when they are used again.

A wheel lists the hashes of its own files in ``RECORD``; the wheel itself was hashed against the lock.  Where
it is wrong about a file, only unpacking it again can tell whether that file was altered.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.archive import BROKEN_ZIP, check_member, checked_wheel, unreadable
from envforge.edges.extract import normal_mode
from envforge.edges.hashing import file_sha256
from envforge.edges.scratch import is_full, room_remedy
from envforge.errors import CouldNotError

__all__ = [
    "WheelContents",
    "first_altered_wheel_file",
    "read_unpacked_wheel",
    "read_wheel",
    "tree_hashes",
    "unpack_wheel",
]

_VERSION = re.compile(rb"^Wheel-Version:[ \t]*(\d+)\.\d+[ \t\r]*$", re.MULTILINE)
_TEXT_LIMIT = 64 << 20
"""Bytes of a RECORD or entry_points.txt; a wheel of 100,000 files has a RECORD of 10 million."""


@dataclass(frozen=True, kw_only=True)
class WheelContents:
    """What a wheel says of itself.

    ``files`` maps each member to its size in bytes, whether it may be executed, and its CRC-32; ``hashes``
    those that RECORD has a sha256 of to that in hex; ``info`` is its ``*.dist-info`` directory, ``record``
    the rows of RECORD by name, ``entry_points`` the text of that file.
    """

    info: str
    files: Mapping[str, tuple[int, bool, int]]
    hashes: Mapping[str, str]
    record: Mapping[str, tuple[str, str]]
    entry_points: bytes

    @property
    def data(self) -> str:
        """The directory whose files do not go to site-packages."""
        return f"{self.info.removesuffix('.dist-info')}.data"


def read_wheel(path: Path, filename: str) -> WheelContents:
    """Read a wheel's directory, RECORD and entry points; its hash was checked.

    :param path: the wheel, under whatever name it is kept.
    :param filename: its real name.
    :raises InputError: if it is no wheel, or names a path outside itself.
    """
    with checked_wheel(path, filename) as (wheel, members, info):
        files = {m.filename: (m.file_size, bool(m.external_attr >> 16 & 0o111), m.CRC) for m in members}
        for name in ("METADATA", "WHEEL", "RECORD"):
            if f"{info}/{name}" not in files:
                raise unreadable(path, filename, f"it has no {name}")
        version = _VERSION.search(_member(wheel, f"{info}/WHEEL", files, path, filename))
        if version is None or version[1] != b"1":
            raise unreadable(path, filename, "its Wheel-Version is not 1")
        record = _member(wheel, f"{info}/RECORD", files, path, filename)
        points = _member(wheel, f"{info}/entry_points.txt", files, path, filename)
    return _contents(info, files, record, points, path, filename)


def read_unpacked_wheel(tree: Path, filename: str) -> WheelContents:
    """The same of a wheel's tree, which was held against its list just now.

    :raises InputError: if it is none.
    """
    infos = [path.name for path in tree.glob("*.dist-info") if path.is_dir()]
    if len(infos) != 1:
        raise unreadable(tree, filename, f"it has {len(infos)} .dist-info directories instead of one")
    files = {}
    for base, _, names in os.walk(tree):
        for name in names:
            path = Path(base, name)
            mode = path.lstat().st_mode
            inside = path.relative_to(tree).as_posix()
            files[inside] = (path.stat().st_size, bool(mode & stat.S_IXUSR), _crc32(path))
    points = tree / infos[0] / "entry_points.txt"
    content = points.read_bytes() if points.is_file() else b""
    return _contents(infos[0], files, (tree / infos[0] / "RECORD").read_bytes(), content, tree, filename)


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            value = zlib.crc32(chunk, value)
    return value


def _contents(
    info: str,
    files: Mapping[str, tuple[int, bool, int]],
    record: bytes,
    points: bytes,
    path: Path,
    filename: str,
) -> WheelContents:
    rows = _rows(record, path, filename)
    hashes = {name: digest for name, (text, _) in rows.items() if (digest := _hex(text)) and name in files}
    return WheelContents(info=info, files=files, hashes=hashes, record=rows, entry_points=points)


def _member(
    wheel: zipfile.ZipFile, name: str, files: Mapping[str, tuple[int, bool, int]], path: Path, filename: str
) -> bytes:
    if name not in files:
        return b""
    if files[name][0] > _TEXT_LIMIT:
        raise unreadable(path, filename, f"{name} is larger than {_TEXT_LIMIT} bytes")
    try:
        return wheel.read(name)
    except BROKEN_ZIP as error:
        raise unreadable(path, filename, str(error) or type(error).__name__) from error


def _rows(content: bytes, path: Path, filename: str) -> dict[str, tuple[str, str]]:
    try:
        rows = csv.reader(io.StringIO(content.decode("utf-8")))
        return {row[0]: (row[1], row[2]) for row in rows if len(row) >= 3}
    except (UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, filename, "its RECORD cannot be read") from error


def _hex(text: str) -> str | None:
    kind, _, value = text.partition("=")
    if kind != "sha256":
        return None
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except (binascii.Error, ValueError):
        return None


def unpack_wheel(path: Path, filename: str, directory: Path) -> None:
    """Unpack a wheel, whose hash was checked, into ``directory``, which is empty.

    Every file gets its normal mode, every directory 0755, whatever the umask is.

    :raises InputError: if it cannot be read or names a path outside itself.
    :raises CouldNotError: if there is no room.
    """
    made = {""}
    root = str(directory)
    with checked_wheel(path, filename) as (wheel, members, _), _room(filename, path, directory):
        for member in members:
            mode = 0o755 if member.external_attr >> 16 & 0o111 else 0o644
            try:
                _make_folder(root, member.filename.rpartition("/")[0], made)
                _write(wheel, member, f"{root}/{member.filename}", mode)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                why = f"{member.filename} is both a file and a directory"
                raise unreadable(path, filename, why) from error
            except BROKEN_ZIP as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise unreadable(path, filename, str(error) or type(error).__name__) from error


@contextmanager
def _room(filename: str, path: Path, directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise CouldNotError(
            f"there is no room to unpack {filename}",
            at=str(path),
            do=room_remedy(directory),
        ) from error


def _make_folder(root: str, folder: str, made: set[str]) -> None:
    if folder in made:
        return
    _make_folder(root, folder.rpartition("/")[0], made)
    os.mkdir(f"{root}/{folder}")
    os.chmod(f"{root}/{folder}", 0o755)
    made.add(folder)


_WHOLE = 8 << 20  # bytes that are read at once: most files are small


def _write(wheel: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, mode: int) -> None:
    number = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(number, "wb", buffering=0) as file:
        os.fchmod(number, mode)
        if member.file_size <= _WHOLE:
            _write_all(file, wheel.read(member))
            return
        with wheel.open(member) as content:
            while chunk := content.read(1 << 20):
                _write_all(file, chunk)


def _write_all(file: io.RawIOBase | io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) or 0 :]


def first_altered_wheel_file(tree: Path, contents: WheelContents, *, hashing: bool) -> str | None:
    """The first path of an unpacked wheel that is not what the wheel says, by kind, size and permission.

    :param hashing: also the content of files that are linked as they are; else that is left to whoever hashes
        them anyway.
    """
    root = str(tree)
    record = f"{contents.info}/RECORD"  # which is read out of the wheel and not from here
    scripts = f"{contents.data}/scripts/"
    for name, (size, executable, _) in contents.files.items():
        try:
            status = os.lstat(f"{root}/{name}")
        except OSError:
            return name
        same = stat.S_ISREG(status.st_mode) and status.st_size == size
        if not same or normal_mode(status.st_mode) != (0o755 if executable else 0o644):
            return name
        if name == record:
            continue
        digest = contents.hashes.get(name)
        if digest is None:
            return name  # nobody could find out later
        if (hashing or name.startswith(scripts)) and file_sha256(tree / name) != digest:
            return name
    return None


def tree_hashes(tree: Path) -> dict[str, str]:
    """The sha256 that an unpacked wheel's own RECORD has of its files, by path; empty if it has none."""
    hashes: dict[str, str] = {}
    for record in tree.glob("*.dist-info/RECORD"):
        for name, (text, _) in _rows(record.read_bytes(), record, tree.name).items():
            digest = _hex(text)
            if digest is not None:
                hashes[check_member(name, at=str(record))] = digest
    return hashes
