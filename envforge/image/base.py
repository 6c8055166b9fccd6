"""The base of an image: its manifest and config for one platform, from disk or from a registry.

A base says with ``/``-paths what it holds; all of its layers are read once, to know what lies where the
environment will be.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envforge.edges.images import image_kind
from envforge.edges.oci import OciPlace, open_layer, open_place, read_blob
from envforge.edges.tarstream import TarEntry, read_tar
from envforge.errors import InputError
from envforge.formats import oci_json
from envforge.model.image import BaseImage, image_machine
from envforge.model.oci import INDEXES, MANIFESTS, Descriptor, ImageConfig, ImageManifest
from envforge.reporting import Reporter

if TYPE_CHECKING:  # a node has neither registries nor what asks them
    from envforge.edges.fetch import Fetcher
    from envforge.edges.registry import Registry

__all__ = ["Base", "open_base", "parse_base"]

_AGENTS = ("oci-archive", "oci")
_DEPTH = 4
_OTHER_WORDS = {"amd64": ("x86_64",), "arm64": ("aarch64",)}
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base, opened.

    ``named`` is how it was named, ``digest`` that of its manifest.  ``paths`` are those that were asked
    about and that it holds, each with what it is: a kind of :class:`TarEntry`.
    """

    place: OciPlace
    named: BaseImage
    digest: str
    manifest: ImageManifest
    config: ImageConfig
    paths: dict[str, str] = field(default_factory=dict)


def parse_base(text: str) -> BaseImage:
    """Read ``docker:NAME@sha256:…``, ``oci-archive:PATH``, ``oci:DIRECTORY``, or the path of either.

    :raises InputError: for anything else.
    """
    path = Path(text)
    if path.is_dir() or path.is_file():
        kind = image_kind(path)
        if kind in _AGENTS:
            return BaseImage(agent=kind or "", reference=text)
        raise InputError(
            "a base is an OCI archive or an OCI layout" + (f", and this is {kind}" if kind else ""),
            at=f"--base {text}",
            do="skopeo copy docker-archive:FILE oci-archive:BASE.oci.tar"
            if kind == "docker-archive"
            else "skopeo copy docker://NAME oci-archive:BASE.oci.tar",
        )
    return BaseImage.parse(text, _AGENTS)


def open_base(
    named: BaseImage,
    platform: str,
    prefix: str,
    *,
    cache: Path,
    fetcher: Callable[[], Fetcher],
    reporter: Reporter,
) -> Base:
    """Open a base; pull it first, if it is in a registry.

    :param prefix: the path that must be free in it.
    :param cache: where blobs of registries are kept.
    :param fetcher: makes what asks a registry, if the base is in one.
    :raises InputError: if it is no image, has none for ``platform``, or has something at ``prefix``.
    :raises CouldNotError: if it cannot be pulled.
    """
    machine = image_machine(platform)
    registry: Registry | None = None
    if named.agent == "docker":
        from envforge.edges.registry import Registry

        registry = Registry(named.name, cache / "oci", fetcher())
        registry.have_manifest(named.digest)
        place = open_place(cache / "oci")
        root = Descriptor(media_type="", digest=named.digest, size=0)
    else:
        place = open_place(Path(named.reference))
        root = _choose(_inside(place, lambda: oci_json.read_index(place.index())), machine, place)
    manifest, digest = _manifest(place, root, machine, registry)
    if registry is not None:
        _pull(registry, (manifest.config, *manifest.layers), named, reporter)
    config = _inside(place, lambda: oci_json.read_config(read_blob(place, manifest.config)))
    _check(place, manifest, config, machine)
    reporter.step(f"reading the base: {len(manifest.layers)} layers")
    found = _paths(place, manifest, config, prefix)
    _check_free(found, named, prefix)
    return Base(place=place, named=named, digest=digest, manifest=manifest, config=config, paths=found)


def _manifest(
    place: OciPlace, entry: Descriptor, machine: str, registry: Registry | None
) -> tuple[ImageManifest, str]:
    """The manifest that an entry of an index leads to, and its digest."""
    for _ in range(_DEPTH):
        if registry is not None:
            registry.have_manifest(entry.digest)
        content = read_blob(place, entry)
        kind = _inside(place, partial(oci_json.media_type, content))
        if kind not in INDEXES:
            break
        entries = _inside(place, partial(oci_json.read_index, content))
        entry = _choose(entries, machine, place)
    if kind not in MANIFESTS:
        raise InputError(
            f"no image, but {kind!r}", at=f"{place.path}: {entry.digest}", do="name another base"
        )
    return _inside(place, lambda: oci_json.read_manifest(content)), entry.digest


