"""Where artifacts come from.

An :class:`ArtifactSource` gives a lockfile and, for each of its rows, a local file.  The file is not
believed: whoever uses it hashes it first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from envforge.edges.store import Store, file_sha256
from envforge.errors import CouldNotError, InputError
from envforge.formats import lock_json
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.manifest import Manifest
from envforge.node.sources.documents import read_document
from envforge.node.sources.mirrors import read_manifest

__all__ = ["ArtifactSource", "BareSource", "MirrorSource", "StoreSource", "lock_packages", "read_lock_json"]


class ArtifactSource(Protocol):
    """A lockfile and its artifacts, all local."""

    @property
    def lockfile(self) -> Lockfile:
        """The lock that is to be installed."""

    @property
    def lockfile_sha256(self) -> str:
        """sha256 of the YAML file that is shared, in hex."""

    @property
    def runtime(self) -> str | None:
        """sha256 of the runtime that an environment is given, if the source carries one."""

    def runtime_archive(self) -> Path:
        """The archive of that runtime, not hashed yet.

        :raises CouldNotError: if it is not there.
        """

    def prepare(self, rows: Sequence[LockedPackage]) -> None:
        """Have the artifacts of ``rows`` at hand; called once something is to be made of them.

        :raises CouldNotError: if one cannot be had.
        """

    def artifact(self, package: LockedPackage) -> Path:
        """The file of one row, not hashed yet.

        :raises CouldNotError: if it is not there.
        """

    def peek(self, package: LockedPackage) -> Path | None:
        """The file of one row if it can be looked at without anything being written."""

    def unpacked(self, package: LockedPackage) -> bool:
        """Whether the artifact of one row is neither at hand nor needed.

        The store then has what was unpacked from it, and can prove that.
        """

    def estimate(self) -> tuple[int, int] | None:
        """About how many bytes and files installing all of it writes, where the source itself says so."""


class _WithoutRuntime:
    """What a source is that carries no runtime: envforge is on the node already."""

    @property
    def runtime(self) -> str | None:
        """None."""
        return None

    def runtime_archive(self) -> Path:
        """Nobody asks for it.

        :raises CouldNotError: always.
        """
        raise CouldNotError("this source carries no runtime")

    def estimate(self) -> tuple[int, int] | None:
        """None: its artifacts can be looked at."""
        return None


class BareSource(_WithoutRuntime):
    """A source without the runtime that it carries."""

    def __init__(self, source: ArtifactSource) -> None:
        self._source = source
        self.lockfile = source.lockfile
        self.lockfile_sha256 = source.lockfile_sha256
        self.prepare = source.prepare
        self.artifact = source.artifact
        self.peek = source.peek
        self.unpacked = source.unpacked


class MirrorSource(_WithoutRuntime):
    """A mirror directory.

    :param name: which of its locks; may be left out where there is one.
    :param given: a lockfile from elsewhere and the sha256 of its file, instead of one of the mirror's own.
    :raises InputError: if this is no mirror, or the name must be given or does not exist.
    """

    def __init__(
        self, directory: Path, name: str | None = None, *, given: tuple[Lockfile, str] | None = None
    ) -> None:
        self.directory = directory
        self.manifest: Manifest = read_manifest(directory)
        self.name = "" if given else _choose(self.manifest, name, directory)
        """Which of its locks; empty for one from elsewhere."""
        self.lockfile, self.lockfile_sha256 = given or read_lock_json(
            directory / "locks" / f"{self.name}.json"
        )
        self._by_sha256 = {file.sha256: file.path for file in self.manifest.files}

    def prepare(self, rows: Sequence[LockedPackage]) -> None:
        """Nothing: a mirror has its artifacts."""

    def artifact(self, package: LockedPackage) -> Path:
        """The file in the mirror whose listed sha256 is the row's.

        :raises CouldNotError: if the mirror has no such file.
        """
        relative = self._by_sha256.get(package.sha256 or "")
        path = self.directory / relative if relative is not None else None
        if path is None or not path.is_file():
            raise CouldNotError(
                f"the mirror lacks {package.filename}",
                at=str(path or self.directory),
                do="carry it again, or where there is network: envforge mirror conda-lock.yml DIR",
            )
        return path

    def unpacked(self, package: LockedPackage) -> bool:  # noqa: ARG002 - as the others have it
        """No: a mirror has its artifacts."""
        return False

    def peek(self, package: LockedPackage) -> Path | None:
        """The file in the mirror, ``None`` if it is not there."""
        relative = self._by_sha256.get(package.sha256 or "")
        return None if relative is None else self.directory / relative


class StoreSource(_WithoutRuntime):
    """A lockfile whose artifacts are in the store, or will be once they are needed.

    :param fetch: has the artifacts of some rows in the store.
    """

    def __init__(
        self,
        lockfile: Lockfile,
        lockfile_sha256: str,
        store: Store,
        fetch: Callable[[Sequence[LockedPackage]], None],
    ) -> None:
        self.lockfile = lockfile
        self.lockfile_sha256 = lockfile_sha256
        self._store = store
        self._fetch = fetch

    def prepare(self, rows: Sequence[LockedPackage]) -> None:
        """Fetch what the store lacks."""
        self._fetch(rows)

    def unpacked(self, package: LockedPackage) -> bool:  # noqa: ARG002 - as the others have it
        """No: what is lacking is fetched."""
        return False

    def peek(self, package: LockedPackage) -> Path | None:
        """The file in the store, ``None`` if it is not there yet."""
        return self._store.artifact(package.sha256 or "")

    def artifact(self, package: LockedPackage) -> Path:
        """The file in the store.

        :raises CouldNotError: if no layer of the store has it.
        """
        path = self._store.artifact(package.sha256 or "")
        if path is None:
            raise CouldNotError(
                f"{package.filename} is not in the store",
                at=str(self._store.root),
                do="fetch it: envforge mirror conda-lock.yml DIR, then envforge install DIR --prefix P",
            )
        return path


def lock_packages(
    lockfile: Lockfile, platform: str, groups: Iterable[str], *, python: str | None = None
) -> tuple[LockedPackage, ...]:
    """The rows to install, each of a kind that can be installed and proven.

    :param python: the interpreter that wheels are to be installed for, where no conda package brings one.
    :raises InputError: for a platform that is not locked, a row without sha256, an sdist, or pip rows
        with no Python to install them into.
    """
    rows = lockfile.rows(platform, groups)
    for row in rows:
        if row.sha256 is None:
            raise InputError(
                f"{row.name} {row.version} is locked without a sha256",
                at=f"package {row.name} ({row.manager}, {row.platform})",
                do="lock it again as a wheel or a conda package: what has no hash cannot be proven",
            )
        if row.manager == "pip" and not row.is_wheel:
            raise InputError(
                f"{row.name} {row.version} is locked as a source distribution",
                at=row.filename,
                do=f"take {row.name} from conda, or lock a version that has a wheel",
            )
    conda = {row.name for row in rows if row.manager == "conda"}
    if python is not None and conda:
        raise InputError(
            "the lockfile has conda packages: they cannot be installed into a virtual environment",
            at=f"--python {python}",
            do="leave --python out: conda's python is used, where the lockfile has one",
        )
    if python is None and "python" not in conda and any(row.manager == "pip" for row in rows):
        raise InputError(
            "the lockfile has wheels but no conda python to install them into",
            at=f"platform {platform}",
            do="add python to the specification and lock again"
            if conda
            else "name the Python to use: --python /usr/bin/python3",
        )
    return rows


def read_lock_json(path: Path) -> tuple[Lockfile, str]:
    """A mirror's ``locks/NAME.json``, held against the YAML file beside it.

    :returns: the lockfile and the sha256 of its YAML file.
    :raises InputError: if it cannot be read, or the YAML file beside it is another one.
    """
    try:
        text = read_document(path, "the lockfile", do="carry the whole mirror again")
    except FileNotFoundError as error:
        raise CouldNotError(
            "the mirror lacks its lockfile", at=str(path), do="carry the whole mirror again"
        ) from error
    try:
        lockfile, sha256 = lock_json.read(text)
    except InputError as error:
        raise error.inside(str(path)) from None
    shared = path.with_name(f"{path.stem}.conda-lock.yml")
    if shared.is_file() and file_sha256(shared) != sha256:
        raise InputError(
            "the lockfile for nodes was made from another lockfile than the one beside it",
            at=str(path),
            do="make the mirror again: envforge mirror conda-lock.yml DIR",
        )
    return lockfile, sha256


def _choose(manifest: Manifest, name: str | None, directory: Path) -> str:
    if name is not None:
        if name not in manifest.locks:
            raise InputError(
                f"the mirror has no lock {name!r}",
                at=str(directory / "locks"),
                do=f"name one of: {', '.join(manifest.locks)}",
            )
        return name
    if len(manifest.locks) != 1:
        raise InputError(
            f"the mirror has {len(manifest.locks)} locks",
            at=str(directory / "locks"),
            do=f"say which: --lock {'|'.join(manifest.locks) or 'NAME'}",
        )
    return manifest.locks[0]
