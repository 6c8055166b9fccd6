"""Runtimes that were made before: in the store, known by what they are made of."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import envforge
from envforge.edges.hashing import file_sha256
from envforge.edges.store import Store
from envforge.errors import EnvforgeError
from envforge.formats import runtime_json
from envforge.formats.gzip_members import is_canonical
from envforge.model.lockfile import LockedPackage
from envforge.model.runtime import MadeRuntime
from envforge.runtime.own import every_file

__all__ = ["keep_runtime", "kept_runtime", "recipe"]


def recipe(rows: Sequence[LockedPackage], platform: str) -> str:
    """The digest of all that a runtime's bytes depend on.

    That is the packages, what links and what compresses them, and envforge: what of it goes in, and the rest,
    which decides about everything.
    """
    own = hashlib.sha256()
    for name, content in sorted(every_file().items()):
        own.update(f"{name}\0{len(content)}\0".encode() + content)
    return hashlib.sha256(
        json.dumps(
            [
                platform,
                sorted([row.manager, row.filename, row.sha256 or ""] for row in rows),
                [envforge.__version__, own.hexdigest(), _version("py-rattler"), is_canonical()],
            ]
        ).encode()
    ).hexdigest()


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def kept_runtime(store: Store, key: str) -> MadeRuntime | None:
    """The runtime that was made of what ``key`` says, hashed; ``None`` if it is not there any more."""
    note = store.runtime(key)
    if note is None:
        return None
    try:
        facts = runtime_json.read(note.read_text(encoding="utf-8"))
        path = store.artifact(facts.sha256)
        if path is None or file_sha256(path) != facts.sha256:
            return None
    except (OSError, UnicodeDecodeError, EnvforgeError):
        return None
    store.use(note)
    store.use(path)
    return MadeRuntime(path=path, **asdict(facts))


def keep_runtime(store: Store, key: str, made: MadeRuntime) -> None:
    """Keep a runtime, if the store can be written to."""

    def bring(target: Path) -> None:
        try:
            os.link(made.path, target)
        except OSError:  # another file system
            shutil.copyfile(made.path, target)

    with suppress(OSError):
        store.add_artifact(made.sha256, bring)
        store.add_runtime(key, runtime_json.write(made))
