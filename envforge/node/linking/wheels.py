"""Wheels of the store in a linked tree: their files, their commands, and records of the installation.

Files are linked as conda packages' are.  What depends on where the environment will be is written: commands,
and scripts that begin with ``#!python``; and what depends on the installation: ``RECORD`` and ``INSTALLER``
(PEP 376 and 627, binary distribution format).  Nothing is run, and no interpreter is asked.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from envforge.edges.linking import Linker
from envforge.edges.store import StoredTree
from envforge.edges.wheels import read_unpacked_wheel, read_wheel
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage
from envforge.node.linking.placing import EntryPoint, PlacedWheel, Winners, place_wheel

__all__ = ["link_wheels", "place_wheels", "shebang", "wheel_hashes", "wheel_owners"]

INSTALLER = "envforge"
_KERNEL_LIMIT = 127  # bytes of a `#!` line that every Linux kernel reads
_OURS = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
"""Files of a ``*.dist-info`` that say how it was installed, and are not the wheel's to bring."""


def place_wheels(
    rows: Sequence[LockedPackage],
    unpack: Callable[[LockedPackage], StoredTree],
    site_packages: str,
    *,
    jobs: int,
) -> list[PlacedWheel]:
    """Have every wheel unpacked and find out where its files go, in the order of ``rows``.

    :param unpack: has the wheel's hash checked, and its tree in the store.
    :param site_packages: relative to the prefix.
    :raises CouldNotError: if one is not the file that was locked.
    :raises InputError: if one is no wheel, or names a path outside the prefix.
    """

    def place(row: LockedPackage) -> PlacedWheel:
        tree = unpack(row)
        if tree.artifact is None:
            contents = read_unpacked_wheel(tree.path, row.filename)
        else:
            contents = read_wheel(tree.artifact, row.filename)
        return place_wheel(row, tree, contents, site_packages)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(place, rows))


def link_wheels(wheels: Sequence[PlacedWheel], chosen: Winners, target: Target) -> None:
    """Put the wheels' files into the tree, and write what an installer writes.

    :raises InputError: if a conda package has something else where a wheel has a file or directory.
    :raises OSError: if the disk refuses.
    """
    for place, wheel in chosen.wheels.items():
        try:
            target.folder(place.rpartition("/")[0])
            _put(place, wheel, target)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise InputError(
                f"{wheel.row.filename} brings {place}, where a conda package has something else",
                at=place,
                do=f"take {wheel.row.name} either from conda or from PyPI, and lock again",
            ) from error
    for wheel in wheels:
        _write_records(wheel, target)


