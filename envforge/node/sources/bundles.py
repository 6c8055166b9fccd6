"""Reading a bundle in place: its header, its manifest, and one artifact at a time out of its tar.

Trust goes from the outside in.  The header has the sha256 of the manifest, the manifest that of every other
file; each is looked at before anything of the file is used.  Who is not sure of the header has to be sure of
the whole file: by ``BUNDLE.sha256`` or a signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from envforge.edges.store import Store
from envforge.edges.tarball import TarMember, read_members
from envforge.errors import CouldNotError, InputError
from envforge.formats import bundle_header, bundle_json, lock_json, manifest_json
from envforge.model.bundle import HEADER_SIZE, BundleContents, Header
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.manifest import Manifest
from envforge.model.receipt import Difference

__all__ = [
    "BILL",
    "BUNDLE_JSON",
    "LICENSES",
    "MANIFEST",
    "RUNTIME",
    "Bundle",
    "BundleSource",
    "check_bundle_platform",
    "is_bundle",
]

RUNTIME = "runtime.tar.gz"
MANIFEST = "manifest.json"
BUNDLE_JSON = "bundle.json"
BILL, LICENSES = "sbom.cdx.json", "licenses.txt"
T = TypeVar("T")
_TEXT_LIMIT = 512_000_000
"""Bytes of a manifest or lock, which are read into memory."""
_CHUNK = 1 << 20
_AGAIN = "carry it again; compare sha256sum on both sides"


def is_bundle(path: Path) -> bool:
    """Whether the file begins as a bundle does."""
    try:
        with path.open("rb") as file:
            return bundle_header.is_bundle(file.read(HEADER_SIZE))
    except OSError:
        return False


class Bundle:
    """A bundle file, opened: nothing of it is unpacked.

    :raises InputError: if it is no bundle, or header, tar and manifest do not agree.
    :raises CouldNotError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self.header: Header = _inside(path, lambda: bundle_header.read(file.read(HEADER_SIZE)))
            self.members = read_members(file, HEADER_SIZE, path)
            text = self._text(file, MANIFEST, self.header.manifest)
        self.manifest: Manifest = _inside(path, lambda: manifest_json.read(text))
        self._by_path = {entry.path: entry for entry in self.manifest.files}
        self._check_members()
        self.contents: BundleContents = _inside(path, lambda: bundle_json.read(self.text(BUNDLE_JSON)))

    def lock(self) -> tuple[Lockfile, str]:
        """The lock that it was made of, and the sha256 of the lockfile that is shared.

        :raises InputError: if it is not the one that the bundle says.
        """
        lockfile, sha256 = _inside(
            self.path, lambda: lock_json.read(self.text(f"locks/{self.contents.name}.json"))
        )
        if lockfile.digest() != self.contents.lock:
            raise self._damaged("its lock is not the one that it was made of")
        return lockfile, sha256

    def text(self, name: str) -> str:
        """The text of a small file that the manifest names, checked against it.

        :raises InputError: if it is not there, or not what the manifest says.
        """
        entry = self._by_path.get(name)
        if entry is None:
            raise self._damaged(f"it has no {name}")
        with self._open() as file:
            return self._text(file, name, entry.sha256)

    def copy(self, name: str, target: Path, sha256: str) -> None:
        """Copy a member to ``target``, which does not exist yet, and check it while it is read.

        :raises InputError: if it is not the file with that sha256; ``target`` is gone then.
        :raises OSError: if the disk refuses.
        """
        digest = hashlib.sha256()
        with self._open() as file, target.open("xb") as copy:
            for chunk in self._chunks(file, self.members[name]):
                digest.update(chunk)
                copy.write(chunk)
        if digest.hexdigest() != sha256:
            target.unlink()
            raise self._damaged(f"{name} in it is not the file that was put there")

    def holding(self, sha256: str) -> str | None:
        """The name of the member with this sha256, by the manifest; ``None`` if there is none."""
        return self._names.get(sha256)

    def check(self, advance: Callable[[int], None] = lambda _: None) -> tuple[Difference, ...]:
        """Hash every member; returns those that are not what header and manifest say.

        :param advance: told of bytes as they are read.
        """
        wrong = [name for name in self.members if not self.holds(name, advance)]
        return tuple(Difference(kind="changed", path=name, detail="content") for name in wrong)

    def holds(self, name: str, advance: Callable[[int], None] = lambda _: None) -> bool:
        """Whether a member is what header and manifest say of it.

        :param advance: told of bytes as they are read.
        """
        own = {MANIFEST: self.header.manifest, RUNTIME: self.header.runtime}
        digest = hashlib.sha256()
        with self._open() as file:
            for chunk in self._chunks(file, self.members[name]):
                digest.update(chunk)
                advance(len(chunk))
        return digest.hexdigest() == (own.get(name) or self._by_path[name].sha256)

    def extract(self, directory: Path, advance: Callable[[int], None] = lambda _: None) -> int:
        """Write every file but the runtime below ``directory``, a new one: it is a mirror then.

        :returns: the number of files.
        :raises InputError: if a file is not what the manifest says.
        :raises OSError: if the disk refuses.
        """
        for entry in self.manifest.files:
            target = directory / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy(entry.path, target, entry.sha256)
            target.chmod(0o644)
            advance(entry.size)
        self.copy(MANIFEST, directory / MANIFEST, self.header.manifest)
        return len(self.manifest.files) + 1

    # -- what is not believed --------------------------------------------------------------------------

    def _check_members(self) -> None:
        header, members = self.header, self.members
        wanted = {entry.path: entry.size for entry in self.manifest.files}
        wanted[MANIFEST] = header.manifest_size
        if header.runtime:
            wanted[RUNTIME] = header.runtime_size
        found = {name: member.size for name, member in members.items()}
        if found != wanted:
            odd = sorted(wanted.items() ^ found.items())[0][0]
            raise self._damaged(f"its manifest and what it holds do not agree about {odd}")
        places = {MANIFEST: header.manifest_at, **({RUNTIME: header.runtime_at} if header.runtime else {})}
        if any(members[name].offset != offset for name, offset in places.items()):
            raise self._damaged("its header points elsewhere")
        self._names = {entry.sha256: entry.path for entry in self.manifest.files}

    def _text(self, file: BinaryIO, name: str, sha256: str) -> str:
        member = self.members.get(name)
        if member is None or member.size > _TEXT_LIMIT:
            raise self._damaged(f"it has no {name}" if member is None else f"{name} is too large")
        content = b"".join(self._chunks(file, member))
        if hashlib.sha256(content).hexdigest() != sha256:
            raise self._damaged(f"{name} in it was altered")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"{name} is not text") from error

    def _chunks(self, file: BinaryIO, member: TarMember) -> Iterator[bytes]:
        file.seek(member.offset)
        left = member.size
        while left:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise self._damaged("it ends too early")
            left -= len(chunk)
            yield chunk

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise InputError(
                "there is no such bundle", at=str(self.path), do="check the path, or carry it over first"
            ) from error
        except IsADirectoryError as error:
            raise InputError(
                "a directory, and no bundle", at=str(self.path), do="name the file that envforge bundle wrote"
            ) from error
        except OSError as error:
            raise CouldNotError(
                f"cannot read the bundle: {error.strerror or error}",
                at=str(self.path),
                do="check who may read it",
            ) from error
        with file:
            yield file

    def _damaged(self, why: str) -> InputError:
        return InputError(f"the bundle is damaged: {why}", at=str(self.path), do=_AGAIN)