def _pull(registry: Registry, blobs: tuple[Descriptor, ...], named: BaseImage, reporter: Reporter) -> None:
    reporter.step(f"fetching {named.name}")
    with reporter.task("fetching the base", sum(blob.size for blob in blobs)) as progress:
        for blob in blobs:
            registry.have_blob(blob, progress.advance)


def _choose(entries: tuple[Descriptor, ...], machine: str, place: OciPlace) -> Descriptor:
    """The one entry for this machine; of entries that do not say, the only one."""
    images = [entry for entry in entries if entry.media_type in INDEXES + MANIFESTS]
    fitting = [entry for entry in images if entry.machine == machine and entry.system in ("", "linux")]
    silent = [entry for entry in images if not entry.machine]
    chosen = fitting or silent
    if len(chosen) > 1 and fitting:  # variants of a machine: the plain one, which every machine runs
        chosen = [entry for entry in fitting if entry.variant in ("", "v8")] or fitting[:1]
    if len(chosen) != 1:
        said = ", ".join(sorted({f"{e.system}/{e.machine}" for e in images if e.machine})) or "nothing else"
        raise InputError(
            f"the base has {len(chosen)} images for linux/{machine}",
            at=f"{place.path}: {said}",
            do="skopeo copy docker://NAME@sha256:HEX oci-archive:BASE.oci.tar   # one image for one machine",
        )
    return chosen[0]


def _check(place: OciPlace, manifest: ImageManifest, config: ImageConfig, machine: str) -> None:
    if config.system != "linux" or config.machine not in (machine, *_OTHER_WORDS.get(machine, ())):
        raise InputError(
            f"the base is for {config.system}/{config.machine}, and the environment for linux/{machine}",
            at=str(place.path),
            do="name a base for that machine",
        )
    if len(config.diff_ids) != len(manifest.layers):
        raise InputError(
            f"the base has {len(manifest.layers)} layers and says what {len(config.diff_ids)} of them are",
            at=str(place.path),
            do="copy or pull the base again",
        )


def _paths(place: OciPlace, manifest: ImageManifest, config: ImageConfig, prefix: str) -> dict[str, str]:
    """What the base has at the prefix, below it and above it."""
    wanted = prefix.strip("/")
    found: dict[str, str] = {}
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        with open_layer(place, layer, diff_id=diff_id) as stream:
            # A whiteout speaks of the layers below its own, wherever it stands in it.
            added: dict[str, str] = {}
            for entry, _ in read_tar(stream, at=f"{place.path}: {layer.digest}"):
                _note(entry, wanted, found, added)
            found |= added
    return found


def _note(entry: TarEntry, wanted: str, found: dict[str, str], added: dict[str, str]) -> None:
    folder, name = posixpath.split(entry.name)
    if name == ".wh..wh..opq":
        gone = [path for path in found if path.startswith(f"{folder}/" if folder else "")]
    elif name.startswith(".wh."):
        hidden = posixpath.join(folder, name.removeprefix(".wh."))
        gone = [path for path in found if f"{path}/".startswith(f"{hidden}/")]
    else:
        gone = []
        inside = f"{entry.name}/".startswith(f"{wanted}/")
        if entry.name and (inside or f"{wanted}/".startswith(f"{entry.name}/")):
            added[entry.name] = entry.kind
    for path in gone:
        del found[path]


def _check_free(found: dict[str, str], named: BaseImage, prefix: str) -> None:
    wanted = prefix.strip("/")
    for path, kind in found.items():
        if path == wanted and kind == "directory":
            continue
        if path == wanted or path.startswith(f"{wanted}/"):
            raise InputError(
                f"the base has something at {prefix} already: /{path}",
                at=f"--base {named}",
                do="name another --prefix",
            )
        if kind != "directory":
            raise InputError(
                f"/{path} is no directory in the base, and {prefix} would go through it",
                at=f"--base {named}",
                do="name another --prefix",
            )


def _inside(place: OciPlace, read: Callable[[], T]) -> T:
    try:
        return read()
    except InputError as error:
        error.do = error.do or "copy or pull the image again"
        raise error.inside(str(place.path)) from None
