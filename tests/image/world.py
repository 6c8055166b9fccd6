"""Bases written from data, and images read back with nothing of envforge's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envforge.demo.packages import PLACEHOLDER, File, Symlink
from tests.node.world import HERE, Artifact, conda, library

__all__ = [
    "DEBIAN",
    "MACHINE",
    "NAMED",
    "OCI",
    "Image",
    "Tree",
    "blob",
    "layer",
    "make_base",
    "packages",
    "write_archive",
    "write_base",
    "write_saved",
]

MACHINE = {"linux-64": "amd64", "linux-aarch64": "arm64"}.get(HERE, "amd64")
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."

Tree = Mapping[str, "bytes | str | None"]
"""Paths with a file's bytes, a link's target, or ``None`` for a directory."""

DEBIAN: Tree = {
    "usr": None,
    "usr/bin": None,
    "bin": "usr/bin",
    "usr/bin/sh": b"#!\n",
    "etc/os-release": b"ID=made\n",
}
NAMED = {"envforge.name": "made"}
"""What a lock says of its name."""


def packages(text: str = "1") -> list[Artifact]:
    """Some small packages; ``text`` is in one file of the last."""
    one: dict[str, bytes | File | Symlink] = {
        "etc/one.conf": f"prefix={PLACEHOLDER}\n".encode(),
        "lib/libone.so": File(data=f"\0{PLACEHOLDER}\0".encode(), executable=True),
        "lib/libone.so.1": Symlink(target="libone.so"),
        "bin/one": File(data=b"#!/bin/sh\necho one\n", executable=True),
        "share/" + "long/" * 50 + "name": b"deep",
        "share/naïve": "é".encode(),
        "etc/conda/env_vars.d/one.json": b'{"ONE_DATA": "said by one"}',
    }
    rest = [conda(library(f"p{n}", {f"share/p{n}": f"{n}".encode() * 100})) for n in range(20)]
    return [conda(library("one", one)), *rest, conda(library("last", {"share/last": text.encode()}))]


def layer(tree: Tree) -> bytes:
    """A tar as some other tool writes it: ``./`` before the names, an owner, a time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in tree.items():
            info = tarfile.TarInfo(f"./{name}")
            info.uid, info.mtime, info.mode = 7, 1_600_000_000, 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def blob(kind: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A descriptor."""
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content), **more}


def base_config(tars: Sequence[bytes], **more: Any) -> dict[str, Any]:
    return {
        "architecture": MACHINE,
        "os": "linux",
        "config": {"Env": ["PATH=/base/bin", "LANG=C"], "Labels": {"base": "yes"}, "Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        "history": [{"created_by": "made"} for _ in tars],
        "unknown": ["kept by nobody"],
        **more,
    }


@dataclass(frozen=True)
class Base:
    """The blobs of an image, by digest, and what its index lists."""

    blobs: dict[str, bytes]
    entry: dict[str, Any]


def make_base(
    trees: Sequence[Tree] = (DEBIAN,),
    *,
    packed: bool = True,
    docker: bool = False,
    zstd: Any = None,
    **more: Any,
) -> Base:
    """An image with these layers.

    :param packed: whether the layers are compressed.
    :param docker: with the media types that docker has.
    :param zstd: a module that compresses, in two frames as concurrent writers do.
    """
    tars = [layer(tree) for tree in trees]
    stored = [gzip.compress(tar) if packed else tar for tar in tars]
    if zstd is not None:
        stored = [zstd.compress(tar[:700]) + zstd.compress(tar[700:]) for tar in tars]
    config = json.dumps(base_config(tars, **more)).encode()
    kind = f"{DOCKER}image.rootfs.diff.tar" if docker else f"{OCI}layer.v1.tar"
    suffix = (".gzip" if docker else "+gzip") if packed else ""
    suffix = "+zstd" if zstd is not None else suffix
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{DOCKER}distribution.manifest.v2+json" if docker else f"{OCI}manifest.v1+json",
        "config": blob(f"{DOCKER}container.image.v1+json" if docker else f"{OCI}config.v1+json", config),
        "layers": [blob(kind + suffix, one) for one in stored],
    }
    content = json.dumps(manifest).encode()
    blobs = {digest_of(one): one for one in (*stored, config, content)}
    return Base(blobs, blob(str(manifest["mediaType"]), content))


def write_archive(path: Path, blobs: Mapping[str, bytes], entries: Sequence[Mapping[str, Any]]) -> Path:
    """An OCI archive as skopeo writes it: blobs first."""
    index = json.dumps({"schemaVersion": 2, "manifests": list(entries)}).encode()
    files = {f"blobs/{name.replace(':', '/')}": content for name, content in blobs.items()}
    files |= {"index.json": index, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_saved(path: Path, *trees: Tree, **more: Any) -> Path:
    """What ``docker save`` wrote for many years: layers as they are, a second name of one of them."""
    tars = [layer(tree) for tree in trees or (DEBIAN,)]
    files: dict[str, bytes | str] = {f"{number}/layer.tar": tar for number, tar in enumerate(tars)}
    files |= {f"again/{number}.tar": f"../{number}/layer.tar" for number in range(len(tars))}
    files["config.json"] = json.dumps(base_config(tars, **more)).encode()
    listed = {
        "Config": "config.json",
        "RepoTags": None,
        "Layers": [f"again/{n}.tar" for n in range(len(tars))],
    }
    files["manifest.json"] = json.dumps([listed]).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def write_base(path: Path, *trees: Tree, **more: Any) -> Path:
    """An archive of :func:`make_base`."""
    base = make_base(trees or (DEBIAN,), **more)
    return write_archive(path, base.blobs, [base.entry])


@dataclass(frozen=True)
class Image:
    """An OCI archive that envforge wrote, read by the standard library."""

    path: Path
    members: dict[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Image:
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
        return cls(path, members)

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        content = self.members[f"blobs/{descriptor['digest'].replace(':', '/')}"]
        assert digest_of(content) == descriptor["digest"]
        assert len(content) == descriptor["size"]
        return content

    @property
    def entry(self) -> dict[str, Any]:
        (entry,) = json.loads(self.members["index.json"])["manifests"]
        return dict(entry)

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads(self.blob(self.entry)))

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads(self.blob(self.manifest["config"])))

    @property
    def environment(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.config["config"]["Env"])

    def layers(self) -> list[list[tarfile.TarInfo]]:
        """The members of each layer, whose digests are checked."""
        found = []
        diff_ids = self.config["rootfs"]["diff_ids"]
        for descriptor, diff_id in zip(self.manifest["layers"], diff_ids, strict=True):
            content = self.blob(descriptor)
            tar = gzip.decompress(content) if descriptor["mediaType"].endswith("gzip") else content
            assert digest_of(tar) == diff_id
            with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
                found.append(opened.getmembers())
        return found

    def files(self) -> dict[str, bytes | str]:
        """What is there in the end: a file's bytes, a link's target; whiteouts are no part of it."""
        found: dict[str, bytes | str] = {}
        for descriptor in self.manifest["layers"]:
            content = self.blob(descriptor)
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    name = member.name.removeprefix("./")
                    if member.issym():
                        found[name] = member.linkname
                    elif member.isfile():
                        found[name] = tar.extractfile(member).read()  # type: ignore[union-attr]
        return found
