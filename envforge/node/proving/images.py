"""Images as they lie on disk: what they say of themselves, and whether the environment inside is its receipt.

An OCI image is read layer by layer, each held against its digests; a SquashFS or SIF is unpacked by
``unsquashfs``.  Nothing of an image is run, and nothing of it needs to fit this machine.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from envforge.edges.images import image_kind, read_trailer
from envforge.edges.oci import OciPlace, open_layer, open_place, read_blob
from envforge.edges.sif import read_sif
from envforge.edges.squashfs import unpack_squashfs
from envforge.edges.tarstream import Content, TarEntry, read_tar
from envforge.errors import InputError
from envforge.formats import image_json, oci_json
from envforge.model.image import LAYERED, ImageFacts
from envforge.model.oci import INDEXES, MANIFESTS, ImageConfig, ImageManifest
from envforge.node.proving.scan import RECEIPT

__all__ = ["Inside", "image_facts", "look_inside", "unpack_environment"]

_RECEIPT_LIMIT = 512_000_000
_DEPTH = 4
_NOT_OURS = "make it with envforge: envforge image oci SOURCE -o FILE"
T = TypeVar("T")


def image_facts(path: Path) -> ImageFacts:
    """What an image says of itself, of whatever kind it is; nothing is held against it.

    :raises InputError: if it is no image, or none that envforge made.
    :raises CouldNotError: if it cannot be read.
    """
    kind = image_kind(path)
    facts = None
    if kind in LAYERED:
        place = open_place(path)
        facts = _inside(path, lambda: ImageFacts.of_labels(_only_image(place)[1].labels))
    elif kind == "squashfs":
        line = read_trailer(path)
        facts = (
            None if line is None else _inside(path, lambda: image_json.read(line.decode("utf-8", "replace")))
        )
    elif kind == "sif":
        labels = read_sif(path).labels
        facts = _inside(path, lambda: ImageFacts.of_labels(labels))
    else:
        raise InputError("no image", at=str(path), do=_NOT_OURS)
    if facts is None:
        raise InputError("no environment of envforge's is in the image", at=str(path), do=_NOT_OURS)
    return facts


@dataclass(frozen=True, kw_only=True)
class Inside:
    """The environment in an OCI image: its receipt's text, and the state of every other entry by path."""

    receipt: str
    states: dict[str, str]


def look_inside(path: Path, prefix: str, advance: Callable[[int], None] = lambda _: None) -> Inside:
    """Read all layers of an OCI image, and say what they have at ``prefix`` in the end.

    :param advance: told of bytes of layers as they are read.
    :raises InputError: if a blob is not what its digest says, or there is no receipt.
    """
    place = open_place(path)
    manifest, config = _inside(path, lambda: _only_image(place))
    if len(manifest.layers) != len(config.diff_ids):
        raise InputError("the image does not say what its layers are", at=str(path))
    view = _View(prefix.strip("/"))
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        with open_layer(place, layer, diff_id=diff_id) as stream:
            view.apply(read_tar(stream, at=f"{path}: {layer.digest}"))
        advance(layer.size)
    if view.receipt is None:
        raise InputError(f"there is no receipt at {prefix} in the image", at=str(path), do=_NOT_OURS)
    return Inside(receipt=view.receipt.decode("utf-8", "replace"), states=view.states)


def unpack_environment(path: Path, facts: ImageFacts, work: Path) -> Path:
    """Unpack the environment of a SquashFS or SIF below ``work``; returns where it is then.

    :raises InputError: if a link is on the way to it, which would lead to files of this machine.
    :raises CouldNotError: if it cannot be unpacked.
    """
    inside = "" if facts.kind == "environment" else facts.prefix.strip("/")
    offset = read_sif(path).offset if image_kind(path) == "sif" else 0
    unpack_squashfs(path, work / "root", inside=inside, offset=offset)
    place = work / "root" / inside
    if place.resolve() != work.resolve() / "root" / inside:
        raise InputError(f"{facts.prefix} is a link in the image, or behind one", at=str(path), do=_NOT_OURS)
    return place


# -- OCI -----------------------------------------------------------------------------------------------


def _only_image(place: OciPlace) -> tuple[ImageManifest, ImageConfig]:
    entries = oci_json.read_index(place.index())
    for _ in range(_DEPTH):
        if len(entries) != 1:
            raise InputError(f"there are {len(entries)} images in it, and one can be looked at")
        content = read_blob(place, entries[0])
        kind = oci_json.media_type(content)
        if kind in MANIFESTS:
            manifest = oci_json.read_manifest(content)
            return manifest, oci_json.read_config(read_blob(place, manifest.config))
        if kind not in INDEXES:
            raise InputError(f"no image, but {kind!r}")
        entries = oci_json.read_index(content)
    raise InputError("an index of indexes without an end")


class _View:
    """What is at one path of an image, layer after layer."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.states: dict[str, str] = {}
        self.receipt: bytes | None = None

    def apply(self, entries: Iterator[tuple[TarEntry, Content]]) -> None:
        """Put one layer on top."""
        fresh: set[str] = set()
        for entry, content in entries:
            folder, name = posixpath.split(entry.name)
            if name == ".wh..wh..opq":
                self._remove(f"{folder}/", fresh)
            elif name.startswith(".wh."):
                self._remove(posixpath.join(folder, name.removeprefix(".wh.")), fresh)
            elif entry.name.startswith(f"{self._root}/"):
                path = entry.name[len(self._root) + 1 :]
                self._put(path, entry, content)
                fresh.add(path)
            elif entry.name == self._root and entry.kind != "directory":
                raise InputError(f"the image has no directory at /{self._root}")

    def _put(self, path: str, entry: TarEntry, content: Content) -> None:
        mode = entry.mode & 0o7777
        if entry.kind != "directory" and self.states.get(path, "").startswith("d"):
            self._remove(f"{self._root}/{path}", set())
        if path == RECEIPT:
            if entry.size > _RECEIPT_LIMIT:
                raise InputError("the receipt in the image is too large")
            self.receipt = b"".join(content())
        elif entry.kind == "directory":
            self.states[path] = f"d{mode:o}"
        elif entry.kind == "link":
            self.states[path] = f"l{entry.target}"
        elif entry.kind == "hard":
            first = entry.target.removeprefix(f"{self._root}/")
            self.states[path] = self.states.get(first, f"s{mode:o}")
        elif entry.kind == "special":
            self.states[path] = f"s{mode:o}"
        else:
            digest, size = hashlib.sha256(), 0
            for piece in content():
                digest.update(piece)
                size += len(piece)
            self.states[path] = f"f{mode:o} {size} {digest.hexdigest()}"

    def _remove(self, name: str, kept: set[str]) -> None:
        """Take away a path of the image and all below it, but what the same layer brought.

        :param name: with a ``/`` at its end if only what is below it is meant.
        """
        start = name if name.endswith("/") else f"{name}/"
        for path in [*self.states, RECEIPT]:
            whole = f"{self._root}/{path}"
            if (whole == name or whole.startswith(start)) and path not in kept:
                self.states.pop(path, None)
                self.receipt = None if path == RECEIPT else self.receipt


def _inside(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except InputError as error:
        error.do = error.do or "make or carry the image again"
        raise error.inside(str(path)) from None
