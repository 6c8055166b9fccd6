"""What an environment that is there says of itself: read from its directory, or from an archive of it.

Nothing is run, nothing is unpacked, and no link is followed out of the environment; file names and sizes are
checked before anything is read.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from envforge.edges.archive import BROKEN_ZIP, ENTRY_LIMIT
from envforge.errors import CouldNotError, InputError

__all__ = [
    "InstalledTexts",
    "environment_kind",
    "is_archive",
    "read_installed",
    "record_paths",
    "site_packages",
]

_RECORD_LIMIT = 64 << 20
"""Bytes of one record; those of packages with 100,000 files have some 30 MB."""
_TEXT_LIMIT = 8 << 20
_TOTAL_LIMIT = 1 << 30
_DISTRIBUTION = (
    r"(?:lib(?:64)?/python\d+\.\d+t?|Lib)/site-packages/(?P<folder>[^/]+\.dist-info)/(?P<file>[A-Za-z_.]+)"
)
_WANTED = re.compile(
    rf"conda-meta/(?P<record>[^/]+\.json)|(?P<history>conda-meta/history)|(?P<venv>pyvenv\.cfg)|{_DISTRIBUTION}"
)
_FILES = frozenset(("METADATA", "WHEEL", "INSTALLER", "direct_url.json"))
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"hsqs": "SquashFS",
    b"\xfd7zXZ": "xz",
}


@dataclass(frozen=True, kw_only=True)
class InstalledTexts:
    """The texts of an environment: conda's records, its history, the metadata of distributions by folder.

    ``folders`` are the ``*.dist-info`` directories as they are called in conda's lists of files.
    """

    records: dict[str, str] = field(default_factory=dict)
    history: str | None = None
    venv: str | None = None
    distributions: dict[str, dict[str, str]] = field(default_factory=dict)


def environment_kind(path: Path) -> str | None:
    """``conda`` or ``venv`` if an environment of that kind lies at ``path``, else ``None``."""
    if (path / "conda-meta").is_dir():
        return "conda"
    return "venv" if (path / "pyvenv.cfg").is_file() else None


def record_paths(path: Path) -> list[Path]:
    """Where conda's records of the environment at ``path`` lie, one a package."""
    return sorted((path / "conda-meta").glob("*.json"))


def site_packages(path: Path) -> list[Path]:
    """The directories of the environment at ``path`` in which distributions lie, each by its own name.

    ``lib64`` is a link to ``lib`` in most virtual environments, and a conda environment has a ``python3.1``
    that is one to ``python3.11``.
    """
    found: dict[Path, Path] = {}
    for pattern in ("lib/python*/site-packages", "lib64/python*/site-packages", "Lib/site-packages"):
        for folder in sorted(path.glob(pattern)):
            if folder.is_dir() and not folder.parent.is_symlink():
                found.setdefault(folder.resolve(), folder)
    return list(found.values())


def is_archive(path: Path) -> str | None:
    """What kind of archive a file is, by its first bytes; ``None`` for a text."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    return "tar" if kind is None and head[257:262] == b"ustar" else kind


def read_installed(path: Path) -> InstalledTexts:
    """The texts of the environment in the directory, or in the tar or zip archive, at ``path``.

    :raises InputError: if it is no environment, or an archive that cannot be read.
    :raises CouldNotError: if it may not be read.
    """
    try:
        if path.is_dir():
            return _collected(_from_directory(path), path)
        kind = is_archive(path)
        if kind in ("zstd", "SquashFS"):
            raise InputError(
                f"an archive of kind {kind} cannot be looked into",
                at=str(path),
                do="unpack it, and name the directory; or pack it anew: conda-pack --format tar.gz",
            )
        return _collected(_from_zip(path) if kind == "zip" else _from_tar(path), path)
    except FileNotFoundError as error:
        raise InputError(
            "no such file or directory", at=str(path), do="name an environment, or what conda-pack made"
        ) from error
    except PermissionError as error:
        raise CouldNotError(
            "you may not read this", at=str(error.filename or path), do="ls -ld it, and ask its owner"
        ) from error


def _collected(found: Iterable[tuple[re.Match[str], bytes]], path: Path) -> InstalledTexts:
    records: dict[str, str] = {}
    distributions: dict[str, dict[str, str]] = {}
    history = venv = None
    total = 0
    for match, content in found:
        total += len(content)
        if total > _TOTAL_LIMIT:
            raise InputError(
                f"more than {_TOTAL_LIMIT} bytes of records", at=str(path), do="name another one"
            )
        text = content.decode("utf-8", "replace")
        if match["record"]:
            records[match["record"]] = text
        elif match["history"]:
            history = text
        elif match["venv"]:
            venv = text
        else:
            folder = match[0].rpartition("/")[0]
            distributions.setdefault(folder, {})[match["file"]] = text
    if not records and venv is None:
        raise InputError(
            "neither a conda environment nor a virtual environment: it has no conda-meta and no pyvenv.cfg",
            at=str(path),
            do="name the directory in which bin/ lies",
        )
    return InstalledTexts(records=records, history=history, venv=venv, distributions=distributions)


def _wanted(name: str) -> re.Match[str] | None:
    match = _WANTED.fullmatch(name.removeprefix("./"))
    return match if match is None or match["file"] is None or match["file"] in _FILES else None


def _limit(match: re.Match[str]) -> int:
    return _RECORD_LIMIT if match["record"] else _TEXT_LIMIT


def _from_directory(path: Path) -> Iterator[tuple[re.Match[str], bytes]]:
    places = [path / "pyvenv.cfg", *record_paths(path), path / "conda-meta/history"]
    for packages in site_packages(path):
        for folder in sorted(packages.glob("*.dist-info")):
            places += [folder / name for name in sorted(_FILES)]
    for place in places:
        match = _wanted(place.relative_to(path).as_posix())
        if match is None or not place.is_file():
            continue
        if place.stat().st_size > _limit(match):
            raise InputError("too large for what it should be", at=str(place), do="name another environment")
        yield match, place.read_bytes()


def _from_tar(path: Path) -> Iterator[tuple[re.Match[str], bytes]]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for count, member in enumerate(archive):
                if count > ENTRY_LIMIT:
                    raise InputError(
                        "more members than an environment has", at=str(path), do="name another file"
                    )
                match = _wanted(member.name)
                if match is None or not member.isreg():
                    continue
                if member.size > _limit(match):
                    raise InputError(f"{match[0]} is too large", at=str(path), do="name another file")
                content = archive.extractfile(member)
                if content is not None:
                    yield match, content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        if isinstance(error, (PermissionError, FileNotFoundError)):
            raise
        raise _unreadable(path, error) from error


def _from_zip(path: Path) -> Iterator[tuple[re.Match[str], bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                match = _wanted(info.filename)
                if match is None:
                    continue
                with archive.open(info) as member:
                    content = member.read(_limit(match) + 1)
                if len(content) > _limit(match):
                    raise InputError(f"{match[0]} is too large", at=str(path), do="name another file")
                yield match, content
    except BROKEN_ZIP as error:
        if isinstance(error, (PermissionError, FileNotFoundError)):
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = ""
    with suppress(Exception):
        reason = " ".join(str(error).split())[:80]
    return InputError(
        "the archive cannot be read" + (f": {reason}" if reason.isprintable() and reason else ""),
        at=str(path),
        do="carry or make it again: conda-pack --prefix PREFIX -o FILE.tar.gz",
    )
