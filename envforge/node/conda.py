"""Linking conda packages out of the store, with py-rattler.

py-rattler installs from a package cache.  It is given a throw-away one, of symlinks into the store and the
``.lock`` files that it expects (an 8-byte revision and the sha256), so that it neither downloads, nor
extracts, nor locks, nor keeps anything.  That layout is undocumented: py-rattler's minor version is pinned
and a contract test installs through it.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from envforge.edges.store import file_sha256
from envforge.errors import CouldNotError, InputError
from envforge.model.lockfile import LockedPackage

__all__ = [
    "ExtractedPackage",
    "conda_owners",
    "link_packages",
    "post_link_scripts",
    "python_version",
    "settle_bytecode_records",
    "settle_records",
    "site_packages_of",
]

_ARCHIVES = (".conda", ".tar.bz2")


@dataclass(frozen=True, kw_only=True)
class ExtractedPackage:
    """A locked conda package and its proven tree in the store."""

    row: LockedPackage
    tree: Path

    @property
    def paths(self) -> list[dict[str, Any]]:
        """The entries of ``info/paths.json``."""
        document = json.loads((self.tree / "info" / "paths.json").read_bytes())
        return list(document["paths"])

    @property
    def stem(self) -> str:
        """The file name without its archive suffix: ``NAME-VERSION-BUILD``."""
        name = self.row.filename
        for suffix in _ARCHIVES:
            name = name.removesuffix(suffix)
        return name


def python_version(packages: Sequence[ExtractedPackage]) -> str | None:
    """The version of the conda ``python`` among ``packages``, such as ``3.12.13``."""
    return next((package.row.version for package in packages if package.row.name == "python"), None)


def post_link_scripts(packages: Sequence[ExtractedPackage]) -> tuple[str, ...]:
    """The names of the packages that bring a post-link script; envforge runs none of them."""
    found = []
    for package in packages:
        scripts = {f"bin/.{package.row.name}-post-link.sh", f"Scripts/.{package.row.name}-post-link.bat"}
        if any(entry.get("_path") in scripts for entry in package.paths):
            found.append(package.row.name)
    return tuple(found)


def link_packages(
    packages: Sequence[ExtractedPackage], tree: Path, *, final: Path, platform: str, view: Path
) -> None:
    """Link ``packages`` into the new directory ``tree`` as if it were at ``final``.

    :param view: an empty directory for the throw-away cache; on the file system of ``tree`` or not.
    :raises InputError: if two packages cannot be linked together, or one writes through another's symlink.
    :raises CouldNotError: if linking fails: space, quota, permission.
    """
    _check_symlinks(packages)
    records = [_record(package, view) for package in packages]
    asyncio.run(_install(records, tree, final, platform, view))


async def _install(records: list[Any], tree: Path, final: Path, platform: str, view: Path) -> None:
    from rattler import Client, Config, Subdir
    from rattler.exceptions import InstallerError, LinkError, TransactionError
    from rattler.install import install

    # No client is needed, but one is made, and it fails where the system has no CA certificates.
    client = Client.from_config(Config.from_toml('tls-root-certs = "webpki"'))
    try:
        await install(
            records,
            tree,
            cache_dir=view,
            installed_packages=[],
            platform=Subdir(platform),
            execute_link_scripts=False,
            show_progress=False,
            client=client,
            alternative_target_prefix=final,
        )
    except (InstallerError, LinkError, TransactionError, OSError) as error:
        raise CouldNotError(
            f"the conda packages cannot be linked: {str(error).splitlines()[0]}",
            at=str(tree.parent),
            do="df -h . ; df -i . ; quota   # space, inodes, quota?",
            story=_chain(error),
        ) from error


def _chain(error: BaseException) -> str:
    parts = []
    current: BaseException | None = error
    while current is not None:
        parts.append(str(current))
        current = current.__cause__
    return "\n".join(parts)


def _record(package: ExtractedPackage, view: Path) -> Any:
    """The package as py-rattler wants it: its own index.json, at the URL of the lockfile."""
    from rattler import PackageRecord, RepoDataRecord
    from rattler.exceptions import InvalidPackageNameError, InvalidVersionError

    row = package.row
    (view / package.stem).symlink_to(package.tree.absolute(), target_is_directory=True)
    lock = struct.pack(">Q", 1) + bytes.fromhex(row.sha256 or "")
    (view / f"{package.stem}.lock").write_bytes(lock)
    index = package.tree / "info" / "index.json"
    try:
        record = PackageRecord.from_index_json(index, sha256=row.sha256, md5=row.md5)
    except (InvalidPackageNameError, InvalidVersionError, OSError, ValueError) as error:
        raise InputError(f"{row.filename}: info/index.json cannot be used", story=str(error)) from error
    named = f"{record.name.normalized}-{record.version}-{record.build}"
    if named != package.stem or record.subdir not in (row.platform, "noarch"):
        raise InputError(
            f"{row.filename} says of itself that it is {named} for {record.subdir}",
            at=row.url.rsplit("/", 1)[0],
            do="ask the channel; the file was renamed",
        )
    return RepoDataRecord(record, row.filename, row.url, f"{row.channel}/")


def _check_symlinks(packages: Sequence[ExtractedPackage]) -> None:
    """No package may write through another one's symlink to somewhere outside the prefix."""
    links: dict[PurePosixPath, ExtractedPackage] = {}
    for package in packages:
        for entry in package.paths:
            if entry.get("path_type") == "softlink" and _leaves(package.tree, entry["_path"]):
                links[PurePosixPath(entry["_path"])] = package
    if not links:
        return
    for package in packages:
        for entry in package.paths:
            for parent in PurePosixPath(entry["_path"]).parents:
                if parent in links:
                    raise InputError(
                        f"{package.row.filename} would write through a symlink that leaves the prefix",
                        at=f"{parent}, a link of {links[parent].row.filename}",
                        do="do not install these packages; ask their channel",
                    )


