"""The store: artifacts as downloaded and as extracted, both known by the sha256 of the artifact.

::

    STORE/artifacts/ab/ab12…      the file, without its name
    STORE/trees/ab/ab12…/         a conda package as extracted
    STORE/tmp/                    what is being written; everything lands by rename

A store may be shared, and layered: the first layer is written to, the others are only read.  It is not
believed.  An artifact is hashed each time it is used, and an extracted tree is held against the artifact
it came from (its ``info/`` byte for byte, every other file against the sha256 in ``info/paths.json`` of the
hashed artifact), because a tree is reached from prefixes through hard links: an edit in one prefix is an
edit here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envforge.edges.archive import check_member, conda_info_files
from envforge.errors import CouldNotError, InputError

__all__ = ["Store", "file_sha256", "make_directory", "normal_mode", "remove_tree"]

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in lower-case hex.

    :raises CouldNotError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error
    return digest.hexdigest()


def normal_mode(mode: int) -> int:
    """The permission bits that a file gets everywhere: what its owner may do, all may, but for writing.

    A function of the package alone and not of the umask; setuid, setgid and group-write bits are dropped.
    """
    return 0o755 if mode & stat.S_IXUSR else 0o644


def make_directory(path: Path) -> Path:
    """Make ``path`` and what is missing above it, each readable by others whatever the umask.

    :raises CouldNotError: if that is not permitted or impossible.
    """
    missing = [part for part in (path, *path.parents) if not part.exists()]
    for part in reversed(missing):
        try:
            part.mkdir(exist_ok=True)
            part.chmod(0o755)
        except OSError as error:
            raise CouldNotError(
                f"cannot make the directory: {error.strerror or error}",
                at=str(part),
                do="choose a place that you may write to",
            ) from error
    return path


def remove_tree(path: Path) -> None:
    """Remove a directory tree, also one with read-only directories; nothing happens if it is not there."""

    def again(function: Callable[..., Any], name: str, _: object) -> None:
        if isinstance(_, FileNotFoundError) or (isinstance(_, tuple) and _[0] is FileNotFoundError):
            return
        parent = Path(name).parent
        parent.chmod(0o700)
        if Path(name).is_dir() and not Path(name).is_symlink():
            Path(name).chmod(0o700)
        function(name)

    shutil.rmtree(path, onerror=again)


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

    def tree(self, artifact: Path, filename: str, sha256: str) -> Path:
        """The extracted tree of a conda package, proven to be what the artifact holds.

        :param artifact: the package file; its content is hashed here.
        :param filename: its real name, ``NAME-VERSION-BUILD.conda`` or ``.tar.bz2``.
        :param sha256: what the lockfile says.
        :raises CouldNotError: if the artifact is not the one of the lockfile, or a stored tree was altered.
        :raises InputError: if the package names a path outside its root.
        """
        existing = self._find("trees", sha256)
        if existing is not None:
            _check_artifact(artifact, filename, sha256)
            self._check_tree(existing, artifact, filename, sha256)
            return existing
        final = self._place("trees", sha256)
        with self.scratch() as directory:
            fresh = _extract(artifact, filename, sha256, directory)
            make_directory(final.parent)
            try:
                fresh.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was faster, with the same content
                    raise
                self._check_tree(final, artifact, filename, sha256)
        return final

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A directory of one's own on the store's file system, removed afterwards."""
        make_directory(self.root / "tmp")
        directory = Path(tempfile.mkdtemp(prefix="work-", dir=self.root / "tmp"))
        try:
            yield directory
        finally:
            remove_tree(directory)

    def _find(self, kind: str, sha256: str) -> Path | None:
        candidates = (layer / kind / sha256[:2] / sha256 for layer in self.layers)
        return next((path for path in candidates if path.exists()), None)

    def _place(self, kind: str, sha256: str) -> Path:
        return self.root / kind / sha256[:2] / sha256

    def _check_tree(self, tree: Path, artifact: Path, filename: str, sha256: str) -> None:
        with self.scratch() as directory:
            info = conda_info_files(artifact, filename, scratch=directory)
        if _first_altered(tree, info) is None:
            return
        # A package may be wrong about its own files: only a second extraction can tell.
        with self.scratch() as directory:
            fresh = _extract(artifact, filename, sha256, directory)
            altered = _first_unlike(tree, fresh)
        if altered is not None:
            raise CouldNotError(
                f"the store's copy of {filename} was altered: {altered}",
                at=str(tree / altered),
                do=f"rm -rf '{tree}'   # then the same command again; it is extracted anew",
            )


def _check_artifact(artifact: Path, filename: str, sha256: str) -> None:
    found = file_sha256(artifact)
    if found != sha256:
        raise _wrong_artifact(artifact, filename, sha256, found)


