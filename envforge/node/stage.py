"""``stage``: a bundle's environment, or an image, on the disk of the node that it is used on.

::

    DIR/NAME-DIGEST8 -> NAME-DIGEST8.generations/3f2a9c…     a bundle: installed for this very path
    DIR/NAME.sqsh, DIR/NAME.sqsh.sha256                      an image: a copy, and what it was when copied
    DIR/.NAME….turn                                          who is staging it; the others wait

DIGEST8 is the beginning of the manifest's sha256, as in a bundle's own name: another bundle has another
place, so that no job takes the environment from under another.  What is there already is used if it is the
caller's or root's: directories such as ``/tmp`` are open to all.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.edges.images import image_kind
from envforge.edges.scratch import (
    discard,
    disk_error,
    exclusive,
    make_directory,
    owner_mark,
    sweep_beside,
    write_beside,
)
from envforge.edges.store import Store
from envforge.errors import CouldNotError, InputError
from envforge.node.install import InstallOptions, host_platform, install
from envforge.node.prefix import Prefix, is_complete
from envforge.node.sources.bundles import Bundle, BundleSource, check_bundle_platform
from envforge.node.sources.documents import read_document
from envforge.node.sources.signatures import CHECKSUM
from envforge.node.using.activate import label
from envforge.reporting import Reporter

__all__ = ["StageOptions", "Staged", "stage_bundle", "stage_image"]

_CHUNK = 1 << 20
_SHA256SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)\n?")


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Where it is to be used; ``changed`` is false if it was there already."""

    path: Path
    changed: bool


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """``seconds`` to wait for another process that stages the same; ``stores`` to look into, of a delta."""

    jobs: int = 2
    seconds: float = 3600.0
    stores: tuple[Path, ...] = ()
    dry_run: bool = False


def stage_bundle(bundle: Path, directory: Path, *, options: StageOptions, reporter: Reporter) -> Staged:
    """Install a bundle below ``directory``, which is made; no store is kept there.

    :raises InputError: if it is no bundle, or one for another platform, or its place is not ours.
    :raises CouldNotError: as ``install`` does.
    :raises BusyError: if another process is at it for longer than was to be waited.
    """
    opened = Bundle(bundle)
    name = f"{label(opened.contents.name)}-{opened.header.manifest[:8]}"
    prefix = Prefix(directory / name)
    store = Store(prefix.generations / "store", options.stores)
    source = BundleSource(bundle, store)
    check_bundle_platform(source, host_platform())
    chosen = InstallOptions(groups=source.groups, jobs=options.jobs, dry_run=options.dry_run)

    def there() -> bool:
        current = prefix.current()
        return current is not None and is_complete(current)

    def make() -> None:
        prefix.check()
        try:
            install(source, prefix.path, store=store, options=chosen, reporter=reporter)
        finally:
            _drop_store(store, prefix)

    if options.dry_run:
        if not there():
            install(source, prefix.path, store=store, options=chosen, reporter=reporter)
        return Staged(path=prefix.path, changed=not there())
    ours = (prefix.path, prefix.generations)
    return _once(prefix.path, ours, there, make, options)


def _drop_store(store: Store, prefix: Prefix) -> None:
    """The environment keeps the files that it shares with it; of a failure nothing is left."""
    with suppress(OSError):
        discard(store.root, prefix.generations)
    if not prefix.finished():
        with suppress(OSError):
            prefix.generations.rmdir()


