"""Which package wins where two bring the same path: decided here, before linking.

py-rattler puts the losers of plain clashes aside, but where one package has a file and another a directory,
what is left depends on which thread was faster.  It is therefore shown packages that do not clash: of one
that loses something it sees a copy of ``info/`` without that.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Claims", "filtered_copy", "losers", "ranked"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """A package, what it needs, and the paths that it brings.

    ``files`` maps the names in its ``info/paths.json``, and ``commands`` those of its entry points, to the
    places relative to the prefix.
    """

    name: str
    depends: tuple[str, ...]
    files: Mapping[str, str]
    commands: Mapping[str, str]

    @property
    def places(self) -> Iterator[tuple[str, str]]:
        """Every name with its place."""
        yield from self.files.items()
        yield from self.commands.items()


def ranked(packages: Sequence[Claims]) -> list[Claims]:
    """``packages`` with those that win first: who needs another package overrules it, then goes the name."""
    waiting = {package.name: package for package in sorted(packages, key=lambda package: package.name)}
    needed_by: dict[str, set[str]] = {name: set() for name in waiting}
    for package in waiting.values():
        for other in package.depends:
            if other in needed_by and other != package.name:
                needed_by[other].add(package.name)
    order = []
    while waiting:
        # In a circle nobody is first: then it is the first by name.
        name = next((name for name in waiting if not needed_by[name] & waiting.keys()), next(iter(waiting)))
        order.append(waiting.pop(name))
    return order


def losers(packages: Sequence[Claims]) -> dict[str, set[str]]:
    """The names that each package loses, by package; packages that lose nothing are left out."""
    files: set[str] = set()
    folders: set[str] = set()
    lost: dict[str, set[str]] = {}
    for package in ranked(packages):
        won = []
        for name, place in package.places:
            above = list(_above(place))
            if place in files or place in folders or any(folder in files for folder in above):
                lost.setdefault(package.name, set()).add(name)
            else:
                won.append((place, above))
        for place, above in won:
            files.add(place)
            folders.update(above)
    return lost


def _above(place: str) -> Iterator[str]:
    parts = place.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def filtered_copy(tree: Path, place: Path, lost: set[str]) -> None:
    """An extracted package at ``place`` that does not speak of ``lost``; its files are those of ``tree``."""
    place.mkdir()
    for entry in os.scandir(tree):
        target = place / entry.name
        if entry.name == "info":
            shutil.copytree(entry.path, target, symlinks=True)
        elif entry.is_dir(follow_symlinks=False):
            target.symlink_to(entry.path, target_is_directory=True)
        else:
            _same_file(entry.path, target)
    _filter(place / "info" / "paths.json", lambda value: value["paths"], lambda entry: entry["_path"], lost)
    _filter(
        place / "info" / "link.json",
        lambda value: value["noarch"]["entry_points"],
        lambda point: str(point).partition("=")[0].strip(),
        lost,
    )
    _filter_lines(place / "info" / "files", lost)


def _same_file(source: str, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or somebody else's file
        shutil.copy2(source, target, follow_symlinks=False)


def _filter(
    path: Path, items: Callable[[Any], list[Any]], name: Callable[[Any], str], lost: set[str]
) -> None:
    with suppress(FileNotFoundError, KeyError, TypeError):
        value = json.loads(path.read_bytes())
        found = items(value)
        found[:] = [item for item in found if name(item) not in lost]
        path.unlink()
        path.write_text(json.dumps(value), encoding="utf-8")


def _filter_lines(path: Path, lost: set[str]) -> None:
    with suppress(FileNotFoundError, UnicodeDecodeError):
        lines = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
        path.write_text("".join(f"{line}\n" for line in lines if line.strip() not in lost), encoding="utf-8")
