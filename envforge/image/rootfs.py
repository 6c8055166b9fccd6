"""A base unpacked, with the environment at its prefix: a root file system for runtimes that take one.

Unpacked without root: everybody's files become the user's, devices are left out, setuid bits dropped.  Layers
are from outside: where an entry goes is worked out among the entries that are there, as if the tree were the
root, and nothing is written through a link.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator
from pathlib import Path

from envforge.edges.oci import open_layer
from envforge.edges.scratch import remove_tree
from envforge.edges.tarstream import Content, TarEntry, read_tar
from envforge.errors import InputError
from envforge.image.base import Base
from envforge.node.image_tree import ImageTree
from envforge.reporting import Reporter

__all__ = ["make_rootfs"]

_FOLLOWED = 40
"""Links on the way to one entry, as many as a kernel follows."""
_MOUNTS = ("dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "bin")
"""Directories that runtimes mount over or expect; a read-only image has to have them."""
_FILES = ("etc/hosts", "etc/resolv.conf", "etc/passwd", "etc/group", "etc/localtime")


def make_rootfs(tree: ImageTree, base: Base, root: Path, *, reporter: Reporter) -> None:
    """Unpack ``base`` into the new directory ``root``, and move the environment to its prefix in it.

    :raises InputError: for a layer that cannot be unpacked.
    :raises OSError: if the disk refuses.
    """
    reporter.step("unpacking the base")
    unpacked = _Root(root)
    for layer, diff_id in zip(base.manifest.layers, base.config.diff_ids, strict=True):
        with open_layer(base.place, layer, diff_id=diff_id) as stream:
            unpacked.apply(read_tar(stream, at=f"{base.place.path}: {layer.digest}"))
    for name in _MOUNTS:
        unpacked.have_folder(name)
    for name in _FILES:
        unpacked.have_file(name)
    place = unpacked.folder(posixpath.dirname(tree.facts.prefix.strip("/")))
    target = root / place / posixpath.basename(tree.facts.prefix)
    if target.is_dir():
        target.rmdir()
    tree.path.rename(target)
    _write_variables(tree, base, unpacked)
    unpacked.settle()


def _write_variables(tree: ImageTree, base: Base, unpacked: _Root) -> None:
    """What Charliecloud (``ch-run --set-env``) and enroot set, one ``NAME=VALUE`` a line."""
    variables = tree.environment(base.config.environment)
    lines = [f"{name}={value}\n" for name, value in variables.items() if "\n" not in value]
    unpacked.write("ch/environment", "".join(lines))
    unpacked.write("etc/environment", "".join(lines))


class _Root:
    """What was unpacked so far: every entry by its path, as a kind and, for a link, its target."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._entries: dict[str, tuple[str, str]] = {}
        self._modes: dict[str, int] = {}
        root.mkdir()

    def apply(self, entries: Iterator[tuple[TarEntry, Content]]) -> None:
        """Unpack one layer."""
        fresh: set[str] = set()
        for entry, content in entries:
            folder, name = posixpath.split(entry.name)
            if not entry.name or entry.kind == "special":
                continue
            place = self.folder(folder)
            if name == ".wh..wh..opq":
                self._remove_below(place, fresh)
            elif name.startswith(".wh."):
                gone = posixpath.join(place, name.removeprefix(".wh."))
                if gone not in fresh:
                    self._remove(gone)
            else:
                path = posixpath.join(place, name)
                self._put(path, entry, content)
                fresh.add(path)

    def _put(self, path: str, entry: TarEntry, content: Content) -> None:
        target = self._root / path
        if entry.kind == "directory":
            if self._entries.get(path, ("", ""))[0] != "directory":
                self._remove(path)
                target.mkdir()
            self._modes[path] = stat.S_IMODE(entry.mode) & 0o1777 | 0o700
            self._entries[path] = ("directory", "")
            return
        self._remove(path)
        if entry.kind == "link":
            target.symlink_to(entry.target)
        elif entry.kind == "hard":
            first = posixpath.join(*self._split(entry.target))
            if self._entries.get(first, ("", ""))[0] != "file":
                raise InputError(f"the base has a second name of {entry.target!r}, which is no file", at=path)
            os.link(self._root / first, target, follow_symlinks=False)
        else:
            with target.open("xb") as file:
                for piece in content():
                    file.write(piece)
            target.chmod(stat.S_IMODE(entry.mode) & 0o777 | 0o400)
        self._entries[path] = ("link", entry.target) if entry.kind == "link" else ("file", "")

    def _split(self, name: str) -> tuple[str, str]:
        folder, last = posixpath.split(name)
        return self.folder(folder), last

    def folder(self, name: str) -> str:
        """Where the directory ``name`` is, links followed as if the tree were the root; made if need be."""
        place, left, followed = "", [part for part in name.split("/") if part], 0
        while left:
            part = left.pop(0)
            if part in (".", ".."):
                place = posixpath.dirname(place) if part == ".." else place
                continue
            path = posixpath.join(place, part)
            kind, target = self._entries.get(path, ("", ""))
            if kind == "link":
                followed += 1
                if followed > _FOLLOWED:
                    raise InputError("the base has links that lead in a circle", at=f"/{name}")
                left = [piece for piece in target.split("/") if piece] + left
                place = "" if target.startswith("/") else place
                continue
            if kind != "directory":
                self._remove(path)
                (self._root / path).mkdir()
                self._entries[path] = ("directory", "")
                self._modes[path] = 0o755
            place = path
        return place

    def have_folder(self, name: str) -> None:
        """A directory, if nothing else is there."""
        if name not in self._entries:
            self.folder(name)
            self._modes[name] = 0o1777 if name == "tmp" else 0o755

    def have_file(self, name: str) -> None:
        """An empty file, if nothing else is there."""
        place, last = self._split(name)
        if posixpath.join(place, last) not in self._entries:
            self.write(name, "")

    def write(self, name: str, text: str) -> None:
        """A file of ours in place of what is there."""
        place, last = self._split(name)
        path = posixpath.join(place, last)
        self._remove(path)
        (self._root / path).write_text(text, encoding="utf-8")
        (self._root / path).chmod(0o644)
        self._entries[path] = ("file", "")

    def settle(self) -> None:
        """Give directories their modes; before, one that is read-only could not be filled."""
        self._root.chmod(0o755)
        for path, mode in self._modes.items():
            (self._root / path).chmod(mode)

    def _remove(self, path: str) -> None:
        if path not in self._entries:
            return
        if self._entries[path][0] == "directory":
            self._remove_below(path, set())
            (self._root / path).rmdir()
        else:
            (self._root / path).unlink()
        del self._entries[path]
        self._modes.pop(path, None)

    def _remove_below(self, folder: str, kept: set[str]) -> None:
        start = f"{folder}/" if folder else ""
        below = sorted((path for path in self._entries if path.startswith(start)), reverse=True)
        for path in below:
            if path in kept:
                continue
            if any(other.startswith(f"{path}/") for other in kept):
                continue
            if self._entries[path][0] == "directory":
                remove_tree(self._root / path)
            else:
                (self._root / path).unlink(missing_ok=True)
            self._entries.pop(path, None)
            self._modes.pop(path, None)
