"""``verify``: is what lies on disk what was installed, and is that what was locked?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envforge.edges.scratch import disk_error
from envforge.edges.store import Store
from envforge.errors import CouldNotError, InputError
from envforge.model.receipt import Difference, FileRecord, Receipt, compare
from envforge.node.build import Blueprint, Workshop, build_tree
from envforge.node.receipts import read_receipt
from envforge.node.scan import scan
from envforge.node.sources import ArtifactSource, lock_packages
from envforge.reporting import Reporter

__all__ = ["Verification", "read_receipt", "verify_prefix"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The answer: no differences means yes.

    ``against`` is the digest of the lock whose artifacts the files were derived from again, if they were.
    """

    tree: Path
    receipt: Receipt
    files: int
    differences: tuple[Difference, ...]
    against: str | None = None


def verify_prefix(
    path: Path,
    *,
    jobs: int,
    reporter: Reporter,
    against: ArtifactSource | None = None,
    store: Store | None = None,
) -> Verification:
    """Hold every file below ``path`` against the receipt, and with ``against`` against the lock's artifacts.

    :param against: where the artifacts are; the files are made from them again and compared.
    :param store: where they are unpacked for that.
    :raises InputError: if ``path`` is no environment of envforge's, or ``against`` locks something else.
    :raises CouldNotError: if something cannot be read, or there is no place to unpack.
    """
    tree, receipt = read_receipt(path)
    reporter.step(f"reading {len(receipt.files)} entries of {tree}")
    found = scan(tree, jobs=jobs)
    expected = {record.path: record for record in receipt.files}
    differences = {difference.path: difference for difference in compare(expected, found)}
    digest = None
    if against is not None:
        derived = _derive(receipt, against, store, jobs, reporter)
        digest = against.lockfile.digest()
        for difference in compare(derived, found):
            differences.setdefault(difference.path, difference)
        for difference in compare(derived, expected):
            differences.setdefault(difference.path, _in_receipt(difference))
    return Verification(
        tree=tree,
        receipt=receipt,
        files=len(expected),
        differences=tuple(differences[name] for name in sorted(differences)),
        against=digest,
    )


def _in_receipt(difference: Difference) -> Difference:
    return Difference(
        kind=difference.kind,
        path=difference.path,
        detail=f"the receipt itself is not what the lock gives: {difference.detail}",
        owner=difference.owner,
    )


def _derive(
    receipt: Receipt, source: ArtifactSource, store: Store | None, jobs: int, reporter: Reporter
) -> dict[str, FileRecord]:
    """Make the same environment again from the artifacts, for the same path, and say what it holds."""
    if source.lockfile.digest() != receipt.lock:
        raise InputError(
            "the environment was installed from another lock than the one to prove it against",
            at=f"receipt {receipt.lock[:12]}, source {source.lockfile.digest()[:12]}",
            do="name the mirror or lockfile that it was installed from",
        )
    rows = lock_packages(source.lockfile, receipt.platform, receipt.groups)
    if store is None:
        raise CouldNotError("no place to unpack the artifacts", do="name one: --store DIR")
    store.clean()
    source.prepare(rows)
    try:
        with store.scratch() as work:
            plan = Blueprint(
                source=source, rows=rows, platform=receipt.platform, final=Path(receipt.generation)
            )
            shop = Workshop(work=work, store=store, jobs=jobs, reporter=reporter, mend=True)
            return build_tree(plan, shop).files
    except OSError as error:
        raise disk_error(error, store.root) from error
