"""Linking conda packages out of the store, with py-rattler.

py-rattler installs from a package cache.  It is given a throw-away one, of symlinks into the store and the
``.lock`` files that it expects (an 8-byte revision and the sha256), so that it neither downloads, nor
extracts, nor locks, nor keeps anything.  That layout is undocumented: py-rattler's minor version is pinned
and a contract test installs through it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from envforge.edges.extract import entry_points, package_paths, stale_bytecode
from envforge.edges.scratch import is_full, remove_tree
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.manifest import check_inside
from envforge.node.linking.clobber import Claims, filtered_copy, losers
from envforge.node.linking.links import escaping_link

__all__ = [
    "ExtractedPackage",
    "link_packages",
    "placed",
    "post_link_scripts",
    "python_version",
    "site_packages_of",
]

_ARCHIVES = (".conda", ".tar.bz2")
_ASK = "do not install these packages; ask their channel"
_PYTHON = re.compile(r"\d{1,4}\.\d{1,4}(?![0-9])")
_NOBODY = """\
-----BEGIN CERTIFICATE-----
MIIBeTCCAR+gAwIBAgIUN/LPC9IBKlRRzII1COPtyVFV0TUwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyNDA3NDkwM1oYDzIxMjYxMDMxMDc0
OTAzWjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AAT7APcutlcKrgEdL49ePdE9fyTqHn7vo1DDfVyTKUcO32W8XKn4t1wZJPXr0O/U
4Frd9s6M/XcT6DX0lcv2PH/jo1MwUTAdBgNVHQ4EFgQUv+OiAAca51+XEGOksfik
WqgXguUwHwYDVR0jBBgwFoAUv+OiAAca51+XEGOksfikWqgXguUwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAoifDHVq8Ygmi0V2LR1KFgQQzCAgg
Nw4+nXMhKyp2tmACIDr5RaT8yHTX1m+OLVTjo3PdgKBPwMkF60xFUezUyILw
-----END CERTIFICATE-----
"""


@dataclass(frozen=True, kw_only=True)
class ExtractedPackage:
    """A locked conda package and its tree in the store; ``fresh`` if that was unpacked just now."""

    row: LockedPackage
    tree: Path
    fresh: bool = True

    @cached_property
    def paths(self) -> list[dict[str, Any]]:
        """The entries of ``info/paths.json``."""
        return package_paths(self.tree, self.row.filename)

    @cached_property
    def index(self) -> dict[str, Any]:
        """What ``info/index.json`` says.

        :raises InputError: if it cannot be read.
        """
        try:
            value = json.loads((self.tree / "info" / "index.json").read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("info/index.json cannot be read", at=self.row.filename, do=_ASK) from error
        if not isinstance(value, dict):
            raise InputError("info/index.json is no mapping", at=self.row.filename, do=_ASK)
        return value

    @property
    def stem(self) -> str:
        """The file name without its archive suffix: ``NAME-VERSION-BUILD``."""
        name = self.row.filename
        for suffix in _ARCHIVES:
            name = name.removesuffix(suffix)
        return name


def python_version(packages: Sequence[ExtractedPackage]) -> str | None:
    """The version of the conda ``python`` among ``packages``, such as ``3.12.13``.

    :raises InputError: if it does not begin with two numbers.
    """
    version = next((package.row.version for package in packages if package.row.name == "python"), None)
    if version is not None and not _PYTHON.match(version):
        raise InputError(f"{version!r} is no version of Python", at="package python", do=_ASK)
    return version


def post_link_scripts(packages: Sequence[ExtractedPackage]) -> tuple[str, ...]:
    """The names of the packages that bring a post-link script; envforge runs none of them."""
    found = []
    for package in packages:
        scripts = {f"bin/.{package.row.name}-post-link.sh", f"Scripts/.{package.row.name}-post-link.bat"}
        if any(entry.get("_path") in scripts for entry in package.paths):
            found.append(package.row.name)
    return tuple(found)


def link_packages(
    packages: Sequence[ExtractedPackage],
    tree: Path,
    *,
    final: Path,
    platform: str,
    view: Path,
    links: bool,
    jobs: int,
) -> tuple[str, ...]:
    """Link ``packages`` into the new directory ``tree`` as if it were at ``final``.

    :returns: the paths that more than one package brings, sorted.

    :param view: an empty directory for the throw-away cache; on the file system of ``tree`` or not.
    :param links: whether files may be hard links to the store's.
    :param jobs: how many threads may link.
    :raises InputError: if two packages cannot be linked together, or one writes through another's symlink.
    :raises CouldNotError: if linking fails: space, quota, permission.
    """
    site_packages = site_packages_of(packages)
    _check_noarch(packages, site_packages)
    _check_symlinks(packages, site_packages)
    _check_lengths(packages, final)
    claims = [_claims(package, site_packages) for package in packages]
    lost = losers(claims)
    records = [_record(package, view, lost.get(package.row.name)) for package in packages]
    # The engine asks once, when it makes its threads.
    os.environ.setdefault("RAYON_NUM_THREADS", str(jobs))
    asyncio.run(_install(records, tree, final, platform, view, links=links))
    _check_linked(packages, claims, lost, tree)
    for package in packages:
        # Bytecode that Python would have passed over; nobody else has a link to this name.
        for name in stale_bytecode(package.tree) - lost.get(package.row.name, set()):
            (tree / placed(package, name, site_packages)).unlink(missing_ok=True)
    places = {package.name: dict(package.places) for package in claims}
    return tuple(sorted({places[owner][name] for owner, names in lost.items() for name in names}))


def _claims(package: ExtractedPackage, site_packages: str | None) -> Claims:
    entries = (e for e in package.paths if e.get("path_type") != "directory")
    return Claims(
        name=package.row.name,
        depends=tuple(str(spec).split(" ")[0] for spec in package.index.get("depends") or ()),
        files={e["_path"]: placed(package, e["_path"], site_packages) for e in entries},
        commands={command: f"bin/{command}" for command in entry_points(package.tree, package.row.filename)},
    )


def _check_linked(
    packages: Sequence[ExtractedPackage], claims: Sequence[Claims], lost: Mapping[str, set[str]], tree: Path
) -> None:
    """py-rattler tries out what the disk can do, and carries on where it can do less or refuses once: what it
    could not tidy up is removed here, and a file in place of a symbolic link is an error.

    :raises CouldNotError: if there is one.
    :raises OSError: if something cannot be removed.
    """
    brought = {"conda-meta", "CACHEDIR.TAG"}
    brought |= {entry["_path"].split("/")[0] for package in packages for entry in package.paths}
    brought |= {place.split("/")[0] for claim in claims for _, place in claim.places}
    for path in [path for path in tree.iterdir() if path.name not in brought]:
        remove_tree(path)
    for package, claim in zip(packages, claims, strict=True):
        for entry in package.paths:
            name = entry["_path"]
            if entry.get("path_type") == "softlink" and name not in lost.get(package.row.name, ()):
                place = tree / claim.files[name]
                if not place.is_symlink():
                    raise CouldNotError(
                        f"the disk refused a symbolic link: {claim.files[name]}",
                        at=str(tree.parent),
                        do="the same command again; if it fails again, name another --prefix",
                    )


def _idle_client(work: Path) -> Any:
    """A client that is not needed, but must be there, although a node may lack what it wants to read.

    That is CA certificates and a home directory.  This one is given a certificate whose key was never kept,
    and so connects to nobody, and a home in which nothing is.
    """
    from rattler import Client, Config

    certificate = work / "nobody.pem"
    certificate.write_text(_NOBODY, encoding="ascii")
    own = {"SSL_CERT_FILE": str(certificate), "SSL_CERT_DIR": str(work), "HOME": str(work)}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        return Client.from_config(Config())
    finally:
        certificate.unlink()
        for name, value in before.items():
            del os.environ[name]
            os.environ |= {} if value is None else {name: value}


async def _install(
    records: list[Any], tree: Path, final: Path, platform: str, view: Path, *, links: bool
) -> None:
    from rattler import Config, Subdir
    from rattler.exceptions import InstallerError, LinkError, TransactionError
    from rattler.install import install

    client = _idle_client(view.parent)
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
            config=None if links else Config.from_toml("allow-hard-links = false"),
        )
    except (InstallerError, LinkError, TransactionError, OSError) as error:
        raise _not_linked(error, tree.parent) from error


def _not_linked(error: Exception, place: Path) -> EnvforgeError:
    story = _chain(error)
    first, last = story.splitlines()[0], story.splitlines()[-1].strip()
    what = f"the conda packages cannot be linked: {first}" + (f": {last}" if last != first else "")
    if is_full(story):
        do = "df -h . ; df -i . ; quota   # space, inodes, quota?"
    else:
        do = "see the log; is the disk writable, and does each package install elsewhere?"
    return CouldNotError(what, at=str(place), do=do, story=story)


def _chain(error: BaseException) -> str:
    parts = []
    current: BaseException | None = error
    while current is not None:
        parts.append(str(current))
        current = current.__cause__
    return "\n".join(parts).strip() or type(error).__name__


def _record(package: ExtractedPackage, view: Path, lost: set[str] | None) -> Any:
    """The package as py-rattler wants it: its own index.json, and its tree without what it has ``lost``."""
    from rattler import PackageRecord, PathsJson, RepoDataRecord

    row = package.row
    if lost:
        filtered_copy(package.tree.absolute(), view / package.stem, lost)
    else:
        (view / package.stem).symlink_to(package.tree.absolute(), target_is_directory=True)
    lock = struct.pack(">Q", 1) + bytes.fromhex(row.sha256 or "")
    (view / f"{package.stem}.lock").write_bytes(lock)
    index = package.tree / "info" / "index.json"
    try:
        record = PackageRecord.from_index_json(index, sha256=row.sha256, md5=row.md5)
        if (package.tree / "info" / "paths.json").exists():
            PathsJson.from_path(package.tree / "info" / "paths.json")
    except Exception as error:
        raise InputError(
            f"{row.filename} cannot be used: {str(error).splitlines()[0]}",
            at=row.filename,
            do=_ASK,
            story=str(error),
        ) from error
    named = f"{record.name.normalized}-{record.version}-{record.build}"
    if named != package.stem or record.subdir not in (row.platform, "noarch"):
        raise InputError(
            f"{row.filename} says of itself that it is {named} for {record.subdir}",
            at=row.url.rsplit("/", 1)[0],
            do="ask the channel; the file was renamed",
        )
    if (record.name.normalized, str(record.version)) != (row.name, row.version):
        raise InputError(
            f"{row.name} {row.version} is locked as {row.filename}, which is another package",
            at=f"package {row.name} ({row.manager}, {row.platform})",
            do="lock again: envforge lock",
        )
    # What py-rattler finds amiss in its cache it fetches anew: it is given a place where there is nothing,
    # and the lock's URL is put into conda-meta afterwards.
    return RepoDataRecord(record, row.filename, f"file:///nonexistent/{row.filename}", f"{row.channel}/")


# -- what is refused before anything is linked ---------------------------------------------------------


def _check_noarch(packages: Sequence[ExtractedPackage], site_packages: str | None) -> None:
    stems: dict[str, ExtractedPackage] = {}
    for package in packages:
        if site_packages is None and package.index.get("noarch") == "python":
            raise InputError(
                f"{package.row.name} needs Python, and the lockfile has no conda python",
                at=package.row.filename,
                do="add python to the dependencies of the specification and lock again",
            )
        other = stems.setdefault(package.row.name, package)
        if other is not package:
            raise InputError(
                f"{package.row.name} is locked twice: {other.row.filename} and {package.row.filename}",
                at=f"categories {other.row.category} and {package.row.category}",
                do="install one of these groups alone, or lock again",
            )


def _check_symlinks(packages: Sequence[ExtractedPackage], site_packages: str | None) -> None:
    """No package may write through any package's symlinks to somewhere outside the prefix."""
    links: dict[tuple[str, ...], list[str]] = {}
    for package in packages:
        for entry in package.paths:
            path = package.tree / entry["_path"]
            if entry.get("path_type") != "directory" and path.is_symlink():
                place = tuple(placed(package, entry["_path"], site_packages).split("/"))
                links.setdefault(place, []).append(os.readlink(path))  # noqa: PTH115 - the text as it is
    if not links:
        return
    for package in packages:
        for entry in package.paths:
            found = escaping_link(placed(package, entry["_path"], site_packages), links)
            if found is not None:
                raise InputError(
                    f"{package.row.filename} would write through a symlink that leaves the prefix",
                    at=found,
                    do=_ASK,
                )


