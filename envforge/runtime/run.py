"""The verb: make the runtime of one platform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from envforge.edges.fetch import Fetcher
from envforge.edges.scratch import is_full, remove_tree
from envforge.edges.store import Store
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.formats.gzip_members import is_canonical
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.runtime import (
    RUNTIME_PLATFORMS,
    MadeRuntime,
    is_usable_python,
    runtime_key,
    runtime_rows,
)
from envforge.reporting import Reporter
from envforge.runtime.kept import keep_runtime, kept_runtime, recipe
from envforge.runtime.pack import pack
from envforge.runtime.tree import RuntimeTree, link_runtime
from envforge.runtime.wheels import find_wheel, indexes_of_environment, pinned_wheels

__all__ = ["make_runtime"]

_WITHOUT = "or leave it out: envforge bundle --no-runtime"


def make_runtime(
    lockfile: Lockfile,
    platform: str,
    artifact: Callable[[LockedPackage], Path] | None,
    *,
    work: Path,
    store: Store,
    fetcher: Fetcher,
    reporter: Reporter,
    indexes: Sequence[str] = (),
    runtime_lock: Lockfile | None = None,
) -> MadeRuntime:
    """Make a runtime: the same bytes from the same packages and release, on any machine.

    One that was made before of the same is in the store, and is not made again.

    :param platform: ``linux-64`` or ``linux-aarch64``, whatever this machine is.
    :param artifact: where the artifact of a conda row is; ``None`` to take it from the store, or fetch it.
    :param work: an empty directory.
    :param store: where packages are unpacked, and what is fetched is kept.
    :param indexes: simple indexes to look for the release's wheels in, before those that pip would look at.
    :param runtime_lock: a site's own lockfile for the runtime, conda and PyPI rows.
    :raises InputError: if no runtime is locked for ``platform``, or what is locked makes none.
    :raises CouldNotError: if an artifact is missing, is not the locked one, or cannot be fetched.
    """
    try:
        rows = _rows(lockfile, platform, runtime_lock)
        if not is_canonical():
            reporter.note(
                "the module deflate is linked to another libdeflate than its wheel's: this runtime works, "
                "but its bytes are not those that other machines make"
            )
        key = recipe(rows, platform)
        kept = kept_runtime(store, key)
        if kept is not None:
            return kept
        conda = [row for row in rows if row.manager == "conda"]
        wheels = [row for row in rows if row.manager == "pip"]
        reporter.step(f"making the runtime for {platform}: {len(conda)} conda packages, {len(wheels)} wheels")
        pinned = runtime_lock is None
        with reporter.task("fetching", None) as progress:
            looked = (*indexes, *indexes_of_environment())
            get = _Getter(artifact, looked, store, fetcher, progress.advance, pinned=pinned)
            tree = link_runtime(conda, wheels, get, platform=platform, work=work, store=store)
    except EnvforgeError as error:
        if "--no-runtime" not in (error.do or ""):
            error.do = f"{error.do}   # {_WITHOUT}" if error.do else _WITHOUT
        raise
    made = _packed(tree, work)
    for name in ("tree", "view", "unpacked"):
        remove_tree(work / name)
    keep_runtime(store, key, made)
    return made


def _packed(tree: RuntimeTree, work: Path) -> MadeRuntime:
    path = work / "runtime.tar.gz"
    try:
        packed = pack(tree.files, tree.library, path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CouldNotError(
            f"cannot write the runtime: {error.strerror or error}",
            at=str(path),
            do="df -h . ; df -i . ; quota" if is_full(error) else "check who may write there",
        ) from error
    return MadeRuntime(
        path=path,
        sha256=packed.sha256.hexdigest(),
        size=packed.size,
        glibc=tree.glibc,
        python=tree.python,
        files=packed.files,
        kib=packed.kib,
    )


def _rows(lockfile: Lockfile, platform: str, own: Lockfile | None) -> tuple[LockedPackage, ...]:
    if platform not in RUNTIME_PLATFORMS:
        raise InputError(
            f"there is no runtime for {platform}",
            at=f"runtimes: {', '.join(RUNTIME_PLATFORMS)}",
            do="envforge bundle --no-runtime",
        )
    if own is None:
        rows = runtime_rows(lockfile, platform)
        if not rows:
            raise InputError(
                f"the lockfile locks no runtime for {platform}",
                at=f"metadata: custom_metadata: {runtime_key(platform)}",
                do=f"envforge lock   # again, with a channel that has python 3.10 or newer; {_WITHOUT}",
            )
        return rows + pinned_wheels(platform)
    rows = own.rows(platform)
    python = next((row for row in rows if row.manager == "conda" and row.name == "python"), None)
    if python is None or not is_usable_python(python.name, python.version, python.build_string):
        raise InputError(
            f"the lockfile of the runtime has no CPython of 3.10 or newer for {platform}",
            at="--runtime-lock",
            do="lock python, click and py-rattler",
        )
    return rows


class _Getter:
    """Where an artifact is; what is nowhere yet is fetched into the store."""

    def __init__(
        self,
        artifact: Callable[[LockedPackage], Path] | None,
        indexes: Sequence[str],
        store: Store,
        fetcher: Fetcher,
        advance: Callable[[int], None],
        *,
        pinned: bool,
    ) -> None:
        self._artifact = artifact
        self._indexes = indexes
        self._store = store
        self._fetcher = fetcher
        self._advance = advance
        self._pinned = pinned

    def __call__(self, row: LockedPackage) -> Path:
        found = self._store.artifact(row.sha256 or "")
        if self._artifact is not None and row.manager == "conda" and self._pinned:
            return self._artifact(row)
        if found is not None:
            return found
        by_index = row.manager == "pip" and self._pinned
        url = find_wheel(row, self._indexes, self._fetcher) if by_index else row.url
        return self._store.fetch_artifact(
            row.sha256 or "",
            lambda path: self._fetcher.download(
                url, path, sha256=row.sha256, md5=row.md5, with_md5=False, resume=True, advance=self._advance
            ),
        )