class Target:
    """The tree that wheels are put into.

    :param tree: where it lies now.
    :param final: the path that it is made for.
    :param site_packages: relative to both.
    """

    def __init__(self, tree: Path, final: Path, site_packages: str, linker: Linker) -> None:
        self.tree = str(tree)
        self.final = final
        self.site_packages = site_packages
        self.linker = linker
        self._folders = {""}

    def folder(self, name: str) -> None:
        """Make a directory and those above it, where they are not there yet."""
        if name in self._folders:
            return
        self.folder(name.rpartition("/")[0])
        try:
            os.mkdir(f"{self.tree}/{name}")
        except FileExistsError:
            if not os.path.isdir(f"{self.tree}/{name}"):
                raise
        self._folders.add(name)

    def write(self, name: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file that is not there yet."""
        number = os.open(f"{self.tree}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(number, "wb") as file:
            os.fchmod(number, mode)
            file.write(content)


def _put(place: str, wheel: PlacedWheel, target: Target) -> None:
    if place in wheel.commands:
        target.write(place, _command(wheel.commands[place], target.final), mode=0o755)
        return
    name = wheel.members[place]
    if _is_ours(name, wheel):
        return
    source = f"{wheel.tree.path}/{name}"
    if name.startswith(f"{wheel.contents.data}/scripts/"):
        target.write(place, _script(Path(source).read_bytes(), target.final), mode=0o755)
    else:
        target.linker.place(source, f"{target.tree}/{place}")


def _is_ours(name: str, wheel: PlacedWheel) -> bool:
    folder, _, last = name.rpartition("/")
    return folder == wheel.contents.info and last in _OURS


def _command(point: EntryPoint, final: Path) -> bytes:
    """A script that calls a function, for the environment's Python."""
    body = (
        "import sys\n\n"
        f"from {point.module} import {point.attribute.split('.')[0]}\n\n"
        'if __name__ == "__main__":\n'
        f"    sys.exit({point.attribute}())\n"
    )
    return shebang(str(final / "bin" / "python")) + body.encode()


def _script(content: bytes, final: Path) -> bytes:
    """A wheel's own script: one that begins with ``#!python`` is for the environment's Python."""
    line, newline, rest = content.partition(b"\n")
    if not line.startswith(b"#!python"):
        return content
    _, _, flags = line.decode("utf-8", "replace").rstrip("\r").partition(" ")
    return shebang(str(final / "bin" / "python"), flags.strip()) + (rest if newline else b"")


def shebang(interpreter: str, flags: str = "") -> bytes:
    """The first line, or lines, of a Python script for ``interpreter``.

    A path with blanks, or one longer than a kernel reads, goes through ``/bin/sh`` in a header that is
    both valid shell and a Python string (the form that pip, distlib and conda use).
    """
    after = f" {flags}" if flags else ""
    line = f"#!{interpreter}{after}\n".encode()
    if len(line) <= _KERNEL_LIMIT and " " not in interpreter:
        return line
    return f"#!/bin/sh\n'''exec' \"{interpreter}\"{after} \"$0\" \"$@\"\n' '''\n".encode()


def _write_records(wheel: PlacedWheel, target: Target) -> None:
    info = f"{target.site_packages}/{wheel.contents.info}"
    rows = [[f"{wheel.contents.info}/RECORD", "", ""]]
    rows.append([f"{wheel.contents.info}/INSTALLER", *_hash_and_size(f"{INSTALLER}\n".encode())])
    for place, _ in wheel.places():
        name = wheel.members.get(place)
        if name is not None and _is_ours(name, wheel):
            continue
        relative = _relative(place, target.site_packages)
        if name is None or name.startswith(f"{wheel.contents.data}/scripts/"):
            rows.append([relative, *_hash_and_size(Path(f"{target.tree}/{place}").read_bytes())])
        else:
            known = wheel.contents.record.get(name)
            content = () if known and known[0] else Path(f"{wheel.tree.path}/{name}").read_bytes()
            rows.append([relative, *(known if known and known[0] else _hash_and_size(bytes(content)))])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(sorted(rows))
    target.write(f"{info}/RECORD", out.getvalue().encode())
    target.write(f"{info}/INSTALLER", f"{INSTALLER}\n".encode())


def _relative(place: str, site_packages: str) -> str:
    """How RECORD names a path of the prefix: relative to site-packages."""
    if place.startswith(f"{site_packages}/"):
        return place[len(site_packages) + 1 :]
    return "../" * (site_packages.count("/") + 1) + place


def _hash_and_size(content: bytes) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(content))


def wheel_owners(wheels: Sequence[PlacedWheel], site_packages: str) -> dict[str, tuple[str, str]]:
    """Who brought each path and how: ``path -> (owner, how)``; where several did, the last in order."""
    owners: dict[str, tuple[str, str]] = {}
    for wheel in wheels:
        for place in (place for place, _ in wheel.places()):
            name = wheel.members.get(place)
            if name is not None and _is_ours(name, wheel):
                continue
            written = name is None or name.startswith(f"{wheel.contents.data}/scripts/")
            owners[place] = (wheel.owner, "script" if written else "packaged")
        for name in ("RECORD", "INSTALLER"):
            owners[f"{site_packages}/{wheel.contents.info}/{name}"] = (wheel.owner, "metadata")
    return owners


def wheel_hashes(chosen: Winners) -> dict[str, str]:
    """The sha256 that each linked file of a wheel has in its RECORD.

    A wheel that was unpacked just now, from what was hashed, is left out; a file without one was held against
    the wheel before.
    """
    hashes: dict[str, str] = {}
    for place, wheel in chosen.wheels.items():
        name = wheel.members.get(place)
        if name is None or wheel.tree.fresh or _is_ours(name, wheel):
            continue
        if not name.startswith(f"{wheel.contents.data}/scripts/") and name in wheel.contents.hashes:
            hashes[place] = wheel.contents.hashes[name]
    return hashes
