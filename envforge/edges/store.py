"""The store: artifacts as downloaded and as extracted, both known by the sha256 of the artifact.

::

    STORE/artifacts/ab/ab12…          the file, without its name
    STORE/trees/ab/ab12…/             a package as unpacked
    STORE/lists/ab/ab12…              every file of that with its sha256 (:mod:`envforge.edges.listing`)
    STORE/bytecode/KEY/ab/ab12…/      what the Python KEY made of the package's sources
    STORE/runtimes/KE/KEY             which artifact is the runtime that was made of what KEY says
    STORE/tmp/                        what is being written; everything lands by rename
    STORE/tmp/part-ab12…              how a download began (:mod:`envforge.edges.partial`)

A store may be shared, and layered: the first layer is written to, the others are only read.  There are no
locks: whoever comes second with the same content finds it there.  It is not believed.  An artifact is hashed
each time it is used, and a tree is held against the artifact it came from (:mod:`envforge.edges.extract` and
:mod:`envforge.edges.wheels` say how), or, where that is not there, against the list that the caller or root
made of it.  Directories get the permissions of the store's own, so that a group
can share one.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.extract import (
    check_artifact,
    extract_package,
    first_altered,
    first_unlike,
    normal_mode,
)
from envforge.edges.hashing import file_sha256
from envforge.edges.listing import Listing, first_unlisted, list_tree, read_listing, write_listing
from envforge.edges.partial import claimed, drop_partials
from envforge.edges.scratch import discard, make_directory, remove_tree, scratch, sweep
from envforge.edges.wheels import first_altered_wheel_file, read_wheel, unpack_wheel
from envforge.errors import CouldNotError, EnvforgeError, InputError

__all__ = ["KINDS", "Store", "StoredTree", "file_sha256", "make_directory", "normal_mode", "remove_tree"]

_TRIES = 20

KINDS = ("artifacts", "trees", "lists", "bytecode", "runtimes")
"""What a store keeps, a directory each."""


@dataclass(frozen=True, kw_only=True)
class StoredTree:
    """An unpacked package; ``fresh`` if it was unpacked just now, from an artifact that was hashed.

    ``artifact`` is what it was unpacked from, ``None`` where only its list speaks for it.
    """

    path: Path
    fresh: bool
    artifact: Path | None


class Store:
    """A layered store.

    :param root: the layer that is written to; made when first needed.
    :param lower: layers that are only read, looked at in this order after ``root``.
    :param heal: whether a tree that was altered is replaced by a new one; else it is an error, because what
        altered it did so in prefixes, too.
    """

    def __init__(self, root: Path, lower: Sequence[Path] = (), *, heal: bool = False) -> None:
        self.root = root
        self.layers = (root, *lower)
        self.heal = heal

    def artifact(self, sha256: str) -> Path | None:
        """Where the artifact lies, unhashed; ``None`` if no layer has it."""
        return self.find("artifacts", sha256)

    def add_artifact(self, sha256: str, write: Callable[[Path], object]) -> Path:
        """Store an artifact: ``write`` is given a path that does not exist yet and fills it.

        ``write`` checks the hash itself and raises if it is wrong; nothing is left then.
        """
        final = self.place("artifacts", sha256)
        with self.scratch() as directory:
            partial = directory / "artifact"
            write(partial)
            partial.chmod(0o644)
            self._make(final.parent)
            partial.replace(final)
        return final

    def fetch_artifact(self, sha256: str, fetch: Callable[[Path], object]) -> Path:
        """Store an artifact that comes from afar: ``fetch`` is given a path, and fills it or goes on with it.

        ``fetch`` checks the hash itself and raises if it is wrong.  What it leaves there then, or when the
        process is killed, is what the next one is given that is to fetch the same.
        """
        final = self.place("artifacts", sha256)
        with claimed(self._make(self.root / "tmp"), sha256) as partial:
            fetch(partial)
            partial.chmod(0o644)
            self._make(final.parent)
            partial.replace(final)
        return final

    def tree(
        self,
        artifact: Path,
        filename: str,
        sha256: str,
        *,
        instead: Path | None = None,
    ) -> StoredTree:
        """The unpacked tree of a conda package or wheel.

        A tree that was there is held against the artifact in everything but the content of the files that an
        environment gets unchanged: those are hashed where they are linked to, and in doubt :meth:`confirm`
        decides.  With ``instead`` or ``heal`` all of it is held against the artifact here.

        :param artifact: the package file; its content is hashed here.
        :param filename: its real name: ``….conda``, ``….tar.bz2`` or ``….whl``.
        :param sha256: what the lockfile says.
        :param instead: a directory to unpack into where the stored tree was altered.
        :raises CouldNotError: if the artifact is not the one of the lockfile, or a stored tree was altered
            and nothing may be done about it.
        :raises InputError: if the package names a path outside its root, or cannot be read.
        """
        existing = self.find("trees", sha256)
        if existing is None:
            return self._add_tree(artifact, filename, sha256)
        check_artifact(artifact, filename, sha256)
        for entry in (existing, artifact, self.place("lists", sha256)):
            self.use(entry)
        wholly = self.heal or instead is not None
        altered = self._first_altered(existing, artifact, filename, sha256, hashing=wholly)
        if altered is None:
            return StoredTree(path=existing, fresh=wholly, artifact=artifact)
        if instead is not None:
            directory = make_directory(instead / sha256)
            fresh = _unpack(artifact, filename, sha256, directory)
            return StoredTree(path=fresh, fresh=True, artifact=artifact)
        if not self.heal:
            raise _altered(existing, filename, altered)
        self.drop(existing)
        return self._add_tree(artifact, filename, sha256)

    def confirm(self, tree: Path, artifact: Path, filename: str, sha256: str) -> None:
        """Decide about a tree in which a file is not what its package says: unpack another and compare.

        Some packages are wrong about their own files; then the two are alike.

        :raises CouldNotError: if the tree was altered.
        """
        with self.scratch() as directory:
            altered = first_unlike(tree, _unpack(artifact, filename, sha256, directory))
        if altered is not None:
            raise _altered(tree, filename, altered)

    def proves(self, sha256: str) -> bool:
        """Whether an artifact is not needed: its tree is there, and a list of it that can be believed."""
        return self.find("trees", sha256) is not None and self._list(sha256) is not None

    def proven_tree(self, filename: str, sha256: str) -> StoredTree:
        """The tree of an artifact that is not needed, held against its list: all of it is hashed here.

        :raises CouldNotError: if it is not there, or was altered.
        """
        tree, listing = self.find("trees", sha256), self._list(sha256)
        if tree is None or listing is None:  # somebody else prunes
            raise CouldNotError(
                f"{filename} is not in the store any more",
                at=str(self.root),
                do="the same command again, which says what is missing",
            )
        altered = first_unlisted(tree, listing)
        if altered is not None:
            raise _altered(tree, filename, altered)
        for entry in (tree, self.place("lists", sha256)):
            self.use(entry)
        return StoredTree(path=tree, fresh=False, artifact=None)

    def has_list(self, sha256: str) -> bool:
        """Whether the layer that is written to has a list of the artifact's tree, whosoever."""
        return self.place("lists", sha256).exists()

    def add_list(self, sha256: str, tree: Path, known: Mapping[str, str]) -> None:
        """Write down what is in a tree, all of which was proven.

        :param known: the sha256 of files of it that were hashed already, by path.
        """
        self._put("lists", sha256, lambda path: write_listing(path, list_tree(tree, known)))

    def _list(self, sha256: str) -> Listing | None:
        ours = self._own("lists", sha256)
        return None if ours is None else read_listing(ours)

    def runtime(self, key: str) -> Path | None:
        """What is noted about the runtime that was made of what ``key`` says; ``None`` if nothing is."""
        return self._own("runtimes", key)

    def add_runtime(self, key: str, text: str) -> None:
        """Note something about a runtime that was made; the runtime itself is an artifact."""
        self._put("runtimes", key, lambda path: path.write_text(text, encoding="utf-8"))

    def _own(self, kind: str, name: str) -> Path | None:
        """A file that nothing but its owner speaks for: as with bytecode, the caller's own or root's."""
        candidates = (layer / kind / name[:2] / name for layer in self.layers)
        return next((path for path in candidates if _is_ours(path, stat.S_ISREG)), None)

    def _put(self, kind: str, name: str, write: Callable[[Path], object]) -> None:
        final = self.place(kind, name)
        with self.scratch() as directory:
            write(directory / "file")
            (directory / "file").chmod(0o644)
            self._make(final.parent)
            with suppress(OSError):
                (directory / "file").replace(final)

    def bytecode(self, key: str, sha256: str) -> Path | None:
        """The directory of the bytecode that ``key`` made of an artifact; ``None`` if there is none to use.

        No hash in a lockfile speaks for it.  So it is taken only from whom the caller must trust anyway:
        from the caller and from root.
        """
        candidates = (layer / "bytecode" / key / sha256[:2] / sha256 for layer in self.layers)
        return next((path for path in candidates if _is_ours(path, stat.S_ISDIR)), None)

    def add_bytecode(self, key: str, sha256: str, write: Callable[[Path], object]) -> None:
        """Keep bytecode: ``write`` is given an empty directory and fills it.

        Somebody else's that is there already stays, even if it is of no use here.
        """
        final = self.place("bytecode", sha256, key)
        if final.exists():
            return
        with self.scratch() as directory:
            fresh = directory / "bytecode"
            fresh.mkdir()
            fresh.chmod(0o755)
            write(fresh)
            self._make(final.parent)
            with suppress(OSError):
                fresh.rename(final)

    def drop(self, path: Path) -> None:
        """Take an entry out of the layer that is written to; in another one it stays.

        :raises OSError: if that is not permitted.
        """
        if path.is_relative_to(self.root):
            with suppress(FileNotFoundError):  # somebody else was faster
                discard(path, self._make(self.root / "tmp"))

    def scratch(self) -> AbstractContextManager[Path]:
        """A directory of one's own on the store's file system, removed afterwards."""
        return scratch(self._make(self.root / "tmp"))

    def clean(self) -> None:
        """Remove what killed runs have left."""
        for directory in (self.root, self.root / "tmp"):
            sweep(directory)
        drop_partials(self.root / "tmp", lambda sha256: self.artifact(sha256) is None)

    def find(self, kind: str, sha256: str) -> Path | None:
        """Where a layer has the artifact or the tree, unchecked; ``None`` if none does."""
        candidates = (layer / kind / sha256[:2] / sha256 for layer in self.layers)
        return next((path for path in candidates if path.exists()), None)

    def place(self, kind: str, sha256: str, key: str = "") -> Path:
        """Where something is, or would be, in the layer that is written to."""
        return self.root / kind / key / sha256[:2] / sha256

    def use(self, path: Path) -> None:
        """Note that an entry is in use: ``store prune`` goes by the time."""
        if path.is_relative_to(self.root):
            with suppress(OSError):  # somebody else's, or read-only
                os.utime(path)

    def _make(self, directory: Path) -> Path:
        """Make a directory of the store with the permissions that the store itself has.

        It is there with them from the first instant: another user may want to write into it in the next.
        """
        missing = [part for part in (directory, *directory.parents) if not part.exists()]
        if self.root in missing:
            return make_directory(directory)
        mode = stat.S_IMODE(self.root.stat().st_mode)
        for part in reversed(missing):
            for _ in range(_TRIES):
                if part.is_dir() or self._made(part, mode):
                    break
        return directory

    def _made(self, part: Path, mode: int) -> bool:
        with scratch(self.root) as beside:
            made = beside / "made"
            made.mkdir()
            made.chmod(mode)
            try:
                made.rename(part)
            except FileNotFoundError:  # what it was to lie in was just exchanged for another of the kind
                return False
            except OSError:
                if not part.is_dir():  # else somebody else was faster
                    raise
        return True

    def _add_tree(self, artifact: Path, filename: str, sha256: str) -> StoredTree:
        final = self.place("trees", sha256)
        with self.scratch() as directory:
            fresh = _unpack(artifact, filename, sha256, directory)
            self._make(final.parent)
            try:
                fresh.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was faster, with the same content
                    raise
                return StoredTree(path=final, fresh=False, artifact=artifact)
        return StoredTree(path=final, fresh=True, artifact=artifact)

    def _first_altered(
        self, tree: Path, artifact: Path, filename: str, sha256: str, *, hashing: bool
    ) -> str | None:
        with suppress(InputError):
            if filename.endswith(".whl"):
                contents = read_wheel(artifact, filename)
                altered = first_altered_wheel_file(tree, contents, hashing=hashing)
            else:
                scratch = self._make(self.root / "tmp")
                altered = first_altered(tree, artifact, filename, hashing=hashing, scratch=scratch)
            if altered is None:
                return None
        # It may be wrong about its own files, or be of a kind that can be unpacked and not read: only a
        # second one can tell.
        with self.scratch() as directory:
            return first_unlike(tree, _unpack(artifact, filename, sha256, directory))


def _unpack(artifact: Path, filename: str, sha256: str, directory: Path) -> Path:
    """Hash an artifact and unpack it into a new directory below ``directory``, which is empty."""
    if not filename.endswith(".whl"):
        return extract_package(artifact, filename, sha256, directory)
    if not artifact.is_file():
        raise CouldNotError(
            f"{filename} is missing",
            at=str(artifact),
            do="envforge mirror conda-lock.yml DIR   # fetches what is missing",
        )
    check_artifact(artifact, filename, sha256)
    tree = directory / "tree"
    tree.mkdir()
    tree.chmod(0o755)
    unpack_wheel(artifact, filename, tree)
    return tree


def _is_ours(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return kind(status.st_mode) and status.st_uid in (0, os.geteuid()) and not writable


def _altered(tree: Path, filename: str, name: str) -> EnvforgeError:
    return CouldNotError(
        f"the store's copy of {filename} was altered: {name}",
        at=str(tree / name),
        do=f"rm -rf {shlex.quote(str(tree))}   # then the same command again; it is unpacked anew",
    )
