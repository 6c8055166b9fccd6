"""The documents of an OCI image (image-spec 1.1): descriptors, an index, a manifest, a config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envforge.errors import InputError

__all__ = [
    "CONFIG",
    "INDEX",
    "INDEXES",
    "LAYER",
    "LAYERS",
    "LAYER_GZIP",
    "LAYER_ZSTD",
    "MANIFEST",
    "MANIFESTS",
    "Descriptor",
    "ImageConfig",
    "ImageManifest",
    "check_digest",
]

_OCI, _DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
INDEX, MANIFEST, CONFIG = f"{_OCI}index.v1+json", f"{_OCI}manifest.v1+json", f"{_OCI}config.v1+json"
LAYER = f"{_OCI}layer.v1.tar"
LAYER_GZIP, LAYER_ZSTD = f"{LAYER}+gzip", f"{LAYER}+zstd"
INDEXES = (INDEX, f"{_DOCKER}distribution.manifest.list.v2+json")
MANIFESTS = (MANIFEST, f"{_DOCKER}distribution.manifest.v2+json")
LAYERS: Mapping[str, str] = {
    LAYER: LAYER,
    LAYER_GZIP: LAYER_GZIP,
    LAYER_ZSTD: LAYER_ZSTD,
    f"{_DOCKER}image.rootfs.diff.tar": LAYER,
    f"{_DOCKER}image.rootfs.diff.tar.gzip": LAYER_GZIP,
    f"{_DOCKER}image.rootfs.diff.tar.zstd": LAYER_ZSTD,
}
"""The media types that layers have, docker's own included, and OCI's name for each."""
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def check_digest(digest: str) -> str:
    """Return ``digest`` if it is ``sha256:HEX``.

    :raises InputError: for anything else, other algorithms included.
    """
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"{digest!r} is no digest sha256:HEX")
    return digest


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """What a blob is: media type, digest ``sha256:HEX``, bytes; of an index's entry also for what machine."""

    media_type: str
    digest: str
    size: int
    machine: str = ""
    system: str = ""
    variant: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_digest(self.digest)

    @property
    def hex(self) -> str:
        """The digest's hex digits."""
        return self.digest.partition(":")[2]


@dataclass(frozen=True, kw_only=True)
class ImageManifest:
    """A config and layers, the lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How an image runs, and the sha256 of each layer as it is unpacked (``diff_ids``).

    ``settings`` is what stands under ``config`` (``Env``, ``Entrypoint``, ``Labels``, …) and ``history`` an
    entry a step, both as they are: what a base says is kept.
    """

    machine: str
    system: str
    diff_ids: tuple[str, ...]
    variant: str = ""
    created: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The variables, by name."""
        entries = self.settings.get("Env") or ()
        return dict(entry.split("=", 1) for entry in entries if "=" in entry)

    @property
    def labels(self) -> dict[str, str]:
        """The labels, by key."""
        return dict(self.settings.get("Labels") or {})
