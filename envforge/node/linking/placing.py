"""Where the files of wheels will go, worked out before anything is written.

A wheel's files go to site-packages, or where their directory in ``NAME.data`` says (binary distribution
format, PyPA).  What would touch a conda package's file is refused; of two wheels that bring different files
of one name (two that bring the command ``fastapi``) the later one in the order of the lock has its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envforge.edges.archive import check_member
from envforge.edges.store import StoredTree
from envforge.edges.wheels import WheelContents
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["EntryPoint", "PlacedWheel", "Winners", "check_places", "place_wheel", "winners"]

_ASK = "do not install this wheel; ask its index"
_RESERVED = (".envforge", "conda-meta", "pyvenv.cfg")
_SCRIPTS = ("[console_scripts]", "[gui_scripts]")
_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_VERSION = re.compile(r"[0-9A-Za-z.!+_-]+")
_FUNCTION = re.compile(rf"({_NAME})\s*:\s*({_NAME})\s*(?:\[[^\]]*\])?")


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """The function that a command of a wheel calls: ``attribute`` of ``module``."""

    module: str
    attribute: str


@dataclass(frozen=True, kw_only=True)
class PlacedWheel:
    """A wheel whose hash was checked, unpacked, and what it will have in the prefix.

    ``members`` maps paths relative to the prefix to the wheel's own names, ``commands`` to what they call.
    """

    row: LockedPackage
    tree: StoredTree
    contents: WheelContents
    members: Mapping[str, str]
    commands: Mapping[str, EntryPoint]

    @property
    def owner(self) -> str:
        """The wheel as an owner of files."""
        return f"pip:{canonical_name(self.row.name)}"

    def places(self) -> Iterator[tuple[str, object]]:
        """Every path that it brings, with something that tells different contents apart."""
        for place, name in self.members.items():
            yield place, self.contents.files[name]
        yield from self.commands.items()


def place_wheel(
    row: LockedPackage, tree: StoredTree, contents: WheelContents, site_packages: str
) -> PlacedWheel:
    """Find out where the files of a wheel go.

    :param site_packages: relative to the prefix.
    :raises InputError: if one has no place, or would be outside the prefix.
    """
    _check_identity(row, contents.info)
    members = {_place(name, contents.data, site_packages, row): name for name in contents.files}
    commands = {f"bin/{command}": point for command, point in _commands(contents.entry_points, row)}
    return PlacedWheel(
        row=row,
        tree=tree,
        contents=contents,
        # An installer writes these.
        members={place: name for place, name in members.items() if place not in commands},
        commands=commands,
    )


def _check_identity(row: LockedPackage, info: str) -> None:
    """Whether the wheel is of the project and version that the row says.

    Versions have several spellings (PEP 440): it is their numbers that are compared.
    """
    name, _, version = info.removesuffix(".dist-info").partition("-")
    same = canonical_name(name) == canonical_name(row.name) and _numbers(version) == _numbers(row.version)
    if not same or not _VERSION.fullmatch(row.version):
        raise InputError(
            f"{row.name} {row.version} is locked as {row.filename}, which is another package",
            at=f"package {row.name} ({row.manager}, {row.platform})",
            do="lock again: envforge lock",
        )


def _numbers(version: str) -> list[int]:
    found = [int(digits) for digits in re.findall(r"[0-9]{1,40}", version)]
    while found and found[-1] == 0:
        found.pop()
    return found


def _place(name: str, data: str, site_packages: str, row: LockedPackage) -> str:
    check_member(name, at=row.filename)
    top, _, rest = name.partition("/")
    if top != data:
        return f"{site_packages}/{name}"
    kind, _, inside = rest.partition("/")
    roots = {
        "purelib": f"{site_packages}/",
        "platlib": f"{site_packages}/",
        "scripts": "bin/",
        "data": "",
        "headers": f"include/{PurePosixPath(site_packages).parent.name}/{row.name}/",
    }
    if kind not in roots or not inside or (kind == "scripts" and "/" in inside):
        raise InputError(f"{row.filename} brings {name!r}, which has no place", at=row.filename, do=_ASK)
    return roots[kind] + inside


def _commands(points: bytes, row: LockedPackage) -> list[tuple[str, EntryPoint]]:
    """The commands of an ``entry_points.txt`` and what they call."""
    try:
        lines = points.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError("entry_points.txt is not text", at=row.filename, do=_ASK) from error
    section, found = "", []
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        elif section in _SCRIPTS and "=" in line and not line.startswith(("#", ";")):
            command, _, function = (part.strip() for part in line.partition("="))
            place = f"{row.filename}: entry_points.txt"
            if check_member(command, at=place).count("/") or not command.isprintable():
                raise InputError(f"the entry point {command!r} is no file name", at=row.filename, do=_ASK)
            match = _FUNCTION.fullmatch(function)
            if match is None:
                raise InputError(f"the entry point {command!r} calls no function", at=place, do=_ASK)
            found.append((command, EntryPoint(module=match[1], attribute=match[2])))
    return found


def check_places(
    wheels: Sequence[PlacedWheel], tree: Path, taken: Mapping[str, tuple[str, str]], site_packages: str
) -> None:
    """Refuse a wheel that would touch what conda packages brought, or write to outside the prefix.

    :param tree: the linked environment.
    :param taken: the paths that conda packages brought, with their owners.
    :raises InputError: naming the file, the wheel and the conda package.
    """
    provided = _provided(taken, site_packages)
    root = os.path.realpath(tree)
    inside: dict[str, bool] = {}
    for wheel in wheels:
        row = wheel.row
        other = provided.get(canonical_name(row.name))
        if other is not None:
            raise _clash(row, f"replace {row.name}, which {other[1]} brings", other[0])
        for place, _ in wheel.places():
            if place in taken:
                raise _clash(row, f"write over a file of {taken[place][0]}", place)
            if place.split("/")[0] in _RESERVED:
                raise InputError(f"{row.filename} brings {place}, which no wheel may", at=place, do=_ASK)
            parent = place.rpartition("/")[0]
            if parent not in inside:
                end = os.path.realpath(f"{root}/{parent}")
                inside[parent] = f"{end}/".startswith(f"{root}/")
            if not inside[parent]:
                raise InputError(
                    f"{row.filename} would write through a symlink that leaves the prefix", at=place, do=_ASK
                )


def _clash(row: LockedPackage, what: str, at: str) -> InputError:
    return InputError(
        f"{row.filename} would {what}",
        at=at,
        do=f"take {row.name} either from conda or from PyPI, and lock again",
    )


def _provided(taken: Mapping[str, tuple[str, str]], site_packages: str) -> dict[str, tuple[str, str]]:
    """The Python projects that conda packages bring: ``name -> (path, owner)``."""
    found: dict[str, tuple[str, str]] = {}
    for path, (owner, _) in taken.items():
        if path.startswith(f"{site_packages}/"):
            head = path.removeprefix(f"{site_packages}/").split("/")[0]
            stem, dot, kind = head.rpartition(".")
            if dot and kind in ("dist-info", "egg-info"):
                found.setdefault(canonical_name(stem.split("-")[0]), (f"{site_packages}/{head}", owner))
    return found


@dataclass(frozen=True, kw_only=True)
class Winners:
    """Which wheel each path is from, and the paths that two bring differently, sorted."""

    wheels: Mapping[str, PlacedWheel]
    clashing: tuple[str, ...]


def winners(wheels: Sequence[PlacedWheel]) -> Winners:
    """Of wheels that bring one path, the last has it.

    :raises InputError: if one has a file where another has a directory.
    """
    chosen: dict[str, tuple[PlacedWheel, object]] = {}
    clashing = set()
    for wheel in wheels:
        for place, content in wheel.places():
            if place in chosen and chosen[place][1] != content:
                clashing.add(place)
            chosen[place] = (wheel, content)
    folders: dict[str, PlacedWheel] = {}
    for place, (wheel, _) in chosen.items():
        folder = place.rpartition("/")[0]
        while folder and folder not in folders:
            folders[folder] = wheel
            folder = folder.rpartition("/")[0]
    both = next((place for place in chosen if place in folders), None)
    if both is not None:
        file, folder_of = chosen[both][0].row.filename, folders[both].row.filename
        raise InputError(
            f"{file} has a file where {folder_of} has a directory", at=both, do="lock without one of the two"
        )
    return Winners(
        wheels={place: wheel for place, (wheel, _) in chosen.items()}, clashing=tuple(sorted(clashing))
    )
