"""Reading packages from outside: conda archives and wheels, hostile until checked.

Nothing here extracts.  What is read is read into memory under size limits, every member name is checked,
and every failure is an :class:`~envforge.errors.InputError` that names the file.  The standard library
and py-rattler do it, so that a node can, too.
"""

from __future__ import annotations

import json
import lzma
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envforge.edges.scratch import owner_mark
from envforge.errors import CouldNotError, InputError
from envforge.model.lockfile import canonical_name

if TYPE_CHECKING:
    from rattler.package_streaming import ArchiveEntry

__all__ = [
    "BROKEN_ZIP",
    "check_member",
    "checked_wheel",
    "conda_files",
    "conda_index",
    "conda_info_files",
    "conda_links",
    "unreadable",
    "wheel_members",
    "wheel_metadata",
]

FILE_LIMIT = 128 << 20
"""Bytes of one file that is read; the largest ``info/paths.json`` seen is a tenth of that."""
INFO_LIMIT = 512 << 20
"""Bytes of all files of one ``info`` section together."""
METADATA_LIMIT = 8 << 20
"""Bytes of a wheel's METADATA."""
ENTRY_LIMIT = 1_000_000
"""Members of one archive."""
WHEEL_LIMIT = 64 << 30
"""Bytes that a wheel may unpack to."""

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,  # UnicodeDecodeError, a member that lies about its place
    KeyError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # an encrypted member
)
"""What :mod:`zipfile` raises at an archive that is none."""


def check_member(name: str, *, at: str | None = None) -> str:
    """Return a member's name if it stays inside the directory that the archive is unpacked in.

    A backslash is a letter like any other, as in ``system-systemd\\x2dcryptsetup.slice``.

    :raises InputError: for an absolute name, ``..``, ``.``, an empty part, a drive letter or a NUL.
    """
    parts = name.split("/")
    drive = len(parts[0]) == 2 and parts[0].endswith(":")
    if drive or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InputError(
            f"the archive names {name!r}, which does not stay inside it",
            at=at,
            do="do not use this file; ask whoever published it",
        )
    return name


def conda_files(
    path: Path, filename: str, names: Sequence[str], *, scratch: Path | None = None
) -> dict[str, bytes]:
    """The named files of a conda package; one that it does not have is left out.

    :param path: the archive, under whatever name it is kept.
    :param filename: its real name, which says what kind of archive it is.
    :param names: members, such as ``info/index.json``.
    :param scratch: where a symlink may be put for a moment if ``path`` is not named as ``filename`` is.
    :raises InputError: if the archive cannot be read or a file in it is too large.
    """
    wanted = set(names)
    info = {name for name in wanted if name.startswith("info/")}
    found: dict[str, bytes] = {}
    for section, part in (("info", info), ("pkg", wanted - info)):
        if part:
            found |= _read(path, filename, section, part, scratch)
    return {name: found[name] for name in names if name in found}


def conda_info_files(
    path: Path, filename: str, matching: re.Pattern[str] | None = None, *, scratch: Path | None = None
) -> dict[str, bytes]:
    """Every regular file of a conda package's ``info`` section, or those whose whole names match.

    :param path: the archive, under whatever name it is kept.
    :param filename: its real name, which says what kind of archive it is.
    :param scratch: where a symlink may be put for a moment if ``path`` is not named as ``filename`` is.
    :raises InputError: if the archive cannot be read, names a path outside itself or is too large.
    """
    return _read(path, filename, "info", None, scratch, matching)


def conda_links(path: Path, filename: str, *, scratch: Path | None = None) -> dict[str, str]:
    """The text of every symbolic link that a conda package brings, by path.

    :param path: the archive, under whatever name it is kept; the parameters are those of :func:`conda_files`.
    :raises InputError: if the archive cannot be read.
    """

    async def collect(archive: Path) -> dict[str, str]:
        return {
            entry.name.removeprefix("./"): entry.link_target or ""
            async for entry in _entries(archive, "pkg", filename)
            if entry.is_symlink
        }

    links: dict[str, str] = _run(path, filename, scratch, collect)
    return links


