"""Files that were made for a prefix outside it: kernels, wrappers, module files.

They are remembered in ``P.generations/made.json``, so that ``uninstall`` finds them.  That file is believed
only as far as it does no harm: what is removed is a regular file that names the prefix and has the very
content that was written, and directories that are empty then.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.scratch import disk_error
from envforge.errors import CouldNotError, InputError

__all__ = ["Made", "check_place", "forget", "made", "make_files", "remember"]

NAME = "made.json"
_VERSION = 1
_LARGEST = 1_000_000  # bytes of a file that is one of ours, and of the list
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Made:
    """One file that was written, by its absolute path and the sha256 of its content; no hash: a directory."""

    path: Path
    sha256: str | None = None


def remember(prefix_generations: Path, made: Iterable[Made]) -> None:
    """Add to what is remembered of a prefix; of two entries for one path the new one holds.

    :param prefix_generations: the directory of its generations.
    :raises OSError: if it cannot be written there.
    """
    known = {entry.path: entry for entry in _read(prefix_generations)}
    known |= {entry.path: entry for entry in made}
    document = {
        "envforge_made": _VERSION,
        "made": [
            {"path": str(path)} | ({"sha256": entry.sha256} if entry.sha256 else {})
            for path, entry in sorted(known.items())
        ],
    }
    text = json.dumps(document, indent=2) + "\n"  # ASCII: a path need not be UTF-8
    _write(prefix_generations / NAME, text.encode(), mode=0o644)


def made(prefix_generations: Path) -> tuple[Made, ...]:
    """What is remembered of a prefix, by path; whether it is still there is not asked."""
    return tuple(_read(prefix_generations))


def forget(prefix_generations: Path) -> tuple[Path, ...]:
    """Remove what was made for a prefix and is still as it was written; returns what was removed.

    What was changed since, or cannot be removed, stays.
    """
    entries = _read(prefix_generations)
    gone = []
    for entry in (entry for entry in entries if entry.sha256 is not None):
        content = _content(entry.path, prefix_generations)
        if content is not None and hashlib.sha256(content).hexdigest() == entry.sha256:
            with suppress(OSError):
                entry.path.unlink()
                gone.append(entry.path)
    folders = sorted((entry.path for entry in entries if entry.sha256 is None), reverse=True)
    for folder in folders:  # the inner ones first
        with suppress(OSError):
            folder.rmdir()  # only if empty
            gone.append(folder)
    with suppress(OSError):
        (prefix_generations / NAME).unlink()
    return tuple(gone)


def check_place(prefix_generations: Path, path: Path, content: bytes) -> None:
    """Refuse a place where something lies that was not made for this prefix.

    :param content: what shall be written; the same for another generation of the prefix may be there already.
    :raises InputError: if there is; nothing of anybody's is overwritten.
    """
    if not os.path.lexists(path):
        return
    entry = next((entry for entry in _read(prefix_generations) if entry.path == path), Made(path=path))
    there = _content(path, prefix_generations)
    if there is not None and hashlib.sha256(there).hexdigest() == entry.sha256:
        return
    generation = re.compile(re.escape(os.fsencode(f"/{prefix_generations.name}/")) + rb"[0-9a-f]+/")
    if there is None or generation.sub(b"", there) != generation.sub(b"", content):
        raise InputError(
            "something is there that was not made for this prefix, or was changed since",
            at=str(path),
            do=f"rm -r {shlex.quote(str(path))}   # or name another place",
        )


def make_files(
    prefix_generations: Path, files: Mapping[Path, bytes], *, mode: int = 0o644
) -> tuple[Sequence[Path], bool]:
    """Write files that name the prefix, all or, where one is refused, none; make their directories.

    :param files: content by absolute path.
    :returns: what was written, and whether it could be remembered: who uses somebody else's prefix may not
        write beside it.
    :raises InputError: if something else lies there.
    :raises CouldNotError: if the disk refuses.
    """
    for path, content in files.items():
        check_place(prefix_generations, path, content)
    done = []
    try:
        for path, content in files.items():
            done += [Made(path=folder) for folder in _make_folders(path.parent)]
            _write(path, content, mode=mode)
            done.append(Made(path=path, sha256=hashlib.sha256(content).hexdigest()))
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        remembered = _try_to_remember(prefix_generations, done)
    return [entry.path for entry in done if entry.sha256], remembered


def _try_to_remember(prefix_generations: Path, done: Sequence[Made]) -> bool:
    try:
        if not prefix_generations.name.endswith(".generations"):  # an image has none
            return False
        if done:
            remember(prefix_generations, done)
    except OSError:
        return False
    return True


def _make_folders(path: Path) -> list[Path]:
    """Make a directory and what is missing above it; returns what was made."""
    missing = [part for part in (path, *path.parents) if not os.path.lexists(part)]
    for part in reversed(missing):
        try:
            part.mkdir()
        except OSError as error:
            raise CouldNotError(
                f"cannot make the directory: {error.strerror or error}",
                at=str(part),
                do="name a directory that you may write to",
            ) from error
    return missing


def _content(path: Path, prefix_generations: Path) -> bytes | None:
    """The content of a regular file that names the prefix, which is all that is ever made for one."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _LARGEST:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return content if os.fsencode(f"/{prefix_generations.name}/") in content else None


def _read(prefix_generations: Path) -> list[Made]:
    """The list, without what could not have been written here."""
    path = prefix_generations / NAME
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > _LARGEST:
            return []
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    entries = document.get("made") if isinstance(document, dict) else None
    return [entry for entry in map(_entry, entries if isinstance(entries, list) else []) if entry is not None]


def _entry(item: object) -> Made | None:
    if not isinstance(item, dict):
        return None
    path, digest = item.get("path"), item.get("sha256")
    if not isinstance(path, str) or "\0" in path or os.path.abspath(path) != path:  # noqa: PTH100 - as text
        return None
    if digest is not None and not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        return None
    return Made(path=Path(path), sha256=digest)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write beside and rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        beside.chmod(mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
