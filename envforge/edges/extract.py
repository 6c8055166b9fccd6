"""Conda packages as trees: extracted, checked before anybody believes them, and checked again when used.

A tree in a store is reached from prefixes through hard links: an edit in one prefix is an edit of the tree.
It is held against the artifact that it came from: ``info/`` byte for byte, every other file against the
sha256 in the artifact's own ``info/paths.json``, links against the archive's members.  Permissions and
times are in no list; what matters of them is written down when the tree is made (``info/envforge.json``).
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from envforge.edges.archive import check_member, conda_info_files, conda_links
from envforge.edges.hashing import file_sha256
from envforge.edges.scratch import is_full, room_remedy
from envforge.errors import CouldNotError, InputError

__all__ = [
    "check_artifact",
    "entry_points",
    "extract_package",
    "first_altered",
    "first_unlike",
    "normal_mode",
    "package_paths",
    "stale_bytecode",
]

_NOTES = "info/envforge.json"
_ASK = "do not use this package; ask its channel"
# What an environment has that no package may bring: records of conda's, of ours, and where losers are put.
_RESERVED = (".envforge", "__clobbers__", "CACHEDIR.TAG", "conda-meta")
_ALLOWED = ("conda-meta/pinned", "conda-meta/frozen")
# Errors for which no package is to blame: EIO, ENOMEM, EACCES, ENFILE, EMFILE, EROFS, ENOTCONN, ETIMEDOUT,
# ESTALE, EREMOTEIO.
_REFUSED = re.compile(r"os error (5|12|13|23|24|30|107|110|116|121)\b")


def normal_mode(mode: int) -> int:
    """The permission bits that a file gets everywhere: what its owner may do, all may, but for writing.

    A function of the package alone and not of the umask; setuid, setgid and group-write bits are dropped.
    """
    return 0o755 if mode & stat.S_IXUSR else 0o644


def check_artifact(artifact: Path, filename: str, sha256: str) -> None:
    """Whether the file is the one that was locked.

    :raises CouldNotError: if it is not, or cannot be read.
    """
    found = file_sha256(artifact)
    if found != sha256:
        raise _wrong_artifact(artifact, filename, sha256, found)


def _wrong_artifact(artifact: Path, filename: str, sha256: str, found: str) -> CouldNotError:
    return CouldNotError(
        f"{filename} is not the file that was locked: sha256 {found[:16]}… instead of {sha256[:16]}…",
        at=str(artifact),
        do=f"rm '{artifact}'   # then carry it again, or: envforge mirror conda-lock.yml DIR",
    )


def extract_package(artifact: Path, filename: str, sha256: str, directory: Path) -> Path:
    """Extract into ``directory`` and check everything that can be checked before it is believed.

    :returns: the tree.
    :raises CouldNotError: if the artifact is not the one of the lockfile, or there is no room.
    :raises InputError: if it is the one of the lockfile and cannot be used.
    """
    from rattler.exceptions import ExtractError, IoError
    from rattler.package_streaming import extract

    if not artifact.is_file():
        raise CouldNotError(
            f"{filename} is missing",
            at=str(artifact),
            do="envforge mirror conda-lock.yml DIR   # fetches what is missing",
        )
    named = directory / filename  # py-rattler goes by the suffix
    named.symlink_to(artifact.resolve())
    tree = directory / "tree"
    try:
        found = extract(named, tree)[0].hex()
    except (ExtractError, IoError, OSError) as error:
        check_artifact(artifact, filename, sha256)
        raise _not_extracted(artifact, filename, directory, error) from error
    if found != sha256:
        raise _wrong_artifact(artifact, filename, sha256, found)
    _check_paths(tree, filename)
    entry_points(tree, filename)
    notes = {"stale": _find_stale(tree), "executables": _settle(tree)}
    (tree / _NOTES).write_text(json.dumps(notes), encoding="utf-8")
    (tree / _NOTES).chmod(0o644)
    return tree


def _not_extracted(
    artifact: Path, filename: str, directory: Path, error: Exception
) -> InputError | CouldNotError:
    story = _chain(error)
    if is_full(story):
        return CouldNotError(
            f"there is no room to unpack {filename}",
            at=str(artifact),
            do=room_remedy(directory),
            story=story,
        )
    if _REFUSED.search(story):
        return CouldNotError(
            f"the disk refused to unpack {filename}: {story.splitlines()[-1]}",
            at=str(artifact),
            do="the same command again; if it fails again, ask who keeps this file system",
            story=story,
        )
    return InputError(
        f"{filename} cannot be unpacked: {story.splitlines()[-1] if story else 'no archive'}",
        at=str(artifact),
        do=_ASK,
        story=story,
    )


def _chain(error: BaseException | None) -> str:
    parts = []
    while error is not None:
        parts.append(str(error))
        error = error.__cause__
    return "\n".join(parts).strip()


def _settle(tree: Path) -> list[str]:
    """Give everything its normal mode; returns the files that may be executed, sorted."""
    executables = []
    tree.chmod(0o755)
    for base, directories, files in os.walk(tree):
        for name in directories:
            path = os.path.join(base, name)  # noqa: PTH118 - hundreds of thousands of them
            if not os.path.islink(path):  # noqa: PTH114
                os.chmod(path, 0o755)  # noqa: PTH101, S103
        for name in files:
            path = os.path.join(base, name)  # noqa: PTH118
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                mode = normal_mode(status.st_mode)
                if stat.S_IMODE(status.st_mode) != mode:
                    os.chmod(path, mode)  # noqa: PTH101
                if mode == 0o755:
                    executables.append(os.path.relpath(path, tree))
    return sorted(executables)


def _find_stale(tree: Path) -> list[str]:
    """Packaged bytecode that Python would not have used: made from a source of another time or size."""
    stale = []
    for path in tree.rglob("__pycache__/*.pyc"):
        source = path.parent.parent / f"{path.name.split('.')[0]}.py"
        try:
            with path.open("rb") as file:
                head = file.read(16)
            status = source.stat()
        except OSError:
            continue
        flags, modified, size = (int.from_bytes(head[at : at + 4], "little") for at in (4, 8, 12))
        known = (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        if len(head) < 16 or (flags == 0 and (modified, size) != known):
            stale.append(path.relative_to(tree).as_posix())
    return sorted(stale)


def stale_bytecode(tree: Path) -> frozenset[str]:
    """The packaged bytecode of an extracted tree that must not be used, by path."""
    return _noted(tree, "stale")


# -- what a package says of itself ---------------------------------------------------------------------


def package_paths(tree: Path, filename: str) -> list[dict[str, Any]]:
    """The entries of a package's ``info/paths.json``, each a mapping with a text ``_path``.

    Packages from before 2017 have none; for them the list is made from ``info/files``, as conda does.

    :raises InputError: if there is neither, or it is of no use.
    """
    listed = tree / "info" / "paths.json"
    if not listed.exists() and (tree / "info" / "files").exists():
        return [{"_path": name, "path_type": "hardlink"} for name in _old_list(tree, filename)]
    entries = _read_json(listed, filename).get("paths")
    if not isinstance(entries, list):
        raise InputError(f"{filename}: info/paths.json has no list of paths", at=filename, do=_ASK)
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("_path"), str):
            raise InputError(
                f"{filename} lists something that is no path",
                at=f"info/paths.json: paths[{index}]",
                do=_ASK,
            )
    return entries


def _old_list(tree: Path, filename: str) -> list[str]:
    try:
        text = (tree / "info" / "files").read_text(encoding="utf-8")
    except OSError as error:
        raise _disk(error, tree / "info" / "files") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{filename}: info/files cannot be read", at=filename, do=_ASK) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _check_paths(tree: Path, filename: str) -> None:
    """No path that the package names may leave the root it is linked into, or be there twice."""
    root = Path(os.path.realpath(tree))
    place = f"{filename}: info/paths.json"
    seen: set[str] = set()
    parents: dict[Path, bool] = {}
    for entry in package_paths(tree, filename):
        name = entry["_path"]
        check_member(name, at=place)
        if name.split("/")[0] in _RESERVED and name not in _ALLOWED:
            raise InputError(f"{name} is not a package's to bring", at=place, do=_ASK)
        if name in seen:
            raise InputError(f"{name} is listed twice", at=place, do=_ASK)
        seen.add(name)
        parent = (tree / name).parent
        if parent not in parents:
            parents[parent] = Path(os.path.realpath(parent)).is_relative_to(root)
        if not parents[parent]:
            raise InputError(f"{name} lies behind a symlink that leaves the package", at=place, do=_ASK)
        if entry.get("path_type") != "directory" and not os.path.lexists(tree / name):
            raise InputError(f"{filename} lists {name} and does not bring it", at=place, do=_ASK)
        if entry.get("path_type") == "softlink" and not (tree / name).is_symlink():
            raise InputError(f"{filename} lists {name} as a link, and it is none", at=place, do=_ASK)


def entry_points(tree: Path, filename: str) -> tuple[str, ...]:
    """The commands that a ``noarch: python`` package has made for it, each the name of a file.

    :raises InputError: if one is not, or there is no list of them.
    """
    link = tree / "info" / "link.json"
    if not link.exists():
        return ()
    place = f"{filename}: info/link.json"
    noarch = _read_json(link, filename).get("noarch") or {}
    points = (noarch.get("entry_points") or []) if isinstance(noarch, dict) else None
    if not isinstance(points, list):
        raise InputError("the entry points are no list", at=place, do=_ASK)
    commands = []
    for point in points:
        command = str(point).partition("=")[0].strip()
        check_member(command, at=place)
        if "/" in command or not command.isprintable():
            raise InputError(f"the entry point {command!r} is no file name", at=place, do=_ASK)
        commands.append(command)
    return tuple(commands)


def _disk(error: OSError, path: Path) -> CouldNotError:
    """A file of the store that the disk does not give: the package is not to blame."""
    return CouldNotError(
        f"cannot read: {error.strerror or error}", at=str(path), do="check the disk, and who may read it"
    )


def _read_json(path: Path, filename: str) -> dict[str, Any]:
    place = f"{filename}: {path.parent.name}/{path.name}"
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{filename} has no {path.parent.name}/{path.name}", at=filename, do=_ASK) from error
    except OSError as error:
        raise _disk(error, path) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name} cannot be read", at=place, do=_ASK, story=str(error)) from error
    if not isinstance(value, dict):
        raise InputError(f"{path.name} is no mapping", at=place, do=_ASK)
    return value


# -- whether a tree is still what it was ---------------------------------------------------------------


def first_altered(tree: Path, artifact: Path, filename: str, *, hashing: bool, scratch: Path) -> str | None:
    """The first path of a stored tree that is not what the artifact says.

    :param artifact: the package, under whatever name; its own hash was checked.
    :param hashing: also the content of files that are linked as they are; else that is left to whoever hashes
        them anyway.  What an environment gets in another form (paths put in, bytecode) is hashed here.
    :param scratch: where an odd archive may be written anew.
    """
    info = conda_info_files(artifact, filename, scratch=scratch)
    for name, content in info.items():
        path = tree / name
        if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
            return name
    if "info/paths.json" not in info:
        return "info/paths.json"  # too old to have hashes of its files: only extracting it again can tell
    entries = package_paths(tree, filename)
    executables = _noted(tree, "executables")
    hashes: dict[str, object] = {}
    links = []
    for entry in entries:
        name = entry["_path"]
        if os.path.islink(f"{tree}/{name}"):  # noqa: PTH114 - tens of thousands of them
            links.append(entry)
        elif _is_listed(tree, entry, executables, hashing=hashing):
            hashes[name] = entry.get("sha256")
        else:
            return str(name)
    return _first_wrong_link(tree, links, hashes, lambda: conda_links(artifact, filename, scratch=scratch))


def _noted(tree: Path, kind: str) -> frozenset[str]:
    try:
        names = json.loads((tree / _NOTES).read_bytes())[kind]
        return frozenset(str(name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return frozenset()


def _is_listed(tree: Path, entry: Mapping[str, Any], executables: frozenset[str], *, hashing: bool) -> bool:
    name = entry["_path"]
    try:
        status = os.lstat(f"{tree}/{name}")
    except OSError:
        return entry.get("path_type") == "directory"
    if stat.S_ISDIR(status.st_mode):
        return entry.get("path_type") == "directory"
    if not stat.S_ISREG(status.st_mode) or bool(status.st_mode & stat.S_IXUSR) != (name in executables):
        return False
    if hashing or entry.get("prefix_placeholder") is not None or name.endswith(".pyc"):
        return file_sha256(tree / name) == entry.get("sha256")
    # Without a hash nobody can find out later.
    return isinstance(entry.get("sha256"), str)


def _first_wrong_link(
    tree: Path,
    links: Sequence[Mapping[str, Any]],
    hashes: Mapping[str, object],
    packed_links: Callable[[], Mapping[str, str]],
) -> str | None:
    """The first link that leads elsewhere than the package's own; ``hashes`` are those of proven files.

    What is listed for a link is the hash of the file that it leads to.  A link that leads to no file, as to a
    directory, is looked up in the artifact, all of which must be unpacked in memory for that.
    """
    root, unproven = os.path.realpath(tree), []
    for entry in links:
        end = os.path.relpath(os.path.realpath(tree / entry["_path"]), root)
        if end not in hashes or hashes[end] is None or hashes[end] != entry.get("sha256"):
            unproven.append(entry["_path"])
    packed = packed_links() if unproven else {}
    return next((n for n in unproven if packed.get(n) != os.readlink(tree / n)), None)  # noqa: PTH115


def first_unlike(tree: Path, fresh: Path) -> str | None:
    """The first path, relative to both, at which two extracted trees differ."""
    for base, directories, files in os.walk(fresh):
        for name in sorted(directories + files):
            path = Path(base, name)
            other = tree / path.relative_to(fresh)
            if not _alike(path, other):
                return str(path.relative_to(fresh))
    return None


def _alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir():
        return other.is_dir()
    if not other.is_file() or (one.stat().st_mode ^ other.stat().st_mode) & stat.S_IXUSR:
        return False
    return file_sha256(one) == file_sha256(other)
