"""Images on disk: blobs by digest, in an OCI layout (a directory) or an OCI archive (a tar of one).

What ``docker save`` wrote before it wrote OCI archives, and ``podman save`` still does, is seen as one.  A
blob is believed only as far as its digest: who reads it to the end learns whether it is what it should be.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import posixpath
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from envforge.edges.tarstream import TarEntry, read_tar
from envforge.errors import CouldNotError, InputError
from envforge.model.oci import CONFIG, LAYER, LAYER_GZIP, LAYERS, MANIFEST, Descriptor

__all__ = ["OciPlace", "open_layer", "open_place", "read_blob"]

_CHUNK = 1 << 20
_DOCUMENT_LIMIT = 16 << 20
"""Bytes of an index, manifest or config."""
_AGAIN = "copy or pull the image again"


class OciPlace(Protocol):
    """Where the blobs of an image are."""

    path: Path

    def index(self) -> bytes:
        """The content of ``index.json``."""

    def blob(self, digest: str) -> BinaryIO:
        """A blob, opened at its beginning.

        :raises InputError: if it is not there.
        """


class _Layout:
    def __init__(self, path: Path) -> None:
        self.path = path

    def index(self) -> bytes:
        return _small(self._open("index.json"), f"{self.path}: index.json")

    def blob(self, digest: str) -> BinaryIO:
        return self._open(digest.replace(":", "/", 1), below="blobs")

    def _open(self, name: str, *, below: str = "") -> BinaryIO:
        path = self.path / below / name
        try:
            return path.open("rb")
        except OSError as error:
            raise InputError(f"the image lacks {name}: {error.strerror}", at=str(path), do=_AGAIN) from error


class _Archive:
    def __init__(self, path: Path) -> None:
        self.path = path
        with self._file() as file:
            self._members = {e.name: e for e, _ in read_tar(file, at=str(path)) if e.kind in ("file", "link")}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def index(self) -> bytes:
        return _small(self.open("index.json"), f"{self.path}: index.json")

    def blob(self, digest: str) -> BinaryIO:
        return self.open(f"blobs/{digest.replace(':', '/', 1)}")

    def open(self, name: str) -> BinaryIO:
        entry = self._members.get(name)
        if entry is not None and entry.kind == "link":  # docker's second name of a layer
            entry = self._members.get(
                posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.target))
            )
        if entry is None or entry.kind != "file":
            raise InputError(f"the image lacks {name}", at=str(self.path), do=_AGAIN)
        return io.BufferedReader(_Member(self._file(), entry), _CHUNK)

    def _file(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                f"cannot read the image: {error.strerror or error}", at=str(self.path), do="check its path"
            ) from error


class _Saved:
    """An archive of docker's own, whose ``manifest.json`` says which member is what, as if it were OCI's."""

    def __init__(self, archive: _Archive) -> None:
        self.path = archive.path
        self._archive = archive
        self._members: dict[str, str] = {}
        self._documents: dict[str, bytes] = {}
        try:
            listed = json.loads(_small(archive.open("manifest.json"), f"{self.path}: manifest.json"))
            entries = [
                self._image(str(one["Config"]), [str(layer) for layer in one["Layers"]]) for one in listed
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                "manifest.json is not as docker writes it", at=str(self.path), do=_AGAIN
            ) from error
        self._index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()

    def index(self) -> bytes:
        return self._index

    def blob(self, digest: str) -> BinaryIO:
        if digest in self._documents:
            return io.BytesIO(self._documents[digest])
        return self._archive.open(self._members.get(digest, digest))

    def _image(self, config: str, layers: list[str]) -> dict[str, Any]:
        """The index's entry of an image; its manifest is made here."""
        told = json.loads(_small(self._archive.open(config), f"{self.path}: {config}"))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._described(config, CONFIG),
            "layers": [self._described(layer, LAYER) for layer in layers],
        }
        content = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self._documents[digest] = content
        machine = {"architecture": told["architecture"], "os": told["os"], "variant": told.get("variant", "")}
        return {"mediaType": MANIFEST, "digest": digest, "size": len(content), "platform": machine}

    def _described(self, name: str, kind: str) -> dict[str, Any]:
        digest, size = hashlib.sha256(), 0
        with self._archive.open(name) as file:
            while chunk := file.read(_CHUNK):
                if size == 0 and kind == LAYER and chunk.startswith(b"\x1f\x8b"):
                    kind = LAYER_GZIP
                digest.update(chunk)
                size += len(chunk)
        told = f"sha256:{digest.hexdigest()}"
        self._members[told] = name
        return {"mediaType": kind, "digest": told, "size": size}


