"""``sbom``: what is inside, with licences, of a lockfile, a mirror or a prefix.

The document is CycloneDX; the licences' texts come as plain text.  A bundle carries both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.edges.licenses import read_facts
from envforge.errors import InputError
from envforge.formats import cyclonedx_json, licenses_txt
from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["facts_of", "licenses_text", "make_sbom"]


def facts_of(
    rows: Sequence[LockedPackage], artifact: Callable[[LockedPackage], Path | None]
) -> dict[str, PackageFacts]:
    """The licences of ``rows`` from their artifacts, by sha256; one that is not at hand is left out.

    :param artifact: the file of a row, which is hashed before it is read; ``None`` if it is not at hand.
    :raises InputError: if an artifact is not the locked one, or cannot be read.
    """
    found = {}
    for row in rows:
        path = None if row.sha256 is None else artifact(row)
        if path is None or row.sha256 is None:
            continue
        sha256 = file_sha256(path)
        if sha256 != row.sha256:
            raise InputError(
                f"{row.filename} is not what was locked: its sha256 is {sha256}",
                at=str(path),
                do="carry or fetch it again",
            )
        found[row.sha256] = read_facts(path, row.filename)
    return found


def make_sbom(
    lockfile: Lockfile, platform: str, rows: Sequence[LockedPackage], facts: Mapping[str, PackageFacts]
) -> str:
    """The CycloneDX document for the rows of one platform; see :func:`cyclonedx_json.write`."""
    return cyclonedx_json.write(lockfile, platform, rows, facts)


def licenses_text(rows: Sequence[LockedPackage], facts: Mapping[str, PackageFacts]) -> str:
    """The table of licences and their texts; see :func:`licenses_txt.write`."""
    return licenses_txt.write(rows, facts)
