"""``verify``: is what lies on disk what was installed, and is that what was locked?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from envforge.errors import AnswerNo, InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.receipt import BYTECODE, Difference, FileRecord, Receipt, compare
from envforge.node.proving.causes import attribute
from envforge.node.proving.leftovers import leftovers
from envforge.node.proving.receipts import parse_receipt, read_receipt, receipt_text
from envforge.node.proving.scan import RECEIPT, looking, record_of, state_of, unread
from envforge.reporting import Reporter

if TYPE_CHECKING:  # what makes the files again is not loaded where they are only read
    from envforge.edges.store import Store
    from envforge.node.linking.build import BuiltTree
    from envforge.node.sources.source import ArtifactSource

__all__ = ["Against", "Verification", "read_receipt", "verify_prefix", "verify_states"]

Against = Callable[[Path, Receipt], "tuple[ArtifactSource, Store]"]
"""For an environment and its receipt: where the artifacts are, and where to unpack them."""


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
    against: Against | None = None,
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
        seen = _Seen(tree=tree, receipt=receipt, digest=digest, states=found())
    return _hold(seen, jobs=jobs, reporter=reporter, strict=strict, against=against)


def verify_states(
    path: Path,
    text: str,
    states: Mapping[str, str],
    *,
    jobs: int,
    reporter: Reporter,
    expect: str | None = None,
    against: Against | None = None,
) -> Verification:
    """As :func:`verify_prefix`, of an environment that lies in an image and not in a directory.

    :param path: the image.
    :param text: the receipt in it.
    :param states: every other entry of the environment by its path, as ``scan_worker`` writes it.
    """
    receipt = parse_receipt(path, text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    _check_expected(path, digest, expect)
    seen = _Seen(tree=path, receipt=receipt, digest=digest, states=states)
    return _hold(seen, jobs=jobs, reporter=reporter, strict=True, against=against)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """An environment as it was found."""

    tree: Path
    receipt: Receipt
    digest: str
    states: Mapping[str, str]


def _hold(
    seen: _Seen, *, jobs: int, reporter: Reporter, strict: bool, against: Against | None
) -> Verification:
    tree, receipt, states = seen.tree, seen.receipt, seen.states
    expected = {record.path: record for record in receipt.files}
    wanted = {record.path: state_of(record) for record in receipt.files}
    differences, unknown = _differences(expected, wanted, states)
    left, count = set[str](), 0
    if differences and not strict:
        left, count = leftovers(tree, differences, expected, states)
        differences = {name: difference for name, difference in differences.items() if name not in left}
    lock = None
    if against is not None:
        source, store = against(tree, receipt)
        lock = source.lockfile.digest()
        derived = _derive(receipt, source, store, jobs, reporter)
        known = {name: state for name, state in states.items() if name not in left}
        again, _ = _differences(derived, {name: state_of(item) for name, item in derived.items()}, known)
        differences = _receipt_differences(receipt, source, derived, expected) | again | differences
    found_out = tuple(differences[name] for name in sorted(differences))
    return Verification(
        tree=tree,
        receipt=receipt,
        digest=seen.digest,
        files=len(expected),
        differences=attribute(tree, receipt, found_out, expected, states) if tree.is_dir() else found_out,
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
    from envforge.node.sources.source import lock_packages

    return lock_packages(source.lockfile, receipt.platform, receipt.groups, python=receipt.python)


def _with_bytecode(made: BuiltTree, receipt: Receipt, reporter: Reporter) -> Mapping[str, FileRecord]:
    """What was derived, with the bytecode that another Python made, where that is not here, too."""
    theirs = receipt.tools.get(BYTECODE)
    ours = None if made.foreign is None else f"CPython {made.foreign}" if made.foreign else "none"
    if theirs == ours:
        return made.files
    brought = {record.path: record for record in receipt.files if _is_bytecode(record)}
    maker = theirs or "the environment's own Python"
    reporter.note(f"{len(brought)} files of bytecode cannot be derived here: made by {maker}")
    other = {path: record for path, record in made.files.items() if not _is_bytecode(record)}
    folders = {record.path: record for record in receipt.files if record.kind == "directory"}
    kept = {path for path in other if not path.endswith("/__pycache__")}
    caches = {path for path in folders if path.endswith("/__pycache__")}
    return {path: other[path] for path in kept} | {path: folders[path] for path in caches} | brought


def _is_bytecode(record: FileRecord) -> bool:
    return record.how == "bytecode" or (record.how == "runtime" and record.path.endswith(".pyc"))


def _derive(
    receipt: Receipt, source: ArtifactSource, store: Store, jobs: int, reporter: Reporter
) -> Mapping[str, FileRecord]:
    """Make the same environment again from the artifacts, for the same path, and say what it holds."""
    from envforge.edges.scratch import disk_error
    from envforge.node.install import host_platform
    from envforge.node.linking.build import Blueprint, Workshop, build_tree
    from envforge.node.linking.interpreter import ask_interpreter
    from envforge.node.sources.source import BareSource

    if source.lockfile.digest() != receipt.lock:
        raise InputError(
            "the environment was installed from another lock than the one to prove it against",
            at=f"receipt {receipt.lock[:12]}, source {source.lockfile.digest()[:12]}",
            do="name the mirror or lockfile that it was installed from",
        )
    rows = _rows(receipt, source)
    interpreter = None if receipt.python is None else ask_interpreter(receipt.python)
    plan = Blueprint(
        source=source if receipt.runtime is not None else BareSource(source),
        rows=rows,
        platform=receipt.platform,
        final=Path(receipt.generation),
        interpreter=interpreter,
        foreign=receipt.platform != host_platform(),
    )
    store.clean()
    source.prepare(rows)
    try:
        with store.scratch() as work:
            shop = Workshop(work=work, store=store, jobs=jobs, reporter=reporter, mend=True)
            made = _with_bytecode(build_tree(plan, shop), receipt, reporter)
    except OSError as error:
        raise disk_error(error, store.root) from error
    return _as_scripts_left(_with_runtime(made, receipt, source, reporter), receipt, reporter)
