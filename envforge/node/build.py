"""Making the tree of an environment: a function of the locked rows and of the path it will have.

``install`` makes it once to keep it; ``verify --against`` makes it again to compare.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.edges.store import Store
from envforge.formats import lock_json
from envforge.model.lockfile import LockedPackage
from envforge.model.receipt import FileRecord
from envforge.node.activate import write_activation
from envforge.node.bytecode import compile_sources
from envforge.node.conda import (
    ExtractedPackage,
    conda_owners,
    link_packages,
    post_link_scripts,
    python_version,
    settle_bytecode_records,
    settle_records,
    site_packages_of,
)
from envforge.node.placing import PlacedWheel, check_places, place_wheels, waves
from envforge.node.scan import scan, settle_modes
from envforge.node.sources import ArtifactSource
from envforge.node.wheels import install_wheels, settle_wheels, wheel_owners
from envforge.reporting import Reporter

__all__ = ["BuiltTree", "build_tree"]

Owners = dict[str, tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class BuiltTree:
    """A finished tree: where it lies, what it holds, and what somebody should hear about.

    ``unrun_scripts`` names the packages whose post-link scripts were not run, ``not_compiled`` the sources
    without bytecode, ``clobbered`` the paths that two packages bring.
    """

    path: Path
    files: dict[str, FileRecord]
    unrun_scripts: tuple[str, ...]
    not_compiled: tuple[str, ...]
    clobbered: tuple[str, ...]


def build_tree(
    source: ArtifactSource,
    rows: Sequence[LockedPackage],
    *,
    platform: str,
    final: Path,
    work: Path,
    store: Store,
    jobs: int,
    reporter: Reporter,
    mend: bool = False,
) -> BuiltTree:
    """Make the environment ``rows`` in ``work/tree`` as it must be at ``final``.

    :param work: an empty directory; the tree is moved out of it by the caller.
    :param mend: where the store's copy of a package was altered, unpack another one in ``work``.
    :raises CouldNotError: an artifact that is missing or not the locked one, no space, no permission.
    :raises InputError: packages that cannot be linked together.
    """
    tree = work / "tree"
    conda = [row for row in rows if row.manager == "conda"]
    wheels = [row for row in rows if row.manager == "pip"]
    instead = work / "unpacked" if mend else None
    packages = _extract(conda, source, store, instead, jobs=jobs, reporter=reporter)
    reporter.step(f"linking {len(packages)} conda packages")
    view = _empty(work / "view")
    clobbered = link_packages(packages, tree, final=final, platform=platform, view=view)
    # py-rattler takes the environment for a cache; a backup would pass over it.
    (tree / "CACHEDIR.TAG").unlink(missing_ok=True)
    settle_records(tree, packages)
    owners: Owners = conda_owners(tree)
    site_packages = site_packages_of(packages)
    if wheels and site_packages:
        reporter.step(f"installing {len(wheels)} wheels")
        placed = place_wheels(wheels, source.artifact, site_packages, jobs=jobs)
        check_places(placed, tree, owners, site_packages)
        clobbered += _add_wheels(placed, tree, site_packages, final, work)
        owners |= wheel_owners(wheels, tree, tree / site_packages, owners)
    not_compiled: tuple[str, ...] = ()
    python = python_version(packages)
    if python and site_packages:
        reporter.step("compiling bytecode")
        library = str(Path(site_packages).parent)
        not_compiled = compile_sources(tree, final, library, python, jobs=jobs)
        settle_bytecode_records(tree)
    _leave_lock(tree, source)
    write_activation(tree, final, name=source.lockfile.name, digest=source.lockfile.digest())
    settle_modes(tree)
    files = scan(tree, jobs=jobs)
    return BuiltTree(
        path=tree,
        files={name: _owned(record, owners) for name, record in files.items()},
        unrun_scripts=post_link_scripts(packages),
        not_compiled=not_compiled,
        clobbered=clobbered,
    )


def _extract(
    rows: Sequence[LockedPackage],
    source: ArtifactSource,
    store: Store,
    instead: Path | None,
    *,
    jobs: int,
    reporter: Reporter,
) -> list[ExtractedPackage]:
    reporter.step(f"checking and unpacking {len(rows)} conda packages")
    with reporter.task("packages", len(rows), "packages") as progress, ThreadPoolExecutor(jobs) as pool:

        def extract(row: LockedPackage) -> ExtractedPackage:
            tree = store.tree(source.artifact(row), row.filename, row.sha256 or "", instead=instead)
            progress.advance(1)
            return ExtractedPackage(row=row, tree=tree)

        return list(pool.map(extract, rows))


def _empty(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _add_wheels(
    placed: Sequence[PlacedWheel], tree: Path, site_packages: str, final: Path, work: Path
) -> tuple[str, ...]:
    """Install the wheels; returns the paths that two of them bring differently."""
    groups, clashing = waves(placed)
    for group in groups:
        uv = _empty(work / "uv")
        install_wheels(group, tree, site_packages, work=uv)
        shutil.rmtree(uv)
    settle_wheels([wheel.row for wheel in placed], tree, tree / site_packages, final)
    return clashing


def _leave_lock(tree: Path, source: ArtifactSource) -> None:
    ours = _empty(tree / ".envforge")
    text = lock_json.write(source.lockfile, source_sha256=source.lockfile_sha256)
    (ours / "lock.json").write_text(text, encoding="utf-8")


def _owned(record: FileRecord, owners: Owners) -> FileRecord:
    """``record`` with its owner; bytecode belongs to whoever owns the source."""
    if record.kind == "directory":
        return record
    if record.path in owners:
        owner, how = owners[record.path]
        if record.path.endswith(".pyc") and how == "packaged":
            how = "bytecode"
        return replace(record, owner=owner, how=how)
    if record.path.endswith(".pyc"):
        folder, _, name = record.path.rpartition("/__pycache__/")
        owner = owners.get(f"{folder}/{name.split('.')[0]}.py", ("envforge", ""))[0]
        return replace(record, owner=owner, how="bytecode")
    return record