def placed(package: ExtractedPackage, name: str, site_packages: str | None) -> str:
    """Where the file ``name`` of a package goes, relative to the prefix."""
    if site_packages is not None and package.index.get("noarch") == "python":
        for start, place in (("site-packages/", f"{site_packages}/"), ("python-scripts/", "bin/")):
            if name.startswith(start):
                return place + name.removeprefix(start)
    return name


def _check_lengths(packages: Sequence[ExtractedPackage], final: Path) -> None:
    """A binary has room for a prefix of a certain length, and for no longer one."""
    length = len(os.fsencode(final))
    for package in packages:
        for entry in package.paths:
            placeholder = entry.get("prefix_placeholder")
            if entry.get("file_mode") == "binary" and isinstance(placeholder, str):
                room = len(placeholder.encode(errors="replace"))
                if room < length:
                    raise InputError(
                        f"the path is too long for {package.row.name}: {length} bytes, and {room} fit",
                        at=str(final),
                        do=f"name a --prefix that is at least {length - room} bytes shorter",
                    )


def site_packages_of(packages: Sequence[ExtractedPackage]) -> str | None:
    """Where Python packages go, relative to the prefix; ``None`` for an environment without Python.

    What python's own record says (``python_site_packages_path``, CEP 17), else the usual place.

    :raises InputError: if that lies outside the prefix.
    """
    version = python_version(packages)
    for package in packages:
        if package.row.name == "python" and version is not None:
            told = package.index.get("python_site_packages_path")
            major, minor = version.split(".")[:2]
            usual = f"lib/python{major}.{minor}/site-packages"
            if told is not None and not isinstance(told, str):
                raise InputError("python_site_packages_path is no text", at=package.row.filename, do=_ASK)
            return check_inside(told or usual, at=f"{package.row.filename}: python_site_packages_path")
    return None
