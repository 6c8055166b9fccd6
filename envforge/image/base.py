"""The base of an image: its manifest and config for one platform, from disk or from a registry.

Nothing of it is believed: every blob is held against its digest, every layer against the config.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envforge.edges.images import image_kind
from envforge.edges.oci import OciPlace, open_place, read_blob
from envforge.errors import InputError
from envforge.formats import oci_json
from envforge.image.survey import Survey, survey_layers
from envforge.model.image import BaseImage, image_machine
from envforge.model.lockfile import LockedPackage
from envforge.model.oci import INDEXES, MANIFESTS, Descriptor, ImageConfig, ImageManifest
from envforge.node.fitness import needed_version
from envforge.reporting import Reporter

if TYPE_CHECKING:  # a node has neither registries nor what asks them
    from envforge.edges.fetch import Fetcher
    from envforge.edges.registry import Registry

__all__ = ["Base", "check_glibc", "open_base", "parse_base"]

_AGENTS = ("oci-archive", "oci", "docker-archive")
_DEPTH = 4
_OTHER_WORDS = {"amd64": ("x86_64",), "arm64": ("aarch64",)}
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base, opened.

    ``named`` is how it was named, ``digest`` that of its manifest, ``survey`` what its layers hold.
    """

    place: OciPlace
    named: BaseImage
    digest: str
    manifest: ImageManifest
    config: ImageConfig
    survey: Survey


def parse_base(text: str) -> BaseImage:
    """Read ``docker:NAME@sha256:…``, ``AGENT:PATH`` with another agent, or a path.

    :raises InputError: for anything else.
    """
    path = Path(text)
    if path.is_dir() or path.is_file():
        kind = image_kind(path)
        if kind in _AGENTS:
            return BaseImage(agent=kind or "", reference=text)
        raise InputError(
            "a base is an OCI archive, an OCI layout or what docker save wrote"
            + (f", and this is {kind}" if kind else ""),
            at=f"--base {text}",
            do="skopeo copy docker://NAME oci-archive:BASE.oci.tar   # or: docker save -o BASE.tar NAME",
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
    survey = survey_layers(place, manifest, config, prefix)
    survey.check_free(f"--base {named}")
    return Base(place=place, named=named, digest=digest, manifest=manifest, config=config, survey=survey)


def check_glibc(base: Base, rows: Sequence[LockedPackage], reporter: Reporter) -> None:
    """Whether the base's C library is new enough for the packages.

    :raises InputError: if it is not.
    """
    have = base.survey.glibc
    if have is None and base.survey.musl:
        raise InputError(
            "the C library of the base is musl, and conda packages and wheels for Linux need glibc",
            at=f"--base {base.named}",
            do="name a base with glibc: of Debian, Ubuntu, Rocky or SUSE, and not of Alpine",
        )
    asked = needed_version(rows, "__glibc")
    if asked is None:
        return
    version, who = asked
    if have is None:
        reporter.note(f"no glibc was found in the base, and {who} needs {version}")
    elif _numbers(have) < _numbers(version):
        raise InputError(
            f"{who} needs glibc {version}, and the base has {have}",
            at=f"--base {base.named}",
            do=f"name a newer base; or lock for this one: envforge lock --glibc {have}",
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


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


def _inside(place: OciPlace, read: Callable[[], T]) -> T:
    try:
        return read()
    except InputError as error:
        error.do = error.do or "copy or pull the image again"
        raise error.inside(str(place.path)) from None