def stage_image(image: Path, directory: Path, *, options: StageOptions, reporter: Reporter) -> Staged:
    """Copy an image into ``directory``, which is made.

    :param image: a SquashFS, SIF or OCI archive; what ``IMAGE.sha256`` beside it says must be right.
    :raises InputError: if it is none, or another one than that says, or its place is not ours.
    :raises CouldNotError: if it cannot be read, or the disk refuses.
    :raises BusyError: if another process is at it for longer than was to be waited.
    """
    size = _check_image(image)
    said = _said(image)
    path = Path(os.path.abspath(directory)) / image.name  # noqa: PTH100 - no symlink is followed
    note = path.with_name(path.name + CHECKSUM)

    def there() -> bool:
        if not path.is_file() or path.stat().st_size != size:
            return False
        known = _said(path)
        return known is not None and known == (said or file_sha256(image))

    def make() -> None:
        sweep_beside(path)
        with reporter.task(f"copying {image.name}", size) as progress:
            sha256 = _copy(image, path, said, progress.advance)
        write_beside(note, f"{sha256}  {path.name}\n")

    if options.dry_run:
        return Staged(path=path, changed=not there())
    return _once(path, (path, note), there, make, options)


def _once(
    path: Path,
    ours: Sequence[Path],
    there: Callable[[], bool],
    make: Callable[[], None],
    options: StageOptions,
) -> Staged:
    """Have one process of many make it, and the others wait for that."""
    make_directory(path.parent)
    _check_owner(ours)
    if there():
        return Staged(path=path, changed=False)
    try:
        with exclusive(path.with_name(f".{path.name}.turn"), seconds=options.seconds):
            _check_owner(ours)
            changed = not there()
            if changed:
                make()
    except OSError as error:
        raise disk_error(error, path) from error
    return Staged(path=path, changed=changed)


def _check_owner(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            owner = path.lstat().st_uid
        except OSError:
            continue
        if owner not in (0, os.geteuid()):
            raise InputError(
                "somebody else made what is there, and it is not used",
                at=str(path),
                do="name a directory of your own: --to DIR",
            )


# -- images --------------------------------------------------------------------------------------------


def _check_image(image: Path) -> int:
    """The size of an image in bytes."""
    try:
        with image.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(
            f"cannot read the bundle or image: {error.strerror or error}",
            at=str(image),
            do=f"ls -ld {shlex.quote(str(image))}",
        ) from error
    if image_kind(image) is None:
        raise InputError(
            "neither a bundle nor an image: this is no SquashFS, SIF or OCI archive",
            at=str(image),
            do="name a file that envforge bundle or envforge image wrote",
        )
    return size


def _said(file: Path) -> str | None:
    """What ``FILE.sha256`` says of the file; ``None`` if there is none.

    :raises InputError: if it says nothing of it.
    """
    place = file.with_name(file.name + CHECKSUM)
    do = f"sha256sum {shlex.quote(file.name)} > {shlex.quote(place.name)}   # if you know the file"
    try:
        match = _SHA256SUM.fullmatch(read_document(place, "the checksum", do=do))
    except FileNotFoundError:
        return None
    if match is None or match[2] != file.name:
        raise InputError("the checksum is not of the file beside it", at=str(place), do=do)
    return match[1]


def _copy(image: Path, path: Path, said: str | None, advance: Callable[[int], None]) -> str:
    """Copy and hash in one pass, and then hash what the disk has; returns the sha256."""
    beside = path.with_name(f".{path.name}.{owner_mark()}")
    try:
        with image.open("rb") as source, beside.open("xb", buffering=0) as target:
            digest = hashlib.sha256()
            while chunk := _read(source, image):
                digest.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[target.write(view) or 0 :]
                advance(len(chunk))
        sha256 = digest.hexdigest()
        if said is not None and sha256 != said:
            raise InputError(
                f"the image has sha256 {sha256[:16]}…, and {image.name}{CHECKSUM} says {said[:16]}…",
                at=str(image),
                do="carry it again; compare sha256sum on both sides",
            )
        if file_sha256(beside) != sha256:
            raise CouldNotError(
                "what was written is not what is read again",
                at=str(path),
                do="name another directory: --to DIR",
            )
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return sha256


def _read(source: BufferedReader, image: Path) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:
        raise CouldNotError(f"cannot read the image: {error.strerror or error}", at=str(image)) from error
