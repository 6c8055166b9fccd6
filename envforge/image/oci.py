"""``image oci``: an image in one file, written with no daemon, no root and no container tool.

The environment is a few layers on top of a base, or alone.  Everything is a function of the lock, the path,
the base and the release.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import envforge
from envforge.edges.scratch import replacing
from envforge.edges.ustar import MTIME
from envforge.errors import InputError
from envforge.formats import oci_json
from envforge.formats.gzip_members import gzip_members, is_canonical
from envforge.image.archive import ArchiveWriter, blob_name
from envforge.image.base import Base
from envforge.image.layers import Layer, layer_tar, plan_layers
from envforge.model.image import ImageFacts, image_machine
from envforge.model.oci import CONFIG, LAYER_GZIP, MANIFEST, Descriptor, ImageConfig, ImageManifest
from envforge.node.image_tree import ImageTree
from envforge.node.using.activate import RUN
from envforge.reporting import Reporter

__all__ = ["OciResult", "labels_of", "write_oci"]

_MOST_LAYERS = 127
"""That some storage drivers take in one image."""
_TITLE = "org.opencontainers.image."


@dataclass(frozen=True, kw_only=True)
class OciResult:
    """What was written: a file of ``size`` bytes, the digest of its manifest, its own layers with sizes."""

    path: Path
    size: int
    digest: str
    name: str
    layers: tuple[tuple[str, str, int], ...]
    base: str | None


def write_oci(tree: ImageTree, base: Base | None, path: Path, *, jobs: int, reporter: Reporter) -> OciResult:
    """Write an OCI archive: beside its place first, and renamed to it when all of it is there.

    :raises InputError: if the base has too many layers.
    :raises CouldNotError: if the disk refuses; nothing is left then.
    """
    if not is_canonical():
        reporter.note(
            "the module deflate is linked to another libdeflate than its wheel's: this image works, but its "
            "bytes are not those that other machines make"
        )
    layers = plan_layers(tree.receipt.files, tree.path)
    below = len(base.manifest.layers) if base else 0
    if below + len(layers) > _MOST_LAYERS:
        raise InputError(
            f"{below} layers of the base and {len(layers)} of the environment are more than {_MOST_LAYERS}",
            at=str(base.place.path) if base else None,
            do="name a base of fewer layers",
        )
    with replacing(path, 0o644) as beside:
        with beside.open("x+b") as file:
            result = _Image(tree, base, file, jobs, reporter).write(layers)
        size = beside.stat().st_size
    return replace(result, path=path, size=size)


class _Image:
    def __init__(
        self, tree: ImageTree, base: Base | None, file: BinaryIO, jobs: int, reporter: Reporter
    ) -> None:
        self._tree = tree
        self._base = base
        self._archive = ArchiveWriter(file)
        self._jobs = jobs
        self._reporter = reporter

    def write(self, layers: list[Layer]) -> OciResult:
        base, archive = self._base, self._archive
        below = self._copy_base(base) if base else ()
        made: list[tuple[Layer, Descriptor, str]] = []
        total = sum(layer.bytes for layer in layers)
        self._reporter.step(f"writing {len(layers)} layers")
        with self._reporter.task("writing", total) as progress:
            made = [(layer, *self._layer(layer, progress.advance)) for layer in layers]
        config = oci_json.write_config(self._config(made))
        told = self._put(CONFIG, config)
        described = (*below, *(descriptor for _, descriptor, _ in made))
        annotations = labels_of(self._tree.facts, base)
        manifest = oci_json.write_manifest(
            ImageManifest(config=told, layers=described, annotations=annotations)
        )
        name = image_name(self._tree.facts.name)
        entry = replace(
            self._put(MANIFEST, manifest),
            machine=image_machine(self._tree.facts.platform),
            system="linux",
            variant=base.config.variant if base else "",
            annotations={f"{_TITLE}ref.name": name},
        )
        archive.add("index.json", oci_json.write_index([entry]))
        members = [blob_name(layer.digest) for layer in described]
        names = [f"localhost/{name}:latest"]
        archive.add("manifest.json", oci_json.write_docker_list(blob_name(told.digest), members, names))
        archive.finish()
        return OciResult(
            path=Path(),
            size=0,
            digest=entry.digest,
            name=name,
            layers=tuple((layer.name, descriptor.digest, descriptor.size) for layer, descriptor, _ in made),
            base=None if base is None else str(base.named),
        )

    def _copy_base(self, base: Base) -> tuple[Descriptor, ...]:
        self._reporter.step("copying the base")
        with self._reporter.task("copying", sum(layer.size for layer in base.manifest.layers)) as progress:
            for layer in base.manifest.layers:
                digest, _ = self._archive.blob(_chunks(base, layer), progress.advance)
                if digest != layer.digest:
                    raise InputError(
                        "a layer of the base is not what its name says",
                        at=f"{base.place.path}: {layer.digest}",
                        do="copy or pull the base again",
                    )
        return base.manifest.layers

    def _layer(self, layer: Layer, advance: Callable[[int], None]) -> tuple[Descriptor, str]:
        """Write one layer; returns what it is, and the digest of its tar."""
        digest = hashlib.sha256()
        above = set(self._base.survey.paths) if self._base else set[str]()

        def counted() -> Iterator[bytes]:
            pieces = layer_tar(self._tree.path, self._tree.facts.prefix, layer, above, advance)
            for piece in pieces:
                digest.update(piece)
                yield piece

        name, size = self._archive.blob(gzip_members(counted(), jobs=self._jobs))
        return Descriptor(media_type=LAYER_GZIP, digest=name, size=size), f"sha256:{digest.hexdigest()}"

    def _put(self, kind: str, content: bytes) -> Descriptor:
        digest, size = self._archive.blob([content])
        return Descriptor(media_type=kind, digest=digest, size=size)

    def _config(self, made: list[tuple[Layer, Descriptor, str]]) -> ImageConfig:
        base, created = self._base, _created()
        history = [
            {"created": created, "created_by": f"envforge {envforge.__version__}", "comment": layer.name}
            for layer, _, _ in made
        ]
        diff_ids = tuple(diff_id for _, _, diff_id in made)
        machine = image_machine(self._tree.facts.platform)
        if base is None:
            return ImageConfig(
                machine=machine,
                system="linux",
                created=created,
                diff_ids=diff_ids,
                settings=self._settings({}),
                history=tuple(history),
            )
        return replace(
            base.config,
            machine=machine,
            created=created,
            diff_ids=base.config.diff_ids + diff_ids,
            settings=self._settings(base.config.settings),
            history=(*_whole_history(base), *history),
        )

    def _settings(self, below: Mapping[str, Any]) -> dict[str, Any]:
        """How it runs: variables as activation sets them, and whatever is started is started activated."""
        facts = self._tree.facts
        base = self._base
        env = self._tree.environment(base.config.environment if base else {})
        settings = dict(below)
        settings["Env"] = [f"{name}={value}" for name, value in env.items()]
        settings["Labels"] = {**(base.config.labels if base else {}), **labels_of(facts, base)}
        if base is None:
            return settings
        if below.get("Entrypoint"):
            words = " ".join(below["Entrypoint"])
            self._reporter.note(f"the base's own entry point is not run any more: {words}")
            del settings["Entrypoint"]
            settings.pop("Cmd", None)
        if base.survey.shell:
            settings["Entrypoint"] = [f"{facts.prefix}/{RUN}"]
            settings["Cmd"] = settings.get("Cmd") or ["/bin/sh"]
        else:
            self._reporter.note(
                "the base has no /bin/sh: what is started finds the environment, but what scripts of "
                "packages set is not set"
            )
        return settings


def labels_of(facts: ImageFacts, base: Base | None) -> dict[str, str]:
    """The labels that say what is inside: OCI's own keys and ``org.envforge.…``."""
    labels = facts.labels()
    if base is not None:
        labels[f"{_TITLE}base.digest"] = base.digest
        if base.named.agent == "docker":
            labels[f"{_TITLE}base.name"] = base.named.name
    return labels


def image_name(name: str) -> str:
    """What an image is called where it is loaded: of lower-case letters, digits and single separators."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "environment"


def _chunks(base: Base, layer: Descriptor) -> Iterator[bytes]:
    with base.place.blob(layer.digest) as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _whole_history(base: Base) -> tuple[Mapping[str, Any], ...]:
    """The base's history, if it has a step for each layer; else one that has."""
    history = base.config.history
    steps = sum(not entry.get("empty_layer") for entry in history)
    if steps == len(base.config.diff_ids):
        return history
    return tuple({"created_by": "the base", "comment": diff_id} for diff_id in base.config.diff_ids)


def _created() -> str:
    """When an image was made: as ``SOURCE_DATE_EPOCH`` says, else at no time in particular."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not re.fullmatch(r"[0-9]{1,11}", text):
        raise InputError(
            f"SOURCE_DATE_EPOCH is {text!r}, which is no time", do="seconds since 1970, or unset it"
        )
    seconds = int(text) if text else MTIME
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