class _Member(io.RawIOBase):
    """The content of one member of a tar, as a stream of its own."""

    def __init__(self, file: BinaryIO, entry: TarEntry) -> None:
        self._file = file
        self._left = entry.size
        file.seek(entry.offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._file.read(min(len(buffer), self._left))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_place(path: Path) -> OciPlace:
    """The layout or archive at ``path``.

    :raises InputError: if there is none.
    """
    if path.is_dir():
        if not (path / "oci-layout").is_file():
            raise InputError(
                "a directory that is no OCI layout", at=str(path), do="name one with an oci-layout"
            )
        return _Layout(path)
    archive = _Archive(path)
    if "index.json" in archive:
        return archive
    if "manifest.json" in archive:
        return _Saved(archive)
    raise InputError(
        "the archive has no index.json, so it is no OCI archive",
        at=str(path),
        do="name an archive that skopeo copy, docker save or podman save has written",
    )


def _small(file: BinaryIO, at: str) -> bytes:
    with file:
        content = file.read(_DOCUMENT_LIMIT + 1)
    if len(content) > _DOCUMENT_LIMIT:
        raise InputError(f"larger than {_DOCUMENT_LIMIT} bytes", at=at, do=_AGAIN)
    return content


def read_blob(place: OciPlace, descriptor: Descriptor) -> bytes:
    """A document, held against its digest.

    :raises InputError: if it is not there, too large or another one.
    """
    at = f"{place.path}: {descriptor.digest}"
    content = _small(place.blob(descriptor.digest), at)
    if hashlib.sha256(content).hexdigest() != descriptor.hex:
        raise InputError("a blob of the image is not what its name says", at=at, do=_AGAIN)
    return content


# -- layers --------------------------------------------------------------------------------------------


@contextmanager
def open_layer(place: OciPlace, layer: Descriptor, *, diff_id: str | None = None) -> Iterator[BinaryIO]:
    """The tar of a layer, decompressed while it is read.

    When the block ends, the rest is read and both digests are checked.

    :param diff_id: the digest that the tar must have; ``None`` if nobody knows.
    :raises InputError: if it cannot be decompressed, or is not what the digests say.
    """
    at = f"{place.path}: {layer.digest}"
    with place.blob(layer.digest) as file:
        stream = _LayerStream(file, LAYERS[layer.media_type], at)
        yield io.BufferedReader(stream, _CHUNK)
        stream.finish(layer.digest, diff_id)


class _LayerStream(io.RawIOBase):
    def __init__(self, file: BinaryIO, kind: str, at: str) -> None:
        self._file = file
        self._at = at
        self._packed, self._plain = hashlib.sha256(), hashlib.sha256()
        self._pieces = self._decompressed(kind)
        self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._plain.update(piece)
            self._held = piece
        part = self._held[: len(buffer)]
        self._held = self._held[len(part) :]
        buffer[: len(part)] = part
        return len(part)

    def finish(self, digest: str, diff_id: str | None) -> None:
        for piece in self._pieces:
            self._plain.update(piece)
        wrong = f"sha256:{self._packed.hexdigest()}" != digest
        if wrong or (diff_id is not None and f"sha256:{self._plain.hexdigest()}" != diff_id):
            raise InputError("a layer of the image is not what its name says", at=self._at, do=_AGAIN)

    def _chunks(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            self._packed.update(chunk)
            yield chunk

    def _decompressed(self, kind: str) -> Iterator[bytes]:
        if kind == LAYER:
            yield from self._chunks()
        elif kind == LAYER_GZIP:
            yield from self._gunzipped()
        else:
            yield from self._unzstd()

    def _gunzipped(self) -> Iterator[bytes]:
        """Every member of the stream, a bomb in pieces of a bounded size."""
        member = zlib.decompressobj(wbits=31)
        try:
            for chunk in self._chunks():
                data = chunk
                while data:
                    if member.eof:
                        member = zlib.decompressobj(wbits=31)
                    yield member.decompress(data, _CHUNK)
                    data = member.unconsumed_tail or member.unused_data
        except zlib.error as error:
            raise InputError("a layer cannot be decompressed", at=self._at, do=_AGAIN) from error
        if not member.eof:
            raise InputError("a layer ends too early", at=self._at, do=_AGAIN)

    def _unzstd(self) -> Iterator[bytes]:
        zstd = _zstd()
        if zstd is None:
            raise CouldNotError(
                "a layer is compressed with zstd, which this Python cannot read",
                at=self._at,
                do="python -m pip install backports.zstd   # or run envforge with Python 3.14",
            )
        frame = zstd.ZstdDecompressor()
        try:
            for chunk in self._chunks():
                data = chunk
                while data:
                    if frame.eof:
                        frame = zstd.ZstdDecompressor()
                    yield frame.decompress(data, _CHUNK)
                    data = frame.unused_data if frame.eof else b""
                    while not frame.eof and not frame.needs_input:
                        yield frame.decompress(b"", _CHUNK)
                        data = frame.unused_data if frame.eof else b""
        except zstd.ZstdError as error:
            raise InputError("a layer cannot be decompressed", at=self._at, do=_AGAIN) from error
        if not frame.eof:
            raise InputError("a layer ends too early", at=self._at, do=_AGAIN)


def _zstd() -> Any:
    """The module that Python has from 3.14 on, or the same for older ones where it is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
