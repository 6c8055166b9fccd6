"""What an artifact was unpacked to: every file of its tree with its sha256, written down once it was proven.

::

    {"envforge_list": 1,
     "entries": {"bin": ["d", ""], "bin/x": ["x", SHA256], "lib/a.py": ["f", SHA256], "lib/b": ["l", "a.py"]}}

``x`` is a file that may be executed, ``f`` another one, ``l`` a symbolic link and ``d`` a directory.  With it
a tree proves itself where the artifact is there no more.  Unlike the files of the tree, the list is no hard
link to anything in an environment.  No lockfile has a hash of it: who wrote it down must be believed.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.errors import EnvforgeError

__all__ = ["Listing", "first_unlisted", "list_tree", "read_listing", "write_listing"]

VERSION = 1
Listing = Mapping[str, tuple[str, str]]


def list_tree(tree: Path, known: Mapping[str, str]) -> Listing:
    """Everything in ``tree``, by path.

    :param known: the sha256 of files that were hashed already.
    :raises CouldNotError: if a file cannot be read.
    """
    found = {}
    for base, directories, files in os.walk(tree):
        inside = os.path.relpath(base, tree)
        for name in (*directories, *files):
            path = name if inside == "." else f"{inside}/{name}"
            found[path] = _entry(f"{tree}/{path}", known.get(path))
    return dict(sorted(found.items()))


def _entry(path: str, sha256: str | None = None) -> tuple[str, str]:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "l", os.readlink(path)  # noqa: PTH115 - the text as it is
    if stat.S_ISDIR(mode):
        return "d", ""
    if not stat.S_ISREG(mode):
        return "?", ""
    return "x" if mode & stat.S_IXUSR else "f", sha256 or file_sha256(Path(path))


def first_unlisted(tree: Path, listing: Listing) -> str | None:
    """The first path at which ``tree`` is not what was written down; all of it is hashed."""
    for name, wanted in listing.items():
        try:
            if _entry(f"{tree}/{name}") != wanted:
                return name
        except (OSError, EnvforgeError):
            return name
    present = {
        os.path.relpath(os.path.join(base, name), tree)  # noqa: PTH118 - tens of thousands of them
        for base, directories, files in os.walk(tree)
        for name in (*directories, *files)
    }
    return min(present - listing.keys(), default=None)


def write_listing(path: Path, listing: Listing) -> None:
    """Write a list to the new file ``path``.

    :raises OSError: if the disk refuses.
    """
    entries = {name: list(entry) for name, entry in listing.items()}
    path.write_text(json.dumps({"envforge_list": VERSION, "entries": entries}), encoding="ascii")


def read_listing(path: Path) -> Listing | None:
    """The list at ``path``; ``None`` if it cannot be used, which is as if there were none."""
    try:
        document = json.loads(path.read_bytes())
        if document["envforge_list"] != VERSION:
            return None
        return {str(name): (str(kind), str(what)) for name, (kind, what) in document["entries"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
