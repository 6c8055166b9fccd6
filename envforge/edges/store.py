"""The store: artifacts as downloaded and as extracted, both known by the sha256 of the artifact.

::

    STORE/artifacts/ab/ab12…      the file, without its name
    STORE/trees/ab/ab12…/         a conda package as extracted
    STORE/tmp/                    what is being written; everything lands by rename

A store may be shared, and layered: the first layer is written to, the others are only read.  It is not
believed.  An artifact is hashed each time it is used, and an extracted tree is held against the artifact
it came from (:mod:`envforge.edges.extract` says how).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from envforge.edges.extract import (
    check_artifact,
    extract_package,
    first_altered,
    first_unlike,
    normal_mode,
)
from envforge.edges.hashing import file_sha256
from envforge.edges.scratch import make_directory, remove_tree, scratch, sweep
from envforge.errors import CouldNotError, InputError

__all__ = ["Store", "file_sha256", "make_directory", "normal_mode", "remove_tree"]


class Store:
    """A layered store.

    :param root: the layer that is written to; made when first needed.
    :param lower: layers that are only read, looked at in this order after ``root``.
    """

    def __init__(self, root: Path, lower: Sequence[Path] = ()) -> None:
        self.root = root
        self.layers = (root, *lower)

    def artifact(self, sha256: str) -> Path | None:
        """Where the artifact lies, unhashed; ``None`` if no layer has it."""
        return self._find("artifacts", sha256)

    def add_artifact(self, sha256: str, write: Callable[[Path], object]) -> Path:
        """Store an artifact: ``write`` is given a path that does not exist yet and fills it.

        ``write`` checks the hash itself and raises if it is wrong; nothing is left then.
        """
        final = self._place("artifacts", sha256)
        with self.scratch() as directory:
            partial = directory / "artifact"
            write(partial)
            partial.chmod(0o644)
            make_directory(final.parent)
            partial.replace(final)
        return final

    def tree(self, artifact: Path, filename: str, sha256: str, *, instead: Path | None = None) -> Path:
        """The extracted tree of a conda package, proven to be what the artifact holds.

        :param artifact: the package file; its content is hashed here.
        :param filename: its real name, ``NAME-VERSION-BUILD.conda`` or ``.tar.bz2``.
        :param sha256: what the lockfile says.
        :param instead: a directory to extract into where the stored tree was altered.
        :raises CouldNotError: if the artifact is not the one of the lockfile, or a stored tree was altered
            and there is no ``instead``.
        :raises InputError: if the package names a path outside its root, or cannot be read.
        """
        existing = self._find("trees", sha256)
        if existing is not None:
            check_artifact(artifact, filename, sha256)
            altered = self._first_altered(existing, artifact, filename, sha256)
            if altered is None:
                return existing
            if instead is None:
                raise _altered(existing, filename, altered)
            directory = make_directory(instead / sha256)
            return extract_package(artifact, filename, sha256, directory)
        final = self._place("trees", sha256)
        with self.scratch() as directory:
            fresh = extract_package(artifact, filename, sha256, directory)
            make_directory(final.parent)
            try:
                fresh.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was faster, with the same content
                    raise
                altered = self._first_altered(final, artifact, filename, sha256)
                if altered is not None:
                    raise _altered(final, filename, altered) from None
        return final

    def scratch(self) -> AbstractContextManager[Path]:
        """A directory of one's own on the store's file system, removed afterwards."""
        return scratch(self.root / "tmp")

    def clean(self) -> None:
        """Remove what killed runs have left."""
        sweep(self.root / "tmp")

    def _find(self, kind: str, sha256: str) -> Path | None:
        candidates = (layer / kind / sha256[:2] / sha256 for layer in self.layers)
        return next((path for path in candidates if path.exists()), None)

    def _place(self, kind: str, sha256: str) -> Path:
        return self.root / kind / sha256[:2] / sha256

    def _first_altered(self, tree: Path, artifact: Path, filename: str, sha256: str) -> str | None:
        with self._suffixed(artifact, filename) as named, suppress(InputError):
            if first_altered(tree, named, filename) is None:
                return None
        # It may be wrong about its own files, or be of a kind that can be extracted and not read: only a
        # second extraction can tell.
        with self.scratch() as directory:
            return first_unlike(tree, extract_package(artifact, filename, sha256, directory))

    @contextmanager
    def _suffixed(self, artifact: Path, filename: str) -> Iterator[Path]:
        """``artifact`` under a name that says what kind of archive it is; in a mirror it has that already."""
        suffix = ".conda" if filename.endswith(".conda") else ".tar.bz2"
        if artifact.name.endswith(suffix):
            yield artifact
            return
        with self.scratch() as directory:
            named = directory / f"package{suffix}"
            named.symlink_to(artifact.resolve())
            yield named


def _altered(tree: Path, filename: str, name: str) -> CouldNotError:
    return CouldNotError(
        f"the store's copy of {filename} was altered: {name}",
        at=str(tree / name),
        do=f"rm -rf {shlex.quote(str(tree))}   # then the same command again; it is extracted anew",
    )
