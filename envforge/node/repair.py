"""Making a damaged environment anew: another generation of the same lock, beside the damaged one."""

from __future__ import annotations

from pathlib import Path

from envforge.edges.store import Store
from envforge.errors import InputError
from envforge.model.receipt import Receipt
from envforge.node.history import read_note
from envforge.node.install import InstallOptions, InstallResult, install
from envforge.node.linking.interpreter import ask_interpreter
from envforge.node.prefix import Prefix
from envforge.node.sources.source import ArtifactSource
from envforge.reporting import Reporter

__all__ = ["prefix_of", "repair"]


def prefix_of(path: Path) -> Prefix:
    """The prefix that ``path`` is, or is a generation of.

    :raises InputError: if it is neither.
    """
    if path.is_symlink():
        return Prefix(path)
    tree = path.resolve()
    name = tree.parent.name.removesuffix(".generations")
    prefix = Prefix(tree.parent.parent / name)
    if not name or tree.parent != prefix.generations:
        raise InputError(
            "not a generation beside its prefix", at=str(path), do="name the --prefix of the installation"
        )
    return prefix


def repair(
    path: Path,
    receipt: Receipt | None,
    source: ArtifactSource,
    *,
    store: Store,
    jobs: int,
    reporter: Reporter,
) -> InstallResult:
    """Make the environment at ``path`` anew from ``source``, and point the prefix to it.

    The damaged generation stays, as an earlier one does: jobs may still run in it.

    :param receipt: of the damaged generation; ``None`` if it was damaged as well.
    :param store: one that heals: what was altered in it through hard links is unpacked again.
    :raises InputError: if ``source`` has another lock, or the prefix points elsewhere.
    :raises CouldNotError: as ``install`` does.
    """
    prefix = prefix_of(path)
    tree = path.resolve()
    if prefix.current() != tree:
        raise InputError(
            "the prefix does not point to this generation",
            at=str(tree),
            do=f"envforge verify {prefix.path}   # is the current one damaged?",
        )
    note = read_note(prefix, tree)
    lock = note.lock if receipt is None else receipt.lock
    if source.lockfile.digest() != lock:
        raise InputError(
            "the environment was installed from another lock than the one to repair it from",
            at=f"installed {lock[:12] or 'unknown'}, source {source.lockfile.digest()[:12]}",
            do="name the mirror or lockfile that it was installed from",
        )
    options = InstallOptions(groups=note.groups, jobs=jobs, anew=True)
    if receipt is not None:
        python = None if receipt.python is None else ask_interpreter(receipt.python)
        options = InstallOptions(
            groups=receipt.groups, jobs=jobs, anew=True, python=python, scripts=receipt.scripts
        )
    return install(source, prefix.path, store=store, options=options, reporter=reporter)
