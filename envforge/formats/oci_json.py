"""The JSON documents of OCI images, and of docker's own which they grew out of: text to nouns and back.

Goals: what others wrote is read with whatever keys they added; what is used of it has the right type; what is
written is canonical JSON (sorted keys, no blanks), because its digest is its name.  Specification: OCI
image-spec 1.1; docker's image manifest version 2, schema 2, differs in media types alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from envforge.errors import InputError
from envforge.formats._fields import describe
from envforge.model.oci import (
    INDEX,
    LAYERS,
    MANIFEST,
    MANIFESTS,
    Descriptor,
    ImageConfig,
    ImageManifest,
    check_digest,
)

__all__ = [
    "LAYOUT",
    "media_type",
    "read_config",
    "read_index",
    "read_manifest",
    "write_config",
    "write_docker_list",
    "write_index",
    "write_manifest",
]

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
"""The content of ``oci-layout``."""
_MOST = 1000
"""Layers of an image, or entries of an index: more is no image that anything runs."""


def media_type(content: bytes) -> str:
    """What a manifest or index says that it is; by its keys, if it does not say.

    :raises InputError: if it is neither.
    """
    document = _document(content)
    told = document.get("mediaType")
    if isinstance(told, str) and told:
        return told
    if "manifests" in document:
        return INDEX
    if "layers" in document and "config" in document:
        return MANIFEST
    raise InputError("neither an index nor a manifest of an image")


def read_index(content: bytes) -> tuple[Descriptor, ...]:
    """The entries of an index.

    :raises InputError: if it is none.
    """
    return tuple(
        _descriptor(entry, f"manifests[{number}]")
        for number, entry in enumerate(_list(_document(content), "manifests"))
    )


def read_manifest(content: bytes) -> ImageManifest:
    """A manifest.

    :raises InputError: if it is none, or of a layer that this version does not know.
    """
    document = _document(content)
    config = _descriptor(document.get("config"), "config")
    layers = []
    for number, entry in enumerate(_list(document, "layers")):
        layer = _descriptor(entry, f"layers[{number}]")
        if layer.media_type not in LAYERS:
            raise InputError(f"a layer of the kind {layer.media_type!r}", at=f"layers[{number}]")
        layers.append(layer)
    return ImageManifest(config=config, layers=tuple(layers), annotations=_texts(document, "annotations"))


def read_config(content: bytes) -> ImageConfig:
    """A config.

    :raises InputError: if it is none.
    """
    document = _document(content)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict):
        raise InputError(f"{describe(rootfs)} where a mapping is needed", at="rootfs")
    diff_ids = [check_digest(_text(one, "rootfs.diff_ids")) for one in _list(rootfs, "diff_ids")]
    settings = document.get("config") or {}
    if not isinstance(settings, dict):
        raise InputError(f"{describe(settings)} where a mapping is needed", at="config")
    _check_settings(settings)
    history = document.get("history") or []
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InputError("no list of steps", at="history")
    return ImageConfig(
        machine=_text(document.get("architecture"), "architecture"),
        system=_text(document.get("os"), "os"),
        variant=_text(document.get("variant") or "", "variant"),
        created=_text(document.get("created") or "", "created"),
        diff_ids=tuple(diff_ids),
        settings=settings,
        history=tuple(history),
    )


def _check_settings(settings: Mapping[str, Any]) -> None:
    for key in ("Env", "Entrypoint", "Cmd"):
        value = settings.get(key)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        ):
            raise InputError("no list of texts", at=f"config.{key}")
    _texts(settings, "Labels", at="config.Labels")


def write_index(entries: Sequence[Descriptor]) -> bytes:
    """An index of ``entries``."""
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [_described(entry) for entry in entries],
        }
    )


def write_manifest(manifest: ImageManifest) -> bytes:
    """A manifest; the media types of its layers become OCI's."""
    layers = [_described(layer) | {"mediaType": LAYERS[layer.media_type]} for layer in manifest.layers]
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _described(manifest.config),
        "layers": layers,
    }
    if manifest.annotations:
        document["annotations"] = dict(manifest.annotations)
    return _canonical(document)


def write_config(config: ImageConfig) -> bytes:
    """A config."""
    document: dict[str, Any] = {
        "architecture": config.machine,
        "os": config.system,
        "created": config.created,
        "config": dict(config.settings),
        "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
        "history": list(config.history),
    }
    if config.variant:
        document["variant"] = config.variant
    return _canonical(document)


def write_docker_list(config: str, layers: Sequence[str], names: Sequence[str]) -> bytes:
    """``manifest.json`` of an archive as ``docker save`` writes it.

    :param config: the member that is the config; ``layers`` those that are layers, lowest first.
    :param names: what the image is called where it is loaded: ``NAME:TAG``.
    """
    return _canonical([{"Config": config, "RepoTags": list(names), "Layers": list(layers)}])


def _described(descriptor: Descriptor) -> dict[str, Any]:
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.machine:
        document["platform"] = {"architecture": descriptor.machine, "os": descriptor.system}
        if descriptor.variant:
            document["platform"]["variant"] = descriptor.variant
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return document


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


# -- what others wrote ---------------------------------------------------------------------------------


def _document(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("not valid JSON") from error
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a mapping is needed")
    return value


def _descriptor(value: object, at: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a mapping is needed", at=at)
    size = value.get("size")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise InputError(f"{describe(size)} where a size is needed", at=f"{at}.size")
    platform = value.get("platform") or {}
    if not isinstance(platform, dict):
        raise InputError(f"{describe(platform)} where a mapping is needed", at=f"{at}.platform")
    try:
        return Descriptor(
            media_type=_text(value.get("mediaType") or MANIFESTS[0], f"{at}.mediaType"),
            digest=_text(value.get("digest"), f"{at}.digest"),
            size=size,
            machine=_text(platform.get("architecture") or "", f"{at}.platform.architecture"),
            system=_text(platform.get("os") or "", f"{at}.platform.os"),
            variant=_text(platform.get("variant") or "", f"{at}.platform.variant"),
            annotations=_texts(value, "annotations"),
        )
    except InputError as error:
        error.at = error.at or at
        raise


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise InputError(f"{describe(value)} where a list is needed", at=key)
    if len(value) > _MOST:
        raise InputError(f"{len(value)} entries, which are too many", at=key)
    return value


def _text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{describe(value)} where a text is needed", at=at)
    return value


def _texts(document: Mapping[str, Any], key: str, *, at: str = "") -> dict[str, str]:
    value = document.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InputError("no mapping of texts", at=at or key)
    return value