def _leaves(tree: Path, name: str) -> bool:
    target = (tree / name).readlink()
    if target.is_absolute():
        return True
    depth = len(PurePosixPath(name).parts) - 1
    for part in target.parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def conda_owners(tree: Path) -> dict[str, tuple[str, str]]:
    """Who brought each path and how, from ``conda-meta``: ``path -> (owner, how)``."""
    owners: dict[str, tuple[str, str]] = {}
    for path in sorted((tree / "conda-meta").glob("*.json")):
        record: Mapping[str, Any] = json.loads(path.read_bytes())
        owner = f"conda:{record['name']}"
        owners[f"conda-meta/{path.name}"] = (owner, "metadata")
        for entry in record["paths_data"]["paths"]:
            owners[entry["_path"]] = (owner, _how(entry))
    return owners


def _how(entry: Mapping[str, Any]) -> str:
    kind = entry.get("path_type", "")
    if "entry_point" in kind:
        return "entry-point"
    if kind == "pyc_file":
        return "bytecode"
    return "prefix" if entry.get("prefix_placeholder") else "packaged"


def settle_records(tree: Path, packages: Sequence[ExtractedPackage]) -> None:
    """Make ``conda-meta`` a function of the lock and the path: no cache paths, the lock's URLs."""
    by_stem = {package.stem: package.row for package in packages}
    for path in (tree / "conda-meta").glob("*.json"):
        record = json.loads(path.read_bytes())
        row = by_stem[path.stem]
        record.pop("extracted_package_dir", None)
        record.pop("package_tarball_full_path", None)
        record["link"] = {"source": "", "type": 1}
        record["url"] = row.url
        record["channel"] = f"{row.channel}/"
        record["fn"] = row.filename
        write_record(path, record)
    (tree / "conda-meta" / "history").write_text("", encoding="utf-8")


def site_packages_of(packages: Sequence[ExtractedPackage]) -> str | None:
    """Where Python packages go, relative to the prefix; ``None`` for an environment without Python.

    What python's own record says (``python_site_packages_path``, CEP 17), else the usual place.
    """
    for package in packages:
        if package.row.name == "python":
            index = json.loads((package.tree / "info" / "index.json").read_bytes())
            major, minor = package.row.version.split(".")[:2]
            return str(index.get("python_site_packages_path") or f"lib/python{major}.{minor}/site-packages")
    return None


def settle_bytecode_records(tree: Path) -> None:
    """Tell ``conda-meta`` the hash of each packaged bytecode file as it is now."""
    for path in (tree / "conda-meta").glob("*.json"):
        record = json.loads(path.read_bytes())
        entries = [e for e in record["paths_data"]["paths"] if e["_path"].endswith(".pyc")]
        for entry in entries:
            if (tree / entry["_path"]).is_file():
                entry["sha256_in_prefix"] = file_sha256(tree / entry["_path"])
        if entries:
            write_record(path, record)


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write one ``conda-meta`` record, the same bytes for the same content."""
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