def _wrong_artifact(artifact: Path, filename: str, sha256: str, found: str) -> CouldNotError:
    return CouldNotError(
        f"{filename} is not the file that was locked: sha256 {found[:16]}… instead of {sha256[:16]}…",
        at=str(artifact),
        do=f"rm '{artifact}'   # then carry it again, or: envforge mirror conda-lock.yml DIR",
    )


def _extract(artifact: Path, filename: str, sha256: str, directory: Path) -> Path:
    """Extract into ``directory`` and check everything that can be checked before it is believed."""
    from rattler.exceptions import ExtractError, IoError
    from rattler.package_streaming import extract

    if not artifact.is_file():
        raise CouldNotError(
            f"{filename} is missing",
            at=str(artifact),
            do="envforge mirror conda-lock.yml DIR   # fetches what is missing",
        )
    named = directory / filename  # py-rattler goes by the suffix
    named.symlink_to(artifact.resolve())
    tree = directory / "tree"
    try:
        found = extract(named, tree)[0].hex()
    except (ExtractError, IoError, OSError) as error:
        _check_artifact(artifact, filename, sha256)
        raise CouldNotError(
            f"cannot extract {filename}", at=str(artifact), do="df -h   # is the disk full?", story=str(error)
        ) from error
    if found != sha256:
        raise _wrong_artifact(artifact, filename, sha256, found)
    _check_paths(tree, filename)
    for base, directories, files in os.walk(tree):
        for name in directories:
            _settle(Path(base, name), 0o755)
        for name in files:
            path = Path(base, name)
            if not path.is_symlink():
                path.chmod(normal_mode(path.stat().st_mode))
    tree.chmod(0o755)
    return tree


def _settle(path: Path, mode: int) -> None:
    if not path.is_symlink():
        path.chmod(mode)


def _check_paths(tree: Path, filename: str) -> None:
    """No path that the package names may leave the root it is linked into."""
    root = Path(os.path.realpath(tree))
    for entry in _paths(_read_json(tree / "info" / "paths.json", filename)):
        name = str(entry.get("_path"))
        check_member(name, at=f"{filename}: info/paths.json")
        parent = Path(os.path.realpath((tree / name).parent))
        if not parent.is_relative_to(root):
            raise InputError(
                f"{name} lies behind a symlink that leaves the package",
                at=f"{filename}: info/paths.json",
                do="do not install this package; ask its channel",
            )
    link = tree / "info" / "link.json"
    if link.exists():
        noarch = _read_json(link, filename).get("noarch") or {}
        for point in noarch.get("entry_points") or []:
            command = str(point).partition("=")[0].strip()
            check_member(command, at=f"{filename}: info/link.json")
            if "/" in command:
                raise InputError(f"the entry point {command!r} is no file name", at=filename)


def _read_json(path: Path, filename: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{filename} has no {path.parent.name}/{path.name}",
            do="lock a newer build of the package; this one is too old to be proven",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{filename}: {path.name} cannot be read", at=str(path), story=str(error)) from error
    if not isinstance(value, dict):
        raise InputError(f"{filename}: {path.name} is no mapping", at=str(path))
    return value


def _paths(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    paths = document.get("paths")
    return [entry for entry in paths if isinstance(entry, dict)] if isinstance(paths, list) else []


def _first_altered(tree: Path, info: Mapping[str, bytes]) -> str | None:
    """The first path of a stored tree that is not what the artifact's own ``info/`` says."""
    for name, content in info.items():
        path = tree / name
        if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            return name
    document = json.loads(info["info/paths.json"]) if "info/paths.json" in info else {}
    for entry in _paths(document):
        name, path = str(entry.get("_path")), tree / str(entry.get("_path"))
        if entry.get("path_type") == "softlink":
            # The listed hash is that of the target's content; the link's own text is not in paths.json.
            inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(tree))
            if not (path.is_symlink() and inside and path.is_file()):
                return name
            if file_sha256(path) != entry.get("sha256"):
                return name
        elif entry.get("path_type") == "hardlink" and (
            path.is_symlink() or not path.is_file() or file_sha256(path) != entry.get("sha256")
        ):
            return name
    return None


def _first_unlike(tree: Path, fresh: Path) -> str | None:
    """The first path, relative to both, at which two extracted trees differ."""
    for base, directories, files in os.walk(fresh):
        for name in sorted(directories + files):
            path = Path(base, name)
            other = tree / path.relative_to(fresh)
            if not _alike(path, other):
                return str(path.relative_to(fresh))
    return None


def _alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir():
        return other.is_dir()
    return other.is_file() and file_sha256(one) == file_sha256(other)
