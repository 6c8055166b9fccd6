"""What the layers of a base hold, read once: where the environment will be, and which C library."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from envforge.edges.oci import OciPlace, open_layer
from envforge.edges.tarstream import Content, TarEntry, read_tar
from envforge.errors import InputError
from envforge.model.oci import ImageConfig, ImageManifest

__all__ = ["Survey", "survey_layers"]

_LIBC = re.compile(r"(usr/)?lib(64|/[a-z0-9_]+-linux-gnu)?/libc(\.so\.6|-2\.\d+\.so)")
_MUSL = re.compile(r"(usr/)?lib/ld-musl-[a-z0-9_]+\.so\.1")
_SHELLS = ("bin/sh", "usr/bin/sh")
_RELEASE = re.compile(rb"GNU C Library [^\n\0]{0,120}?version (2\.\d{1,4})")
_LIBC_LIMIT = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is at ``prefix``, below it and above it, by path, each with its kind of :class:`TarEntry`.

    ``glibc`` is the version of the C library, ``None`` where none was found; ``musl`` whether there is the
    other one, ``shell`` whether there is a ``/bin/sh``.
    """

    prefix: str
    paths: dict[str, str]
    glibc: str | None = None
    musl: bool = False
    shell: bool = False

    def check_free(self, at: str) -> None:
        """Whether an environment can be at the prefix.

        :param at: how the base was named.
        :raises InputError: if something is there, or is no directory on the way.
        """
        wanted = self.prefix.strip("/")
        for path, kind in self.paths.items():
            if path == wanted and kind == "directory":
                continue
            if path == wanted or path.startswith(f"{wanted}/"):
                what = f"the base has something at {self.prefix} already: /{path}"
            elif kind != "directory":
                what = f"/{path} is no directory in the base, and {self.prefix} would go through it"
            else:
                continue
            raise InputError(what, at=at, do="name another --prefix")


def survey_layers(place: OciPlace, manifest: ImageManifest, config: ImageConfig, prefix: str) -> Survey:
    """Read all layers of an image.

    :raises InputError: if one is not what its digests say.
    """
    found = _Found(prefix.strip("/"))
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        with open_layer(place, layer, diff_id=diff_id) as stream:
            # A whiteout speaks of the layers below its own, wherever it stands in it.
            added: dict[str, str] = {}
            for entry, content in read_tar(stream, at=f"{place.path}: {layer.digest}"):
                found.note(entry, content, added)
            found.paths |= added
    return Survey(prefix=prefix, paths=found.paths, glibc=found.glibc, musl=found.musl, shell=found.shell)


class _Found:
    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self.paths: dict[str, str] = {}
        self.glibc: str | None = None
        self.musl = self.shell = False

    def note(self, entry: TarEntry, content: Content, added: dict[str, str]) -> None:
        """Take notice of one entry of a layer."""
        folder, name = posixpath.split(entry.name)
        if name == ".wh..wh..opq":
            self._forget(f"{folder}/" if folder else "")
        elif name.startswith(".wh."):
            hidden = posixpath.join(folder, name.removeprefix(".wh."))
            self.paths.pop(hidden, None)
            self._forget(f"{hidden}/")
        elif self._concerns(entry.name):
            added[entry.name] = entry.kind
        elif entry.name in _SHELLS:
            self.shell = True
        elif _MUSL.fullmatch(entry.name):
            self.musl = True
        elif entry.kind == "file" and entry.size <= _LIBC_LIMIT and _LIBC.fullmatch(entry.name):
            release = _RELEASE.search(b"".join(content()))
            self.glibc = release[1].decode() if release else self.glibc

    def _concerns(self, name: str) -> bool:
        """Whether a path is the prefix, below it or above it."""
        here, there = f"{name}/", f"{self._wanted}/"
        return name != "" and (here.startswith(there) or there.startswith(here))

    def _forget(self, start: str) -> None:
        for path in [path for path in self.paths if path.startswith(start)]:
            del self.paths[path]
