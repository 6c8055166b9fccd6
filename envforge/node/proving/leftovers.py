"""What running programs leave in an environment: bytecode beside a source that is what it was.

``install`` compiles what it can, so that there is little to leave: another optimisation level, another
Python, a test that pytest rewrote.  The rule is narrow: a new file ``D/__pycache__/NAME.….pyc`` that names
the size of ``D/NAME.py``, where that is in the receipt and unchanged.  Python takes it only while size and
time of the source are what it says; bytecode that is believed without a look at the source no running program
writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from envforge.model.receipt import Difference, FileRecord

__all__ = ["bytecode_sources", "leftovers"]

_CACHE = "__pycache__"
_FIRST_WITH_FLAGS = 3390  # the magic number from which on PEP 552 holds: Python 3.7


def bytecode_sources(path: str) -> Iterator[str]:
    """What ``path`` may be the bytecode of: ``a/__pycache__/b.cpython-312.pyc`` that of ``a/b.py``.

    Several, because a name and the rest behind it may have dots; none if it is no bytecode.
    """
    folder, _, name = path.rpartition("/")
    above, _, cache = f"/{folder}".rpartition("/")
    stem, found, _ = name.rpartition(".pyc")
    if cache != _CACHE or not found:
        return
    while "." in stem:
        stem = stem.rpartition(".")[0]
        if stem:
            yield f"{above[1:]}/{stem}.py" if above[1:] else f"{stem}.py"


def leftovers(
    tree: Path,
    differences: Mapping[str, Difference],
    expected: Mapping[str, FileRecord],
    states: Mapping[str, str],
) -> tuple[set[str], int]:
    """The paths of ``differences`` that are what running programs left, directories included.

    :param states: every entry as it was found.
    :returns: the paths, and how many files are among them.
    """
    added = {path for path, difference in differences.items() if difference.kind == "added"}
    files = {path for path in added if _is_left(tree, path, differences, expected, states)}
    full = {path.rpartition("/")[0] for path in added if path not in files}
    folders = {path.rpartition("/")[0] for path in files}
    empty = {path for path in folders if path in added and path not in full}
    return files | empty, len(files)


def _is_left(
    tree: Path,
    path: str,
    differences: Mapping[str, Difference],
    expected: Mapping[str, FileRecord],
    states: Mapping[str, str],
) -> bool:
    if not states[path].startswith("f"):
        return False
    for source in bytecode_sources(path):
        record = expected.get(source)
        if record is not None and record.kind == "file" and source not in differences:
            # A name that does not end in .pyc is what a killed program was writing; nothing reads it.
            return not path.endswith(".pyc") or _names_size(tree / path, record.size or 0)
    return False


def _names_size(path: Path, size: int) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            head = os.read(handle, 16)
        finally:
            os.close(handle)
    except OSError:
        return False
    if len(head) < 16:
        return False
    here = 12
    if int.from_bytes(head[:2], "little") < _FIRST_WITH_FLAGS:
        here = 8  # magic, time, size
    elif any(head[4:8]):
        return False  # by the hash of the source, or not checked at all
    return head[here : here + 4] == (size & 0xFFFFFFFF).to_bytes(4, "little")
