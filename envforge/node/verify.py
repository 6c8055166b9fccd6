"""``verify``: is what lies on disk what was installed, and is that what was locked?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from envforge.errors import AnswerNo, InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.receipt import Difference, FileRecord, Receipt, compare
from envforge.node.causes import attribute
from envforge.node.leftovers import leftovers
from envforge.node.receipts import parse_receipt, read_receipt, receipt_text
from envforge.node.scan import RECEIPT, looking, record_of, state_of, unread
from envforge.reporting import Reporter

if TYPE_CHECKING:  # what makes the files again is not loaded where they are only read
    from envforge.edges.store import Store
    from envforge.node.sources import ArtifactSource

__all__ = ["Verification", "read_receipt", "verify_prefix"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The answer: no differences means yes, unless entries are ``unread``: then nobody knows.

    ``digest`` is the sha256 of the receipt.  ``leftovers`` counts the bytecode that programs left, which is
    no difference unless ``verify`` was strict.  ``against`` is the digest of the lock whose artifacts the
    files were derived from again, if they were.
    """

    tree: Path
    receipt: Receipt
    digest: str
    files: int
    differences: tuple[Difference, ...]
    unread: tuple[Difference, ...] = ()
    leftovers: int = 0
    against: str | None = None


def verify_prefix(
    path: Path,
    *,
    jobs: int,
    reporter: Reporter,
    expect: str | None = None,
    strict: bool = False,
    against: Callable[[Path, Receipt], tuple[ArtifactSource, Store]] | None = None,
) -> Verification:
    """Hold every file below ``path`` against the receipt, and with ``against`` against the lock's artifacts.

    :param expect: the sha256 that the receipt must have.
    :param strict: count what running programs left as differences.
    :param against: for a generation and its receipt, where the artifacts are and where to unpack them; the
        files are made from them again and compared.
    :raises AnswerNo: if the receipt is not the expected one.
    :raises InputError: if ``path`` is no environment of envforge's, or the source locks something else.
    :raises CouldNotError: if the environment cannot be read at all, or there is no place to unpack.
    """
    tree, text = receipt_text(path)
    with looking(tree, jobs=jobs) as found:
        reporter.step(f"reading {tree}")
        receipt = parse_receipt(tree, text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        _check_expected(tree, digest, expect)
        expected = {record.path: record for record in receipt.files}
        wanted = {record.path: state_of(record) for record in receipt.files}
        states = found()
    differences, unknown = _differences(expected, wanted, states)
    left, count = set[str](), 0
    if differences and not strict:
        left, count = leftovers(tree, differences, expected, states)
        differences = {name: difference for name, difference in differences.items() if name not in left}
    lock = None
    if against is not None:
        source, store = against(tree, receipt)
        lock = source.lockfile.digest()
        made = _derive(receipt, source, store, jobs, reporter)
        derived = _as_scripts_left(_with_runtime(made, receipt, source, reporter), receipt, reporter)
        seen = {name: state for name, state in states.items() if name not in left}
        again, _ = _differences(derived, {name: state_of(item) for name, item in derived.items()}, seen)
        differences = _receipt_differences(receipt, source, derived, expected) | again | differences
    found_out = tuple(differences[name] for name in sorted(differences))
    return Verification(
        tree=tree,
        receipt=receipt,
        digest=digest,
        files=len(expected),
        differences=attribute(tree, receipt, found_out, expected, states),
        unread=unknown,
        leftovers=count,
        against=lock,
    )


def _check_expected(tree: Path, digest: str, expect: str | None) -> None:
    if expect is not None and expect.removeprefix("sha256:").lower() != digest:
        raise AnswerNo(
            f"the receipt is not the expected one: its sha256 is {digest}",
            at=str(tree / RECEIPT),
            do="check the digest that you were given, or whether this is the prefix that was meant",
        )


def _differences(
    expected: Mapping[str, FileRecord], wanted: Mapping[str, str], states: Mapping[str, str]
) -> tuple[dict[str, Difference], tuple[Difference, ...]]:
    """By path, what differs; and what nobody knows, because it cannot be read.

    :param wanted: the states of ``expected``: texts are compared, and records made where they differ.
    """
    names = [name for name, state in wanted.items() if states.get(name) != state]
    names += states.keys() - wanted.keys()
    want = {name: expected[name] for name in names if name in expected}
    have = {name: record_of(name, states[name]) for name in names if name in states}
    reasons = {name: reason for name in have if (reason := unread(states[name])) is not None}
    closed = tuple(f"{name}/" for name in reasons if have[name].kind == "directory")
    differences: dict[str, Difference] = {}
    unknown = []
    for name in reasons:  # its mode, its kind and its size are known all the same
        known = have[name]
        if name in want and known.size == want[name].size:
            have[name] = replace(known, sha256=want[name].sha256)
        if name in want and have[name].state == want[name].state:
            unknown.append(Difference(kind="unread", path=name, detail=reasons[name], owner=want[name].owner))
    for difference in compare(want, have):
        if difference.kind == "missing" and difference.path.startswith(closed):
            unknown.append(replace(difference, kind="unread", detail="in a directory that cannot be read"))
        else:
            differences[difference.path] = difference
    return differences, tuple(sorted(unknown, key=lambda difference: difference.path))


def _receipt_differences(
    receipt: Receipt,
    source: ArtifactSource,
    derived: Mapping[str, FileRecord],
    expected: Mapping[str, FileRecord],
) -> dict[str, Difference]:
    """Where the receipt is not what the lock gives: its files and its packages."""
    said = "the receipt itself is not what the lock gives"
    found = {
        difference.path: replace(difference, detail=f"{said}: {difference.detail or difference.kind}")
        for difference in compare(derived, expected)
    }
    rows = {row.url: row for row in _rows(receipt, source)}
    listed = {row.url: row for row in receipt.packages}
    wrong = sorted({row.name for url, row in (rows | listed).items() if rows.get(url) != listed.get(url)})
    if wrong:
        names = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        found[RECEIPT] = Difference(kind="changed", path=RECEIPT, detail=f"{said}: packages {names}")
    return found


def _with_runtime(
    derived: Mapping[str, FileRecord], receipt: Receipt, source: ArtifactSource, reporter: Reporter
) -> Mapping[str, FileRecord]:
    """What was derived, with the runtime that a bundle brought, where the source is another one."""
    if receipt.runtime is None or receipt.runtime == source.runtime:
        return derived
    below = (".envforge/runtime", ".envforge/bin")
    brought = {record.path: record for record in receipt.files if record.path.startswith(below)}
    reporter.note(
        f"{len(brought)} entries are of the runtime that a bundle brought, and only that bundle has it"
    )
    own = {path: record for path, record in derived.items() if not path.startswith(below)}
    return {**own, **brought}


def _as_scripts_left(
    derived: Mapping[str, FileRecord], receipt: Receipt, reporter: Reporter
) -> Mapping[str, FileRecord]:
    """What was derived, with what post-link scripts made of it: that only the receipt can tell."""
    if not receipt.scripts:
        return derived
    made = {record.path: record for record in receipt.files if record.how == "post-link"}
    listed = {record.path for record in receipt.files}
    removed = {name for name in derived if name not in listed and derived[name].kind != "directory"}
    reporter.note(
        f"{len(made)} files were made and {len(removed)} removed by the post-link scripts of "
        f"{', '.join(receipt.scripts)}: they cannot be derived from the lock"
    )
    folders = {record.path: record for record in receipt.files if record.kind == "directory"}
    parents = {str(parent) for name in made for parent in PurePosixPath(name).parents}
    kept = {name: record for name, record in derived.items() if name not in removed}
    return kept | made | {name: folders[name] for name in folders if name in parents or name not in kept}


def _rows(receipt: Receipt, source: ArtifactSource) -> tuple[LockedPackage, ...]:
    from envforge.node.sources import lock_packages

    return lock_packages(source.lockfile, receipt.platform, receipt.groups, python=receipt.python)


def _derive(
    receipt: Receipt, source: ArtifactSource, store: Store, jobs: int, reporter: Reporter
) -> dict[str, FileRecord]:
    """Make the same environment again from the artifacts, for the same path, and say what it holds."""
    from envforge.edges.scratch import disk_error
    from envforge.node.build import Blueprint, Workshop, build_tree
    from envforge.node.interpreter import ask_interpreter

    if source.lockfile.digest() != receipt.lock:
        raise InputError(
            "the environment was installed from another lock than the one to prove it against",
            at=f"receipt {receipt.lock[:12]}, source {source.lockfile.digest()[:12]}",
            do="name the mirror or lockfile that it was installed from",
        )
    rows = _rows(receipt, source)
    interpreter = None if receipt.python is None else ask_interpreter(receipt.python)
    plan = Blueprint(
        source=source,
        rows=rows,
        platform=receipt.platform,
        final=Path(receipt.generation),
        interpreter=interpreter,
    )
    store.clean()
    source.prepare(rows)
    try:
        with store.scratch() as work:
            shop = Workshop(work=work, store=store, jobs=jobs, reporter=reporter, mend=True)
            return build_tree(plan, shop).files
    except OSError as error:
        raise disk_error(error, store.root) from error
