"""``licenses.txt``: what is inside, under which licence, and the licences' own texts.

Goals: for people; a function of the rows and their facts; equal texts are printed once; bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage

__all__ = ["LIMIT", "write"]

LIMIT = 64 << 20
"""Characters of all texts together; those of 500 packages have about five million."""
_RULE = "=" * 100


def write(rows: Sequence[LockedPackage], facts: Mapping[str, PackageFacts]) -> str:
    """A table of packages, versions and licences, and then every text with the packages that brought it.

    :param facts: by the sha256 of the artifact; a package without is in the table all the same.
    """
    ordered = sorted(rows, key=lambda row: (row.name, row.manager, row.version, row.url))
    table = [("PACKAGE", "VERSION", "FROM", "LICENCE")]
    table += [(row.name, row.version, row.manager, _facts(row, facts).license or "-") for row in ordered]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[3]])
        for line in table
    ]
    lines += ["", "- stands where a package names no licence.", ""]
    return "\n".join(lines) + "".join(_texts(ordered, facts))


def _facts(row: LockedPackage, facts: Mapping[str, PackageFacts]) -> PackageFacts:
    return facts.get(row.sha256 or "", PackageFacts())


def _texts(rows: Sequence[LockedPackage], facts: Mapping[str, PackageFacts]) -> list[str]:
    bringers: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    for row in rows:
        for path, text in _facts(row, facts).texts:
            digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
            texts[digest] = text
            bringers.setdefault(digest, []).append(f"{row.name} {row.version}: {path}")
    parts: list[str] = []
    room = LIMIT
    for digest, places in bringers.items():
        part = "\n".join(["", _RULE, *places, _RULE, "", texts[digest].strip("\n"), ""])
        if len(part) > room:
            parts.append(f"\n{_RULE}\nThe other texts are left out: there is more than {LIMIT} characters.\n")
            break
        room -= len(part)
        parts.append(part)
    return parts