def conda_index(path: Path, filename: str, *, scratch: Path | None = None) -> dict[str, Any]:
    """A conda package's ``info/index.json``; the parameters are those of :func:`conda_files`.

    :raises InputError: if there is none, or it is no JSON mapping.
    """
    text = conda_files(path, filename, ["info/index.json"], scratch=scratch).get("info/index.json")
    if text is None:
        raise unreadable(path, filename, "it has no info/index.json")
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, filename, f"info/index.json: {error}") from error
    if not isinstance(index, dict):
        raise unreadable(path, filename, "info/index.json is no mapping")
    return index


def wheel_members(path: Path, filename: str | None = None) -> tuple[str, ...]:
    """The names of a wheel's files, without directories, in the archive's order.

    :param filename: the wheel's real name, where ``path`` has another one.
    :raises InputError: if it is no zip archive, names a path outside itself or would unpack to too much.
    """
    filename = filename or path.name
    with _opened(path, filename) as wheel:
        return tuple(info.filename for info in _checked(wheel, filename) if not info.is_dir())


def wheel_metadata(path: Path, filename: str | None = None) -> bytes:
    """The METADATA of a wheel, from the one top-level ``*.dist-info`` that bears its project's name.

    :param filename: the wheel's real name, where ``path`` has another one.
    :raises InputError: if there is none or more than one, or the archive is not to be trusted.
    """
    filename = filename or path.name
    with _opened(path, filename) as wheel:
        members = _checked(wheel, filename)
        folder = _metadata_folder(members, path, filename)
        return _read_member(wheel, f"{folder}/METADATA", path, filename)


@contextmanager
def checked_wheel(path: Path, filename: str) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo], str]]:
    """A wheel that is open, its files (no directories), and the name of its ``*.dist-info``.

    :raises InputError: as :func:`wheel_metadata` does.
    """
    with _opened(path, filename) as wheel:
        members = [info for info in _checked(wheel, filename) if not info.is_dir()]
        yield wheel, members, _metadata_folder(members, path, filename)


def _metadata_folder(members: Sequence[zipfile.ZipInfo], path: Path, filename: str) -> str:
    heads = {info.filename.split("/")[0] for info in members if "/" in info.filename}
    found = sorted(head for head in heads if head.endswith(".dist-info"))
    if len(found) != 1:
        raise unreadable(path, filename, f"it has {len(found)} .dist-info directories instead of one")
    project = canonical_name(filename.split("-")[0])
    if canonical_name(found[0].split("-")[0]) != project:
        raise unreadable(path, filename, f"its metadata is that of another project: {found[0]}")
    return found[0]


def unreadable(path: Path, filename: str, why: str) -> InputError:
    """The error for a package that cannot be used, to be raised by the caller."""
    return InputError(
        f"{filename} cannot be used: {why}",
        at=str(path),
        do="take another build or version of it: it is broken where it was published",
    )


# -- conda -------------------------------------------------------------------------------------------


def _read(
    path: Path,
    filename: str,
    section: str,
    wanted: set[str] | None,
    scratch: Path | None,
    matching: re.Pattern[str] | None = None,
) -> dict[str, bytes]:
    found: dict[str, bytes] = _run(
        path, filename, scratch, lambda archive: _collect(archive, section, wanted, filename, matching)
    )
    return found


def _run(
    path: Path,
    filename: str,
    scratch: Path | None,
    collect: Callable[[Path], Coroutine[Any, Any, Any]],
) -> Any:
    import asyncio  # only who reads conda packages pays for it

    from rattler.exceptions import ExtractError, IoError

    if not filename.endswith((".conda", ".tar.bz2")):
        raise unreadable(path, filename, "the name is not that of a conda package")
    if not path.is_file():
        raise CouldNotError(f"{filename} is missing", at=str(path), do="fetch or carry it again")
    broken = (OSError, ValueError, ExtractError, IoError)
    try:
        with _named(path, filename, scratch) as archive:
            return asyncio.run(collect(archive))
    except broken as error:
        why = str(error).splitlines()[0] if str(error) else "no archive"
    try:
        with _repacked(path, filename, scratch) as archive:
            return asyncio.run(collect(archive))
    except (*broken, *BROKEN_ZIP) as error:
        raise unreadable(path, filename, why) from error


@contextmanager
def _repacked(path: Path, filename: str, scratch: Path | None) -> Iterator[Path]:
    """A ``.conda`` written anew as the plainest of zip archives.

    py-rattler reads no compressed outer archive, and no zip64 fields where they are not needed; conda
    takes both, and packages of both kinds are published.
    """
    with tempfile.TemporaryDirectory(prefix=f".work-{owner_mark()}-", dir=scratch) as directory:
        plain = Path(directory, "package.conda")
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as new:
            for info in _checked(old, filename):
                if info.filename.endswith((".tar.zst", ".json")) and "/" not in info.filename:
                    with old.open(info) as source, new.open(zipfile.ZipInfo(info.filename), "w") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        yield plain


