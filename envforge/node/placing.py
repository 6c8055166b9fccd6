"""Where the files of wheels will go, worked out before anything is written.

uv installs in parallel, writes over what is there, follows symbolic links, and removes an older version of a
project that it finds.  So nothing is left to it: what would touch a conda package's file is refused, and
wheels that bring different files of one name (two that bring the command ``fastapi``) are installed one after
the other, in the order of the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envforge.edges.archive import check_member, wheel_contents
from envforge.edges.extract import check_artifact
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["PlacedWheel", "check_places", "place_wheels", "waves"]

_ASK = "do not install this wheel; ask its index"
_RESERVED = (".envforge", "conda-meta")
_SCRIPTS = ("[console_scripts]", "[gui_scripts]")


@dataclass(frozen=True, kw_only=True)
class PlacedWheel:
    """A wheel whose hash was checked, and what it will write.

    ``places`` maps paths relative to the prefix to something that tells different contents apart.
    """

    row: LockedPackage
    path: Path
    places: Mapping[str, str]


def place_wheels(
    rows: Sequence[LockedPackage],
    artifact: Callable[[LockedPackage], Path],
    site_packages: str,
    *,
    jobs: int,
) -> list[PlacedWheel]:
    """Hash every wheel and find out where its files go, in the order of ``rows``.

    :param site_packages: relative to the prefix.
    :raises CouldNotError: if one is not the file that was locked.
    :raises InputError: if one is no wheel, or names a path outside the prefix.
    """

    def place(row: LockedPackage) -> PlacedWheel:
        path = artifact(row)
        check_artifact(path, row.filename, row.sha256 or "")
        files, points = wheel_contents(path, row.filename)
        places = {}
        data = f"{next(n for n in files if '.dist-info/' in n).split('.dist-info/')[0]}.data"
        for name, content in files.items():
            places[_place(name, data, site_packages, row)] = content
        for command, function in _commands(points, row):
            places[f"bin/{command}"] = function
        return PlacedWheel(row=row, path=path, places=places)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(place, rows))


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


def _commands(points: bytes, row: LockedPackage) -> list[tuple[str, str]]:
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
            if check_member(command, at=f"{row.filename}: entry_points.txt").count("/"):
                raise InputError(f"the entry point {command!r} is no file name", at=row.filename, do=_ASK)
            found.append((command, function))
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
    root = Path(os.path.realpath(tree))
    inside: dict[Path, bool] = {}
    for wheel in wheels:
        row = wheel.row
        other = provided.get(canonical_name(row.name))
        if other is not None:
            raise _clash(row, f"replace {row.name}, which {other[1]} brings", other[0])
        for place in wheel.places:
            if place in taken:
                raise _clash(row, f"write over a file of {taken[place][0]}", place)
            if place.split("/")[0] in _RESERVED:
                raise InputError(f"{row.filename} brings {place}, which no wheel may", at=place, do=_ASK)
            parent = (tree / place).parent
            if parent not in inside:
                inside[parent] = Path(os.path.realpath(parent)).is_relative_to(root)
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


def waves(wheels: Sequence[PlacedWheel]) -> tuple[list[list[PlacedWheel]], tuple[str, ...]]:
    """Groups of wheels to install one after the other, and the paths that two of them bring differently.

    In each group no file is brought twice with different contents, so that the order within does not matter.
    """
    groups: list[list[PlacedWheel]] = []
    last: dict[str, tuple[str, int]] = {}
    clashing = set()
    for wheel in wheels:
        number = 0
        for place, content in wheel.places.items():
            before, where = last.get(place, (content, 0))
            number = max(number, where + (before != content))
            if before != content:
                clashing.add(place)
        last |= {place: (content, number) for place, content in wheel.places.items()}
        groups += [[] for _ in range(number + 1 - len(groups))]
        groups[number].append(wheel)
    return groups, tuple(sorted(clashing))
