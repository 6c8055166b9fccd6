"""``list``: what a lockfile, mirror, bundle or environment holds; the environments below a directory."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from envforge.edges.environments import read_environment
from envforge.edges.installed import environment_kind
from envforge.errors import EnvforgeError, InputError
from envforge.formats import lock_json
from envforge.model.built import built_wheels
from envforge.model.graph import Asked
from envforge.model.holding import Holding
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.manifest import Manifest
from envforge.model.receipt import Receipt
from envforge.model.spec import EnvironmentSpec
from envforge.node.prefix import Prefix
from envforge.node.proving.receipts import read_receipt
from envforge.node.proving.scan import RECEIPT
from envforge.node.sources.bundles import Bundle, is_bundle
from envforge.node.sources.documents import read_document
from envforge.node.sources.source import MirrorSource
from envforge.reporting import Reporter

__all__ = ["Survey", "holding", "holding_of_text", "survey"]

_CONDA_NAME = re.compile(r"(?:[^\s\[\]=<>!]+::)?(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LARGEST = 100_000_000
"""Bytes of a lockfile; the largest that are known have a tenth of that."""
_WRONG = "name a lockfile, a mirror, a bundle or a prefix"


def holding(source: str, *, lock: str | None = None, reporter: Reporter | None = None) -> Holding:
    """What ``source`` holds.

    :param source: the path of a lockfile, mirror, bundle, prefix, conda environment or virtual environment;
        or ``REVISION:PATH``, a lockfile as git has it.
    :param lock: which lock of a mirror, by name; may be left out where there is one.
    :param reporter: told of what has to be left out.
    :raises InputError: if it is none of these, or cannot be used.
    :raises CouldNotError: if it cannot be read.
    """
    path = Path(source)
    if not os.path.lexists(path) and ":" in source:
        return _of_revision(source)
    if path.is_dir():
        return _of_directory(path, lock, reporter or Reporter())
    if is_bundle(path):
        return _of_bundle(Bundle(path))
    if path.is_symlink() and not path.exists():
        read_receipt(path)  # which says what is wrong with it
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError("larger than 100 MB, and no bundle", at=source, do=_WRONG)
        text = read_document(path, "the lockfile", do=_WRONG)
    except FileNotFoundError as error:
        raise _nothing_there(source) from error
    beside = path.absolute().parent

    def read(name: str) -> str:
        return read_document(beside / name, "the specification", do=_WRONG)

    return holding_of_text(text, source, read)


def _nothing_there(source: str) -> InputError:
    from envforge.edges.git import is_revision

    what, do = "no such lockfile, mirror, bundle or prefix", "name one, or envforge lock"
    if is_revision(source):
        what, do = f"{what}, but a revision of git", f"name the file, too: {source}:./conda-lock.yml"
    return InputError(what, at=source, do=do)


def _of_directory(path: Path, lock: str | None, reporter: Reporter) -> Holding:
    if (path / RECEIPT).is_file():
        return _of_prefix(path)
    if environment_kind(path) is not None:
        return read_environment(path, reporter=reporter)
    mirror = MirrorSource(path, lock)
    return Holding(
        source=str(path),
        kind="mirror",
        lockfile=mirror.lockfile,
        sizes=_artifact_sizes(mirror.lockfile, mirror.manifest),
    )


def _of_prefix(path: Path) -> Holding:
    tree, receipt = read_receipt(path)
    text = read_document(tree / ".envforge" / "lock.json", "the lock", do="install again")
    try:
        lockfile, _ = lock_json.read(text)
    except InputError as error:
        raise error.inside(str(tree / ".envforge" / "lock.json")) from None
    installed = Lockfile(
        packages=receipt.packages,
        channels=lockfile.channels,
        platforms=(receipt.platform,),
        custom=lockfile.custom,
    )
    return Holding(
        source=str(path),
        kind="prefix",
        lockfile=installed,
        groups=receipt.groups,
        sizes=_installed_sizes(receipt),
    )


def _of_bundle(bundle: Bundle) -> Holding:
    lockfile, contents = bundle.lock()[0], bundle.contents
    carried = Lockfile(
        packages=lockfile.rows(contents.platform, contents.groups),
        channels=lockfile.channels,
        platforms=(contents.platform,),
        custom=lockfile.custom,
    )
    return Holding(
        source=str(bundle.path),
        kind="bundle",
        lockfile=carried,
        groups=contents.groups,
        sizes=_artifact_sizes(carried, bundle.manifest),
    )


def _of_revision(name: str) -> Holding:
    from envforge.edges.git import read_blob

    revision, _, path = name.partition(":")
    beside = PurePosixPath(path).parent

    def read(source: str) -> str:
        place = os.path.normpath(beside / source).replace(os.sep, "/")
        dot = "./" if path.startswith(("./", "../")) else ""
        return _decoded(read_blob(f"{revision}:{dot}{place}"), source)

    return holding_of_text(_decoded(read_blob(name), name), name, read)


def _decoded(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("not a text file (UTF-8)", at=place, do=_WRONG) from error


def holding_of_text(text: str, source: str, read: Callable[[str], str]) -> Holding:
    """What the text of a lockfile holds.

    :param source: its name, for errors.
    :param read: gives the text of a file that the lockfile names, relative to it.
    :raises InputError: if it is no lockfile.
    """
    from envforge.formats import conda_lock  # a node reads none of these, and has no YAML

    lockfile = conda_lock.read(text, source=source)
    return Holding(source=source, kind="lockfile", lockfile=lockfile, asked=_asked(lockfile, read))


# -- what was asked for --------------------------------------------------------------------------------


def _asked(lockfile: Lockfile, read: Callable[[str], str]) -> tuple[Asked, ...] | None:
    """The lines of the specification, ``None`` where one of its files cannot be read any more."""
    from envforge.formats.specification import read_specification

    if not lockfile.sources or any(PurePosixPath(source).is_absolute() for source in lockfile.sources):
        return None
    try:
        spec = read_specification(lockfile.sources, read=read, environment=_environment(lockfile))
    except (EnvforgeError, OSError):
        return None
    return tuple(asked_by(spec, lockfile))


def _environment(lockfile: Lockfile) -> str | None:
    """Which environment of a pixi manifest was locked."""
    with suppress(ValueError, AttributeError):
        found = json.loads(lockfile.custom.get("envforge.settings", "{}")).get("environment")
        return found if isinstance(found, str) else None
    return None


def asked_by(spec: EnvironmentSpec, lockfile: Lockfile) -> Iterator[Asked]:
    """What the lines of a specification ask for, by the names that they have in ``lockfile``."""
    for line in spec.conda:
        match = _CONDA_NAME.match(line.text)
        if match is not None:
            yield Asked(
                name=match["name"].lower(),
                manager="conda",
                text=line.text,
                at=line.at,
                platforms=line.platforms,
            )
    with suppress(InputError):
        projects = {built.source: built.name for _, built in built_wheels(lockfile)}
    for line in spec.pip:
        match = _PROJECT_NAME.match(line.text)
        name = (
            match[0] if match is not None else projects.get(line.text.strip().removeprefix("./").rstrip("/"))
        )
        if name is not None:
            yield Asked(
                name=canonical_name(name),
                manager="pip",
                text=line.text,
                at=line.at,
                platforms=line.platforms,
            )


# -- sizes ---------------------------------------------------------------------------------------------


def _artifact_sizes(lockfile: Lockfile, manifest: Manifest) -> Mapping[tuple[str, str, str], int]:
    """The size of every artifact that is there: a delta has not got all."""
    sizes = {file.sha256: file.size for file in manifest.files}
    return {
        (row.manager, row.name, row.platform): sizes[row.sha256]
        for row in lockfile.packages
        if row.sha256 in sizes
    }


def _installed_sizes(receipt: Receipt) -> Mapping[tuple[str, str, str], int]:
    """The bytes of the files that each package owns."""
    total: Counter[str] = Counter()
    for file in receipt.files:
        total[file.owner] += file.size or 0
    return {
        (row.manager, row.name, row.platform): total[f"{row.manager}:{row.name}"]
        for row in receipt.packages
        if f"{row.manager}:{row.name}" in total
    }


# -- below a directory ---------------------------------------------------------------------------------


@dataclass
class Survey:
    """The environments below a directory as they are found; ``unread`` is what cannot be read."""

    root: Path
    unread: list[Path] = field(default_factory=list)

    def paths(self) -> Iterator[Path]:
        """Every prefix, conda environment and virtual environment, in the order of their paths.

        Links are not followed, but for a prefix's own, and what lies in an environment is not looked at, but
        for the ``envs`` of a conda installation.
        """
        todo = [self.root]
        while todo:
            path = todo.pop()
            kind = _kind(path)
            if kind is not None:
                yield path
            if kind == "conda":
                todo += reversed(self._below(path / "envs"))
            elif kind is None and (path is self.root or not path.is_symlink()):
                todo += reversed(self._below(path))

    def _below(self, folder: Path) -> list[Path]:
        try:
            with os.scandir(folder) as entries:
                names = sorted(
                    entry.name
                    for entry in entries
                    if not entry.name.endswith(".generations")
                    and (entry.is_dir(follow_symlinks=False) or _is_prefix(entry))
                )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            self.unread.append(folder)
            return []
        return [folder / name for name in names]


def _is_prefix(entry: os.DirEntry[str]) -> bool:
    """Whether a link is a prefix of ours: its text says so."""
    if not entry.is_symlink():
        return False
    try:
        return os.readlink(entry.path).startswith(f"{entry.name}.generations{os.sep}")  # noqa: PTH115 - an entry
    except OSError:
        return False


def _kind(path: Path) -> str | None:
    if path.is_symlink():
        return "prefix" if Prefix(path).current() is not None else None
    try:
        return "prefix" if (path / RECEIPT).is_file() else environment_kind(path)
    except OSError:
        return None


def survey(root: Path) -> Survey:
    """A look at what lies below ``root``.

    :raises InputError: if that is no directory.
    """
    if not root.is_dir():
        raise InputError("no such directory", at=str(root), do=f"ls -ld {shlex.quote(str(root))}")
    return Survey(root)