def _inside(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except InputError as error:
        raise error.inside(str(path)) from None


def check_bundle_platform(source: BundleSource, platform: str) -> None:
    """Refuse a bundle for other machines.

    :raises InputError: naming both platforms.
    """
    contents = source.bundle.contents
    if contents.platform != platform:
        raise InputError(
            f"the bundle is for {contents.platform}, and this machine is {platform}",
            at=str(source.bundle.path),
            do=f"envforge bundle -p {platform}   # on the laptop",
        )


class BundleSource:
    """A bundle as a source of artifacts, which it puts into the store one at a time, when they are needed.

    :raises InputError: if the file is no bundle, or a damaged one.
    """

    def __init__(self, path: Path, store: Store) -> None:
        self.bundle = Bundle(path)
        self._store = store
        self._path = path
        self.lockfile, self.lockfile_sha256 = self.bundle.lock()

    def estimate(self) -> tuple[int, int]:
        """About how many bytes and files installing all of it writes, as whoever made it has counted."""
        return self.bundle.contents.bytes, self.bundle.contents.files

    def peek(self, package: LockedPackage) -> Path | None:
        """The file of one row if it can be looked at without writing: in the store."""
        return self._store.artifact(package.sha256 or "")

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that it was made for."""
        return self.bundle.contents.groups

    @property
    def runtime(self) -> str | None:
        """sha256 of the runtime that it carries."""
        return self.bundle.contents.runtime

    def runtime_archive(self) -> Path:
        """The runtime's archive, in the store, not hashed yet.

        :raises CouldNotError: if a delta leaves it out and the store does not have it.
        """
        sha256 = self.runtime or ""
        found = self._store.artifact(sha256)
        if found is not None:
            return found
        if RUNTIME not in self.bundle.members:
            raise self._lacking([RUNTIME])
        return self._store.add_artifact(sha256, lambda path: self.bundle.copy(RUNTIME, path, sha256))

    def prepare(self, rows: Sequence[LockedPackage]) -> None:
        """Whether everything is at hand: in the bundle, or, what a delta leaves out, in the store, as an
        artifact or as what was unpacked from it.

        :raises CouldNotError: naming what is not.
        """
        missing = [row.filename for row in rows if not (self._has(row.sha256 or "") or self.unpacked(row))]
        if self.runtime and RUNTIME not in self.bundle.members and self._store.artifact(self.runtime) is None:
            missing.append(RUNTIME)
        if missing:
            raise self._lacking(missing)

    def _lacking(self, missing: Sequence[str]) -> CouldNotError:
        names = sorted(missing)
        since = self.bundle.contents.since
        return CouldNotError(
            f"{len(names)} of the files are neither in the bundle nor in the store: {', '.join(names[:3])}"
            + (f" and {len(names) - 3} more" if len(names) > 3 else ""),
            at=f"{self._path}" + (f" (a delta since {since[:12]})" if since else ""),
            story="\n".join(names),
            do="carry the whole bundle, or name the store that has them: --store DIR",
        )

    def _has(self, sha256: str) -> bool:
        return self.bundle.holding(sha256) is not None or self._store.artifact(sha256) is not None

    def unpacked(self, package: LockedPackage) -> bool:
        """Whether a delta leaves the row out, and the store has proof of what was unpacked from it."""
        sha256 = package.sha256 or ""
        return not self._has(sha256) and self._store.proves(sha256)

    def artifact(self, package: LockedPackage) -> Path:
        """The file of one row, in the store.

        :raises CouldNotError: if neither bundle nor store has it.
        """
        sha256 = package.sha256 or ""
        found = self._store.artifact(sha256)
        if found is not None:
            return found
        name = self.bundle.holding(sha256)
        if name is None:
            raise self._lacking([package.filename])
        return self._store.add_artifact(sha256, lambda path: self.bundle.copy(name, path, sha256))