@contextmanager
def _named(path: Path, filename: str, scratch: Path | None) -> Iterator[Path]:
    """``path`` under a name with the suffix that py-rattler goes by."""
    suffix = ".conda" if filename.endswith(".conda") else ".tar.bz2"
    if path.name.endswith(suffix):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix=f".work-{owner_mark()}-", dir=scratch) as directory:
        link = Path(directory, f"package{suffix}")
        link.symlink_to(path.resolve())
        yield link


async def _entries(archive: Path, section: str, filename: str) -> AsyncIterator[ArchiveEntry]:
    """The members of one section, as long as there are no more than an honest package has."""
    from rattler.package_streaming import PackageArchive

    opened = await PackageArchive.from_path(archive)
    count = 0
    async for entry in opened.stream("info" if section == "info" else "pkg"):
        count += 1
        if count > ENTRY_LIMIT:
            raise InputError(f"{filename} has more than {ENTRY_LIMIT} members", at=str(archive))
        yield entry


async def _collect(
    archive: Path,
    section: str,
    wanted: set[str] | None,
    filename: str,
    matching: re.Pattern[str] | None = None,
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    total = 0
    async for entry in _entries(archive, section, filename):
        name = entry.name
        if wanted is None:
            check_member(name.rstrip("/"), at=filename)
        elif name not in wanted:
            continue
        if matching is not None and not matching.fullmatch(name):
            continue
        if not entry.is_file:
            if wanted is not None:
                raise InputError(f"{name} is a link or a directory, not a file", at=filename)
            continue
        total += _fits(entry, total, filename)
        found[name] = await entry.read()
        if wanted is not None and len(found) == len(wanted):
            break
    return found


def _fits(entry: ArchiveEntry, total: int, filename: str) -> int:
    if entry.size > FILE_LIMIT or total + entry.size > INFO_LIMIT:
        raise InputError(
            f"{entry.name} in {filename} is too large: {entry.size} bytes",
            at=filename,
            do="do not use this package; ask its channel",
        )
    return entry.size


# -- wheels ------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, filename: str) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise CouldNotError(f"{filename} is missing", at=str(path), do="fetch or carry it again")
    wheel = _guarded(lambda: zipfile.ZipFile(path), path, filename)
    with wheel:
        yield wheel


def _guarded(read: Callable[[], Any], path: Path, filename: str) -> Any:
    try:
        return read()
    except BROKEN_ZIP as error:
        raise unreadable(path, filename, str(error) or type(error).__name__) from error


def _checked(wheel: zipfile.ZipFile, filename: str) -> list[zipfile.ZipInfo]:
    """The members, once none escapes and all together have a size that a wheel can have."""
    members = wheel.infolist()
    names: set[str] = set()
    for info in members:
        check_member(info.filename.removesuffix("/"), at=filename)
        if info.filename in names:
            raise InputError(f"{filename} holds {info.filename!r} twice", at=filename)
        names.add(info.filename)
    packed = sum(info.compress_size for info in members)
    unpacked = sum(info.file_size for info in members)
    # Members that share their bytes are how a small zip becomes a bomb.
    if len(members) > ENTRY_LIMIT or unpacked > WHEEL_LIMIT or packed > _size(wheel):
        raise InputError(
            f"{filename} is no honest archive: {len(members)} members, {unpacked} bytes unpacked",
            at=filename,
            do="do not use this wheel; ask whoever published it",
        )
    return members


def _size(wheel: zipfile.ZipFile) -> int:
    return Path(str(wheel.filename)).stat().st_size


def _read_member(wheel: zipfile.ZipFile, name: str, path: Path, filename: str) -> bytes:
    def read() -> bytes:
        with wheel.open(name) as member:
            return member.read(METADATA_LIMIT + 1)

    content: bytes = _guarded(read, path, filename)
    if len(content) > METADATA_LIMIT:
        raise InputError(
            f"the METADATA of {filename} is larger than {METADATA_LIMIT} bytes",
            at=str(path),
            do="do not use this wheel; ask whoever published it",
        )
    return content
