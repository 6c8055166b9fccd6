"""The linked tree of a runtime: conda packages, wheels and envforge's own files, for any Linux platform.

Nothing of it is run.  It is linked for a path at which nothing can be, because it has to work at any: Python
finds itself by where it is, and libraries by ``$ORIGIN``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.linking import Linker
from envforge.edges.store import Store, StoredTree
from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage
from envforge.node.linking.conda import ExtractedPackage, link_packages, python_version, site_packages_of
from envforge.node.linking.placing import check_places, winners
from envforge.node.linking.wheels import Target, link_wheels, place_wheels
from envforge.runtime.own import own_files
from envforge.runtime.selection import select

__all__ = ["RuntimeTree", "link_runtime"]

NOWHERE = Path("/nonexistent/envforge")
_JOBS = 4
_TAG = re.compile(r"manylinux_(\d+)_(\d+)_|manylinux(1|2010|2014)_")
_OLD_TAGS = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}


@dataclass(frozen=True, kw_only=True)
class RuntimeTree:
    """What a runtime is made of: its files by path, those of envforge itself as bytes.

    ``library`` is ``lib/pythonX.Y``, ``python`` its version, ``glibc`` the lowest that it runs on.
    """

    files: dict[str, Path | bytes]
    library: str
    python: str
    glibc: str


def link_runtime(
    conda: Sequence[LockedPackage],
    wheels: Sequence[LockedPackage],
    artifact: Callable[[LockedPackage], Path],
    *,
    platform: str,
    work: Path,
    store: Store,
) -> RuntimeTree:
    """Link a runtime in ``work``, an empty directory, and choose from it.

    :param artifact: where an artifact is; its hash is checked here.
    :raises CouldNotError: if an artifact is not the locked one.
    :raises InputError: if the packages do not make a Python for ``platform``.
    """

    def unpack(row: LockedPackage) -> StoredTree:
        return store.tree(artifact(row), row.filename, row.sha256 or "", instead=work / "unpacked")

    with ThreadPoolExecutor(_JOBS) as pool:
        trees = list(pool.map(unpack, conda))
    packages = [ExtractedPackage(row=row, tree=one.path) for row, one in zip(conda, trees, strict=True)]
    tree = work / "tree"
    site_packages = site_packages_of(packages)
    version = python_version(packages)
    if site_packages is None or version is None:
        raise InputError(
            f"the runtime for {platform} has no Python",
            at="its conda packages",
            do=f"envforge lock -p {platform}   # or bundle --no-runtime",
        )
    (work / "view").mkdir()
    link_packages(
        packages, tree, final=NOWHERE, platform=platform, view=work / "view", links=True, jobs=_JOBS
    )
    _link_wheels(wheels, unpack, tree, site_packages)
    library = site_packages.rpartition("/")[0]
    chosen = select(tree, library, platform)
    found: dict[str, Path | bytes] = {**chosen.files}
    found |= {f"{site_packages}/envforge/{name}": data for name, data in own_files().items()}
    return RuntimeTree(
        files=dict(sorted(found.items())),
        library=library,
        python=version,
        glibc="{}.{}".format(*max(chosen.glibc, _glibc(packages, wheels))),
    )


def _link_wheels(
    rows: Sequence[LockedPackage],
    unpack: Callable[[LockedPackage], StoredTree],
    tree: Path,
    site_packages: str,
) -> None:
    """Put the wheels in place of what conda packages brought to ``site-packages``: pip, setuptools."""
    shutil.rmtree(tree / site_packages, ignore_errors=True)
    placed = place_wheels(rows, unpack, site_packages, jobs=_JOBS)
    check_places(placed, tree, {}, site_packages)
    link_wheels(placed, winners(placed), Target(tree, NOWHERE, site_packages, Linker()))


def _glibc(packages: Sequence[ExtractedPackage], wheels: Sequence[LockedPackage]) -> tuple[int, int]:
    """The lowest glibc that all of it says that it runs on."""
    wanted = [(2, 17)]
    for package in packages:
        for spec in package.index.get("depends") or ():
            match = re.match(r"__glibc\s+>=(\d+)\.(\d+)", str(spec))
            if match:
                wanted.append((int(match[1]), int(match[2])))
    for row in wheels:
        fitting = [
            _OLD_TAGS[match[3]] if match[3] else (int(match[1]), int(match[2]))
            for match in _TAG.finditer(row.filename)
        ]
        wanted += [min(fitting)] if fitting else []
    return max(wanted)
