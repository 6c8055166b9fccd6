"""From what a user names as SOURCE to an artifact source; shared by install, verify and render."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from envforge.cli.console import read_text
from envforge.edges.store import Store
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.signature import Signed
from envforge.node.sources.bundles import BundleSource, is_bundle
from envforge.node.sources.signatures import check_signature, read_trusted, refuse_own_voice
from envforge.node.sources.source import ArtifactSource, MirrorSource, StoreSource
from envforge.reporting import Reporter
from envforge.settings import load_settings

__all__ = ["check_signed", "open_source"]


def check_signed(path: Path, trusted_keys: Path | None, *, required: bool = True) -> Signed | None:
    """Who signed the file at ``path``, before it is opened; ``None`` if nobody asked.

    :param trusted_keys: the file of the keys that may sign; naming it is asking.  Where one is required and
        none is named, it is that of the settings.
    :raises InputError: if it is not signed by one of them, or no keys are named although it is ``required``.
    """
    if trusted_keys is None and required:
        trusted_keys = load_settings().path("trusted-keys")
    if trusted_keys is None:
        if required:
            raise InputError(
                "a signature is required, and no keys are trusted",
                at="--require-signature",
                do="name the file of the keys that may sign: --trusted-keys FILE",
            )
        return None
    trusted = read_trusted(trusted_keys)
    if path.is_dir():
        raise InputError(
            "a directory has no signature",
            at=str(path),
            do="bind it to its lock instead: --expect-lock sha256:HEX",
        )
    refuse_own_voice(path)
    return check_signature(path, trusted)


def open_source(
    path: Path,
    *,
    lock: str | None,
    store: Store,
    reporter: Reporter,
    expected: str | None = None,
) -> ArtifactSource:
    """The source at ``path``: a bundle, a mirror, or a lockfile whose artifacts are fetched into ``store``.

    :param lock: which lock of a mirror, by name, or a lockfile whose artifacts the mirror holds.
    :param expected: the digest that the lock must have: the file's sha256, or the one that ``lock`` prints.
    :raises InputError: if ``path`` is neither, or the lock is another one.
    """
    if path.is_dir():
        given = _read_lockfile(Path(lock)) if lock is not None and Path(lock).is_file() else None
        source = MirrorSource(path, lock, given=given)
        if expected is not None:
            _check_expected(source, path / "locks", expected, given=given is not None)
        return source
    if not path.exists():
        raise InputError(
            "no such bundle, mirror or lockfile",
            at=str(path),
            do="name a bundle, a mirror or a conda-lock.yml",
        )
    if is_bundle(path):
        carried = BundleSource(path, store)
        if expected is not None:
            _check_carried(carried, expected)
        return carried
    lockfile, sha256 = _read_lockfile(path)

    def fetch_missing(rows: Sequence[LockedPackage]) -> None:
        from envforge.cli.defaults import network
        from envforge.download import fetch_packages
        from envforge.resolvers.building.builder import BuildingFetcher
        from envforge.settings import cache_directory

        places = [(lockfile, path.absolute().parent)]
        fetcher = BuildingFetcher(places, cache=cache_directory(), reporter=reporter, access=network())
        fetch_packages(rows, store, fetcher=fetcher, reporter=reporter)

    opened = StoreSource(lockfile, sha256, store, fetch_missing)
    if expected is not None and _wanted(expected) not in (opened.lockfile_sha256, lockfile.digest()):
        raise _unexpected(opened)
    return opened


def _check_carried(source: BundleSource, expected: str) -> None:
    """As for a mirror; but a runtime reads no YAML, and can only be sure of the digest of the rows."""
    if _wanted(expected) == source.lockfile.digest():
        return
    if _wanted(expected) != source.lockfile_sha256:
        raise _unexpected(source)
    text = source.bundle.text(f"locks/{source.bundle.contents.name}.conda-lock.yml")
    try:
        from envforge.formats import conda_lock
    except ImportError as error:
        raise InputError(
            "the lockfile itself cannot be read here, so its sha256 proves nothing of what is installed",
            at="--expect-lock",
            do="expect the digest that envforge lock prints: envforge lock --check --json   # on the laptop",
        ) from error
    same = hashlib.sha256(text.encode()).hexdigest() == source.lockfile_sha256
    if not same or conda_lock.read(text, source=str(source.bundle.path)) != source.lockfile:
        raise InputError(
            "the lockfile for nodes does not say what the lockfile in the bundle says",
            at=str(source.bundle.path),
            do="do not install from this bundle; make or carry it again",
        )


def _read_lockfile(path: Path) -> tuple[Lockfile, str]:
    from envforge.formats import conda_lock

    text = read_text(path)
    return conda_lock.read(text, source=str(path)), hashlib.sha256(text.encode()).hexdigest()


def _wanted(expected: str) -> str:
    return expected.removeprefix("sha256:").lower()


def _check_expected(source: MirrorSource, locks: Path, expected: str, *, given: bool) -> None:
    """The digest of the rows is computed from what will be installed; that of the file needs the file read.

    What a node reads is ``NAME.json``, and it only claims to have been made from the file with that digest.
    """
    if _wanted(expected) == source.lockfile.digest():
        return
    if _wanted(expected) != source.lockfile_sha256:
        raise _unexpected(source)
    if given:
        return
    from envforge.formats import conda_lock

    for shared in locks.glob("*.conda-lock.yml"):
        content = shared.read_bytes()
        if hashlib.sha256(content).hexdigest() == source.lockfile_sha256:
            if conda_lock.read(content.decode(), source=str(shared)) == source.lockfile:
                return
            raise InputError(
                f"the lockfile for nodes does not say what {shared.name} says",
                at=str(shared.with_name(shared.name.replace(".conda-lock.yml", ".json"))),
                do="do not install from this mirror; make or carry it again",
            )
    raise InputError(
        "the lockfile that was expected is not in the mirror", at=str(locks), do="carry it again"
    )


def _unexpected(source: ArtifactSource) -> InputError:
    return InputError(
        f"the lockfile is not the expected one: its sha256 is {source.lockfile_sha256}",
        at="--expect-lock",
        do="ask for the right mirror, or check the digest that you were given",
    )
