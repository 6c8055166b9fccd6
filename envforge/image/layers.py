"""The layers of an environment: packages that change at different times lie in different blobs.

The rule is a function of names and sizes alone, so that an environment in which one package changed has all
other layers as before: a package of 16 MiB or more has a layer of its own, as long as there are not too many
of them; the others are spread over 16 by a hash of their names; what belongs to the environment as a whole
(receipt, activation, what envforge wrote) is the last.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from envforge.edges import ustar
from envforge.errors import CouldNotError
from envforge.model.receipt import FileRecord
from envforge.node.proving.scan import RECEIPT, file_record

__all__ = ["Layer", "layer_tar", "plan_layers"]

_ALONE = 16 << 20
"""Bytes from which on a package has a layer of its own."""
_MOST_ALONE = 32
_SHARED = 16
_CHUNK = 1 << 20
_RUNTIME, _WHOLE = "envforge's runtime", "the environment"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: what is in it, in words, and its files and directories by path in the environment."""

    name: str
    records: tuple[FileRecord, ...]

    @property
    def bytes(self) -> int:
        """The bytes of its files."""
        return sum(record.size or 0 for record in self.records)


def plan_layers(files: Iterable[FileRecord], tree: Path) -> list[Layer]:
    """Spread an environment over layers, the lowest first.

    :param files: every entry of the receipt; the receipt itself, in ``tree``, is added.
    """
    directories: dict[str, FileRecord] = {}
    groups: dict[str, list[FileRecord]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for record in files:
        if record.kind == "directory":
            directories[record.path] = record
        else:
            owner = _RUNTIME if record.how == "runtime" else record.owner
            groups[owner].append(record)
            sizes[owner] += record.size or 0
    large = [name for name in sizes if ":" in name and sizes[name] >= _ALONE]
    alone = set(sorted(large, key=lambda name: (-sizes[name], name))[:_MOST_ALONE])
    layers: dict[str, list[FileRecord]] = defaultdict(list)
    for owner, records in groups.items():
        layers[_layer_of(owner, alone)] += records
    layers[_WHOLE].append(file_record(tree, RECEIPT))
    return [_with_folders(name, layers[name], directories) for name in sorted(layers, key=_order)]


def _layer_of(owner: str, alone: Collection[str]) -> str:
    if ":" not in owner:
        return owner if owner == _RUNTIME else _WHOLE
    if owner in alone:
        return owner
    return f"packages {hashlib.sha256(owner.encode()).digest()[0] % _SHARED + 1} of {_SHARED}"


def _order(name: str) -> tuple[int, int, str]:
    number = int(name.split(" ")[1]) if name.startswith("packages ") else 0
    return (2 if name == _WHOLE else 1 if number else 0, number, name)


def _with_folders(name: str, records: list[FileRecord], directories: dict[str, FileRecord]) -> Layer:
    """A layer has the directories above its files; the last one has all of them, empty ones included."""
    wanted = set(directories) if name == _WHOLE else set[str]()
    for record in records:
        folder = record.path.rpartition("/")[0]
        while folder and folder not in wanted:
            wanted.add(folder)
            folder = folder.rpartition("/")[0]
    every = [*records, *(directories[folder] for folder in wanted if folder in directories)]
    return Layer(name=name, records=tuple(sorted(every, key=lambda record: record.path)))


def layer_tar(
    tree: Path, prefix: str, layer: Layer, above: Collection[str], advance: Callable[[int], None]
) -> Iterator[bytes]:
    """The tar of a layer, in pieces.

    :param tree: where the environment lies.
    :param prefix: where it will be.
    :param above: the directories on the way there that the base has, which are left as they are.
    :raises CouldNotError: if a file is not what its record says any more.
    """
    root = prefix.strip("/")
    parts = root.split("/")
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in above:
            yield ustar.extended_header(folder, size=0, mode=0o755, directory=True)
    for record in layer.records:
        name = f"{root}/{record.path}"
        if record.kind == "directory":
            yield ustar.extended_header(name, size=0, mode=record.mode or 0o755, directory=True)
        elif record.kind == "link":
            yield ustar.extended_header(name, size=0, mode=0o777, target=record.target)
        else:
            size = record.size or 0
            yield ustar.extended_header(name, size=size, mode=record.mode or 0o644)
            yield from _content(tree / record.path, size)
            yield ustar.padding(size)
            advance(size)
    yield ustar.END


def _content(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            yield chunk
    if left:
        raise CouldNotError("a file changed while it was read", at=str(path), do="the same command again")
