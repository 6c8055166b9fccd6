"""Conda packages, written from data: the same package is the same bytes on any machine and day.

One writer serves ``.conda`` and ``.tar.bz2``.  Nothing is compressed in a ``.conda``: zstd frames of raw
blocks are valid, need no library, and cannot differ between two versions of one.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import posixpath
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Union

from envforge.errors import CouldNotError, InputError

__all__ = [
    "PLACEHOLDER",
    "TIMESTAMP",
    "Archive",
    "File",
    "Json",
    "Package",
    "Symlink",
    "dist_info",
    "json_bytes",
    "noarch_python",
    "package_bytes",
    "read_tree",
    "write_file",
    "zstd_stored",
]

Archive = Literal[".conda", ".tar.bz2"]
Json = Union[None, bool, int, str, "list[Json]", "dict[str, Json]"]

TIMESTAMP = 1_700_000_000
"""Seconds since 1970 of every package, so that none depends on the day it was made."""

PLACEHOLDER = "/opt/envforge-demo".ljust(255, "_")
"""The prefix that files name until they are installed: 255 characters, as long as conda-build makes it,
so that the real prefix fits in its place in a binary."""

_BLOCK = 1 << 17


@dataclass(frozen=True, kw_only=True)
class File:
    """A regular file of a package: its bytes, and whether it may be executed."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True, kw_only=True)
class Symlink:
    """A symbolic link of a package: the text of the link."""

    target: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """A conda package before it is written.

    Files are given by path; paths are written as they are, also bad ones, which tests of hostile packages
    need.  A file that holds ``placeholder`` is recorded for prefix replacement, as text or, with a NUL in
    it, as binary.  ``index`` has further keys of ``index.json``, ``info`` further files below ``info/``.
    """

    name: str
    version: str
    subdir: str
    build: str = "0"
    build_number: int = 0
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    noarch: Literal["python", "generic"] | None = None
    license: str = "BSD-3-Clause"
    summary: str = "made on the spot, for a demonstration"
    timestamp: int = TIMESTAMP
    files: Mapping[str, File | Symlink] = field(default_factory=dict)
    entry_points: tuple[str, ...] = ()
    placeholder: str = PLACEHOLDER
    no_link: tuple[str, ...] = ()
    index: Mapping[str, Json] = field(default_factory=dict)
    info: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no reader would take.

        :raises InputError: if ``noarch`` and ``subdir`` disagree, or entry points are not ``noarch: python``.
        """
        if (self.noarch is not None) != (self.subdir == "noarch"):
            raise InputError(f"package {self.name}: noarch={self.noarch} in subdir {self.subdir}")
        if self.entry_points and self.noarch != "python":
            raise InputError(f"package {self.name}: only a noarch python package has entry points")

    @property
    def stem(self) -> str:
        """The file name without its extension: ``NAME-VERSION-BUILD``."""
        return f"{self.name}-{self.version}-{self.build}"

    def index_json(self) -> dict[str, Json]:
        """What ``info/index.json`` says, which is the repodata record but for hashes and size."""
        arch: dict[str, Json] = {}
        if self.noarch is None:
            system, _, machine = self.subdir.partition("-")
            arch = {"arch": {"64": "x86_64"}.get(machine, machine), "platform": system}
        noarch: dict[str, Json] = {"noarch": self.noarch} if self.noarch else {}
        return {
            **arch,
            **noarch,
            "build": self.build,
            "build_number": self.build_number,
            "constrains": list(self.constrains),
            "depends": list(self.depends),
            "license": self.license,
            "name": self.name,
            "subdir": self.subdir,
            "timestamp": self.timestamp * 1000,
            "version": self.version,
            **self.index,
        }


def json_bytes(value: Json) -> bytes:
    """``value`` as JSON text: keys sorted, two spaces of indent, a newline at the end."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_tree(directory: Path) -> dict[str, File | Symlink]:
    """The files and symbolic links below ``directory``, by their path relative to it, sorted.

    :raises CouldNotError: if something there cannot be read.
    """
    tree: dict[str, File | Symlink] = {}
    try:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_symlink():
                tree[name] = Symlink(target=os.readlink(path))  # noqa: PTH115  (Path would normalize it)
            elif path.is_file():
                tree[name] = File(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    except OSError as error:
        raise CouldNotError(f"cannot read a staged file: {error.strerror}", at=str(error.filename)) from error
    return tree


def dist_info(
    name: str, version: str, files: Mapping[str, bytes], *, requires: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """The ``*.dist-info`` files that conda-build leaves for a Python distribution.

    :param files: the distribution's own files by their path in ``site-packages``, for ``RECORD``.
    :param requires: its ``Requires-Dist`` lines.
    :returns: files by path in ``site-packages``.
    """
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    found = {
        f"{folder}/INSTALLER": b"conda\n",
        f"{folder}/METADATA": ("\n".join(lines) + "\n").encode(),
        f"{folder}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*sorted({*files, *found}), f"{folder}/RECORD"])
    return {**found, f"{folder}/RECORD": record.encode()}


def noarch_python(
    name: str,
    version: str,
    modules: Mapping[str, bytes],
    *,
    depends: tuple[str, ...] = ("python",),
    requires: tuple[str, ...] = (),
    entry_points: tuple[str, ...] = (),
) -> Package:
    """A ``noarch: python`` package that also is a Python distribution of the same name and version.

    :param modules: its files by path in ``site-packages``.
    :param depends: conda dependencies.
    :param requires: what the distribution's own metadata requires.
    :param entry_points: ``COMMAND = MODULE:FUNCTION`` lines.
    """
    files = {**modules, **dist_info(name, version, modules, requires=requires)}
    return Package(
        name=name,
        version=version,
        subdir="noarch",
        build="pyh0_0",
        noarch="python",
        depends=depends,
        entry_points=entry_points,
        files={f"site-packages/{path}": File(data=data) for path, data in files.items()},
    )


def _paths_entry(package: Package, path: str) -> dict[str, Json]:
    """The entry of ``paths.json`` for one file of ``package``."""
    item = package.files[path]
    entry: dict[str, Json] = {"_path": path}
    if path in package.no_link:
        entry["no_link"] = True
    if isinstance(item, Symlink):
        # A link's hash is that of what it leads to, as far as that lies in the same package.
        entry["path_type"] = "softlink"
        end: File | Symlink | None = item
        for _ in range(8):
            if not isinstance(end, Symlink):
                break
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), end.target))
            end = package.files.get(path)
        if not isinstance(end, File):
            return entry
        item = end
    else:
        entry["path_type"] = "hardlink"
        if package.placeholder.encode() in item.data:
            entry["file_mode"] = "binary" if b"\0" in item.data else "text"
            entry["prefix_placeholder"] = package.placeholder
    entry["sha256"] = hashlib.sha256(item.data).hexdigest()
    entry["size_in_bytes"] = len(item.data)
    return entry


