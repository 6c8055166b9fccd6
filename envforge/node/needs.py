"""How much an installation will write, and where: an estimate, made before a byte is written.

Into the store goes what is unpacked for the first time, and bytecode.  Into the generation go the files that
are no hard links: those with the prefix in them, symbolic links, directories, records; and everything, where
links cannot be made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.machine import may_link, nearest_directory
from envforge.edges.peek import Contents, artifact_contents, tree_contents
from envforge.edges.store import Store
from envforge.errors import EnvforgeError
from envforge.model.lockfile import LockedPackage
from envforge.node.sources.source import ArtifactSource

__all__ = ["Amount", "Needs", "first_needs", "needs_of"]

_SLACK = 2048
"""Bytes that a file takes on top of its size: half a block of a usual file system."""
_FILES_PER_DIRECTORY = 8
_INFO_FILES = 12
"""Files and directories that come with an unpacked package although its own list does not name them."""
_OWN_FILES = 20
"""What envforge puts into and beside a generation: records, activation, directories."""
_RECEIPT_LINE = 250
"""Bytes of one file's line in the receipt."""


@dataclass(frozen=True, kw_only=True)
class Amount:
    """So many bytes, and so many files, links and directories."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(bytes=self.bytes + other.bytes, files=self.files + other.files)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What is written to the store and to the generation.

    ``unknown`` counts the packages of which nothing can be said, ``room`` is the length in bytes of the
    longest prefix that all binaries have room for, ``narrowest`` the package that has no more.
    """

    store: Amount
    generation: Amount
    unknown: int = 0
    room: int | None = None
    narrowest: str = ""

    @property
    def total(self) -> Amount:
        """Both together."""
        return self.store + self.generation


def needs_of(
    source: ArtifactSource,
    rows: Sequence[LockedPackage],
    *,
    final: Path,
    store: Store,
    compiled: Callable[[str], bool],
    jobs: int,
) -> Needs:
    """What installing ``rows`` at ``final`` will write.

    :param compiled: whether the store has the bytecode of the artifact with this sha256.
    :param jobs: how many artifacts may be read at once.
    """
    place = _device(nearest_directory(final))
    python = any(row.name == "python" or row.manager == "pip" for row in rows)
    trees = [_stored(store, row.sha256 or "") for row in rows]
    fresh = nearest_directory(store.root)
    linkable = _linkable(fresh, place, owner=os.geteuid())

    def look(row: LockedPackage, tree: Path | None) -> Contents | None:
        found = tree_contents(tree) if tree is not None else None
        return found or _artifact(source, row)

    with ThreadPoolExecutor(jobs) as pool:
        contents = list(pool.map(look, rows, trees))
    into_store, into_tree = Amount(), _written(0, _OWN_FILES)
    for row, tree, content in zip(rows, trees, contents, strict=True):
        if content is None:
            continue
        links = linkable if tree is None else _linkable(tree, place)
        bytecode = _bytecode(content) if python and not compiled(row.sha256 or "") else Amount()
        into_store += bytecode if tree is not None else bytecode + _whole(content) + _info(content)
        into_tree += _linked(content) if links else _whole(content) + _bytecode(content)
        into_tree += _records(content)
    rooms = [(c.room, row.name) for row, c in zip(rows, contents, strict=True) if c and c.room is not None]
    room, narrowest = min(rooms, default=(None, ""))
    into_store += _estimated(source, contents.count(None), len(rows))
    return Needs(
        store=into_store,
        generation=into_tree,
        # What a source has counted itself is not unknown, though nobody has looked.
        unknown=contents.count(None) if source.estimate() is None else 0,
        room=room,
        narrowest=narrowest,
    )


def first_needs(artifacts: Iterable[tuple[int, Contents | None]]) -> Amount:
    """What a first installation writes whose artifacts are put into the store, too, as a bundle's are.

    :param artifacts: the size of each in bytes, and what it holds, if that is known.
    """
    total = _written(0, _OWN_FILES)
    for size, content in artifacts:
        total += _written(size, 1)
        if content is not None:
            total += (
                _whole(content) + _info(content) + _bytecode(content) + _linked(content) + _records(content)
            )
    return total


def _stored(store: Store, sha256: str) -> Path | None:
    trees = (layer / "trees" / sha256[:2] / sha256 for layer in store.layers)
    return next((tree for tree in trees if tree.is_dir()), None)


def _artifact(source: ArtifactSource, row: LockedPackage) -> Contents | None:
    try:
        path = source.peek(row)
        return None if path is None else artifact_contents(path, row.filename)
    except EnvforgeError:  # whoever needs it will say so
        return None


def _estimated(source: ArtifactSource, unknown: int, rows: int) -> Amount:
    """What the source itself says of the packages that cannot be looked at: their share of all."""
    estimate = source.estimate()
    if estimate is None or not unknown:
        return Amount()
    size, files = estimate
    return Amount(bytes=size * unknown // rows, files=files * unknown // rows)


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def _linkable(tree: Path, device: int | None, owner: int | None = None) -> bool:
    try:
        status = tree.stat()
    except OSError:
        return True
    return status.st_dev == device and may_link(status.st_uid if owner is None else owner)


def _whole(content: Contents) -> Amount:
    """Everything, written once."""
    return _written(content.bytes, content.files) + Amount(files=content.files // _FILES_PER_DIRECTORY)


def _info(content: Contents) -> Amount:
    """The unpacked package's own records, which hold its list twice, and the store's list."""
    return _written(3 * content.listing, _INFO_FILES + 1)


def _bytecode(content: Contents) -> Amount:
    """About as much as the sources, and a ``__pycache__`` here and there."""
    files = content.source_files
    return _written(content.sources, files) + Amount(files=files // _FILES_PER_DIRECTORY)


def _linked(content: Contents) -> Amount:
    """What is new although the rest are hard links."""
    new = content.patched_files + content.links
    return _written(content.patched, new) + Amount(files=content.files // _FILES_PER_DIRECTORY)


def _records(content: Contents) -> Amount:
    """``conda-meta`` repeats the package's list with the names once more; the receipt has a line a file."""
    return _written(2 * content.listing + _RECEIPT_LINE * content.files, 1)


def _written(size: int, files: int) -> Amount:
    return Amount(bytes=size + files * _SLACK, files=files)
