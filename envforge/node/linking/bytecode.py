"""Bytecode for every source of an environment, so that nobody writes into a generation later.

``unchecked-hash`` (PEP 552): it holds whatever the time stamps become, on a read-only disk and in an image
with clamped times, and Python does not read the source to believe it.

It names a source by its path in the environment, not by where that is: so it is the same in every environment
with that package and that Python, and the store keeps it (``STORE/bytecode``) with a list of its hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from envforge.edges.hashing import file_sha256
from envforge.edges.linking import Linker
from envforge.edges.process import Command, run
from envforge.edges.scratch import is_full
from envforge.edges.store import Store
from envforge.errors import CouldNotError
from envforge.reporting import Reporter

__all__ = ["Bytecode", "Compiler"]

WORKER = Path(__file__).with_name("bytecode_worker.py")
_LIST = "list.json"
_WORTH_A_PROCESS = 40  # sources that take as long as starting one
_MOST_A_PROCESS = 400  # a second or two of work, so that somebody who waits sees it go on
_POLICY = "1"
"""Part of the key; to be raised whenever :mod:`.bytecode_worker` makes something else."""


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """The Python that an environment is compiled with.

    :param python: its executable.
    :param version: its version, such as ``3.12.13``.
    :param identity: what tells it apart from every other: its package's sha256, or what it says of itself.
    """

    python: Path
    version: str
    identity: str

    @property
    def key(self) -> str:
        """What the store knows its bytecode by."""
        return hashlib.sha256(f"{_POLICY} {self.identity}".encode()).hexdigest()[:16]

    @property
    def can_compile(self) -> bool:
        """Whether its bytecode can be of the unchecked kind (PEP 552: from Python 3.7)."""
        major, minor = (int("".join(filter(str.isdigit, part))) for part in self.version.split(".")[:2])
        return (major, minor) >= (3, 7)


@dataclass(kw_only=True)
class Bytecode:
    """What was done about the sources of one tree.

    ``expected`` are the hashes that bytecode of the store must have, by path, with the file there; ``failed``
    the sources that do not compile, sorted; ``made``, by artifact, the sources that were compiled now, with
    the path of their bytecode, ``None`` where there is none.
    """

    expected: dict[str, tuple[str, Path]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    made: dict[str, dict[str, str | None]] = field(default_factory=dict)

    @classmethod
    def settle(
        cls,
        tree: Path,
        library: str,
        artifacts: Mapping[str, str],
        compiler: Compiler,
        *,
        store: Store | None,
        linker: Linker,
        jobs: int,
        reporter: Reporter,
    ) -> Bytecode:
        """Have bytecode for every source below ``library`` of the environment at ``tree``.

        :param library: where to look, relative to the prefix: ``lib/pythonX.Y``.
        :param artifacts: the sha256 of the artifact that a source is an unchanged file of, by path.
        :param store: where bytecode is kept; ``None`` if all of it must be made here and now.
        :param jobs: how many processes may compile at once.
        :raises CouldNotError: if the environment's Python does not run, or there is no room.
        """
        done = cls()
        if not compiler.can_compile:
            return done
        sources = _sources(tree, library)
        if store is not None:
            sources = done._take(tree, sources, artifacts, _Kept(store, compiler.key), linker)
        size = min(_MOST_A_PROCESS, max(_WORTH_A_PROCESS, -(-len(sources) // jobs)))
        shares = [sources[start : start + size] for start in range(0, len(sources), size)]
        if shares:
            task = reporter.task("compiling bytecode", len(sources), "files")
            with task as progress, ThreadPoolExecutor(jobs) as pool:
                for made in pool.map(lambda share: _compile(tree, compiler.python, share), shares):
                    done._note(made, artifacts)
                    progress.advance(len(made))
        done.failed.sort()
        return done

    def _take(
        self,
        tree: Path,
        sources: Sequence[str],
        artifacts: Mapping[str, str],
        kept: _Kept,
        linker: Linker,
    ) -> list[str]:
        """Link what the store has; returns the sources whose bytecode it has not."""
        missing = []
        for source in sources:
            found = kept.of(artifacts.get(source), source)
            if found is None:
                self.failed.append(source)
            elif found and _put(found.file, tree, found.path, linker):
                self.expected[found.path] = (found.sha256, found.file)
            else:
                missing.append(source)
        return missing

    def _note(self, made: Mapping[str, str | None], artifacts: Mapping[str, str]) -> None:
        for source, path in made.items():
            if path is None:
                self.failed.append(source)
            if source in artifacts:
                self.made.setdefault(artifacts[source], {})[source] = path

    def keep(
        self, tree: Path, hashes: Mapping[str, str], compiler: Compiler, store: Store, linker: Linker
    ) -> None:
        """Keep what was compiled now in the store, per artifact.

        :param hashes: the sha256 of every file of the tree, by path.
        """
        for sha256, sources in self.made.items():

            def write(directory: Path, sources: Mapping[str, str | None] = sources) -> None:
                listed: dict[str, list[str] | None] = {}
                for number, (source, path) in enumerate(sorted(sources.items())):
                    listed[source] = None if path is None else [str(number), path, hashes[path]]
                    if path is not None:
                        linker.place(f"{tree}/{path}", f"{directory}/{number}")
                text = json.dumps(listed, separators=(",", ":"))
                (directory / _LIST).write_text(text, encoding="utf-8")
                (directory / _LIST).chmod(0o644)

            store.add_bytecode(compiler.key, sha256, write)


class _KeptFile(NamedTuple):
    """A file of bytecode in the store, its path in a prefix, and its sha256."""

    file: Path
    path: str
    sha256: str


class _Kept:
    """The bytecode that the store has for one Python."""

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._listed: dict[str, Mapping[str, _KeptFile | None]] = {}

    def of(self, artifact: str | None, source: str) -> _KeptFile | tuple[()] | None:
        """That of one source; empty if the store has none, ``None`` if it is known not to compile."""
        if artifact is None:
            return ()
        if artifact not in self._listed:
            directory = self._store.bytecode(self._key, artifact)
            listed = {} if directory is None else _read_list(directory)
            if directory is not None:
                self._store.use(directory)
            if directory is not None and self._store.heal and not _intact(listed):
                self._store.drop(directory)
                listed = {}
            self._listed[artifact] = listed
        return self._listed[artifact].get(source, ())


def _read_list(directory: Path) -> dict[str, _KeptFile | None]:
    """What is kept, by source; ``None`` for what does not compile.  What cannot be read is not there."""
    try:
        listed = json.loads((directory / _LIST).read_bytes())
        return {source: _kept_file(directory, source, entry) for source, entry in listed.items()}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return {}


def _intact(listed: Mapping[str, _KeptFile | None]) -> bool:
    try:
        return all(kept is None or file_sha256(kept.file) == kept.sha256 for kept in listed.values())
    except CouldNotError:
        return False


def _kept_file(directory: Path, source: str, entry: list[str] | None) -> _KeptFile | None:
    if entry is None:
        return None
    return _KeptFile(directory / str(int(entry[0])), _below(source, entry[1]), str(entry[2]))


def _below(source: str, path: object) -> str:
    """``path`` if it is that of bytecode of ``source``.

    :raises ValueError: else.
    """
    folder, _, name = source.rpartition("/")
    stem = name.removesuffix(".py")
    text = str(path)
    if not text.startswith(f"{folder}/__pycache__/{stem}.") or "/" in text[len(folder) + 13 :]:
        raise ValueError(text)
    return text


def _put(kept: Path, tree: Path, path: str, linker: Linker) -> bool:
    target = f"{tree}/{path}"
    try:
        os.unlink(target)  # noqa: PTH108 - what the package brought
    except FileNotFoundError:
        folder = os.path.dirname(target)  # noqa: PTH120
        if not os.path.isdir(folder):  # noqa: PTH112
            os.mkdir(folder)  # noqa: PTH102
    try:
        linker.place(str(kept), target)
    except FileNotFoundError:
        return False
    return True


def _sources(tree: Path, library: str) -> list[str]:
    """Every source, relative to ``tree`` and sorted; no link of a package leads out of the tree."""
    found: list[str] = []
    root, left = os.path.realpath(tree), [library]
    while left:
        folder = left.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            listed = list(entries)
        # Bytecode would be written to where a link of that name leads.
        closed = any(entry.name == "__pycache__" and entry.is_symlink() for entry in listed)
        for entry in listed:
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                left.append(name)
            elif not closed and name.endswith(".py") and _inside(entry, root):
                found.append(name)
    return sorted(found)


def _inside(entry: os.DirEntry[str], root: str) -> bool:
    if not entry.is_symlink():
        return entry.is_file()
    end = os.path.realpath(entry.path)
    return end.startswith(f"{root}/") and os.path.isfile(end)  # noqa: PTH113


def _compile(tree: Path, python: Path, sources: Sequence[str]) -> dict[str, str | None]:
    """Compile; returns the path of each source's bytecode, ``None`` where it does not compile."""
    command = Command(
        argv=(str(python), "-S", "-s", "-B", "-X", "utf8", str(WORKER), str(tree)),
        env={"PYTHONHASHSEED": "0"},
    )
    done = run(command, stdin="".join(f"{source}\0" for source in sources))
    if done.returncode != 0:
        full = is_full(done.stderr)
        raise CouldNotError(
            "there is no room for the bytecode" if full else "the environment's Python does not run here",
            at=str(python),
            do="df -h . ; df -i . ; quota"
            if full
            else "compare the machine with what was assumed: envforge lock --glibc, -p",
            story=done.stderr,
        )
    told = done.stdout.split("\0")
    return {source: path or None for source, path in zip(told[:-1:2], told[1::2], strict=True)}