def _info_files(package: Package) -> dict[str, File | Symlink]:
    """Everything below ``info/``."""
    names = sorted(package.files)
    info: dict[str, bytes] = {
        "about.json": json_bytes({"license": package.license, "summary": package.summary}),
        "files": "".join(f"{name}\n" for name in names).encode(),
        "index.json": json_bytes(package.index_json()),
        "paths.json": json_bytes(
            {"paths": [_paths_entry(package, name) for name in names], "paths_version": 1}
        ),
    }
    if package.noarch == "python":
        noarch: dict[str, Json] = {"entry_points": list(package.entry_points), "type": "python"}
        info["link.json"] = json_bytes({"noarch": noarch, "package_metadata_version": 1})
    return {f"info/{name}": File(data=data) for name, data in sorted({**info, **package.info}.items())}


def _tar(items: Iterable[tuple[str, File | Symlink]], timestamp: int) -> bytes:
    """An uncompressed tar of ``items`` in the order given, with the same owners and times everywhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, item in items:
            member = tarfile.TarInfo(name)
            member.mtime = timestamp
            if isinstance(item, Symlink):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, item.target, 0o777
                archive.addfile(member)
            else:
                member.size, member.mode = len(item.data), 0o755 if item.executable else 0o644
                archive.addfile(member, io.BytesIO(item.data))
    return buffer.getvalue()


def zstd_stored(data: bytes) -> bytes:
    """``data`` as one zstd frame of raw blocks (RFC 8878): bigger by three bytes for every 128 KiB."""
    # The frame's header: content size in 8 bytes, no checksum, no dictionary, a window of 128 KiB.
    parts = [b"\x28\xb5\x2f\xfd", b"\xc0", bytes([7 << 3]), struct.pack("<Q", len(data))]
    for start in range(0, max(len(data), 1), _BLOCK):
        block = memoryview(data)[start : start + _BLOCK]
        last = start + _BLOCK >= len(data)
        # A block's header, 24 bits: whether it is the last one, type 0 (raw), its size.
        parts += [struct.pack("<I", len(block) << 3 | last)[:3], bytes(block)]
    return b"".join(parts)


def _conda(package: Package, payload: bytes, info: bytes) -> bytes:
    """The outer zip of the ``.conda`` format, version 2."""
    year_zero = (1980, 1, 1, 0, 0, 0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (
            ("metadata.json", json_bytes({"conda_pkg_format_version": 2})),
            (f"pkg-{package.stem}.tar.zst", zstd_stored(payload)),
            (f"info-{package.stem}.tar.zst", zstd_stored(info)),
        ):
            member = zipfile.ZipInfo(name, year_zero)
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, data)
    return buffer.getvalue()


def package_bytes(package: Package, archive: Archive = ".conda") -> bytes:
    """The package file, whole.

    :param archive: ``".conda"``, or ``".tar.bz2"`` for the legacy format.
    :returns: the same bytes for the same arguments, on any machine.
    """
    info = _info_files(package)
    if archive == ".tar.bz2":
        return bz2.compress(_tar([*info.items(), *sorted(package.files.items())], package.timestamp), 1)
    payload = _tar(sorted(package.files.items()), package.timestamp)
    return _conda(package, payload, _tar(info.items(), package.timestamp))


def write_file(path: Path, data: bytes) -> None:
    """Write a file of a channel or an index, and its directory.

    :raises CouldNotError: if that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise CouldNotError(f"cannot write: {error.strerror}", at=str(path)) from error
