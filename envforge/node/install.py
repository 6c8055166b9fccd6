"""``install``: one step from the old environment to the new.

A generation is made beside the others, recorded, renamed to its name, and only then does ``P`` point to it.
Its name is the hash of everything that it depends on: the locked rows, the prefix, the tools.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform as machine
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import envforge
from envforge.edges.scratch import discard, disk_error, write_beside
from envforge.edges.store import Store
from envforge.errors import CouldNotError, EnvforgeError
from envforge.formats import receipt_json
from envforge.model.platforms import Target, platform_of
from envforge.model.receipt import BYTECODE, Receipt
from envforge.node.history import (
    described_changes,
    installed_rows,
    keep_only,
    new_installation,
    point_to,
    read_note,
    write_note,
)
from envforge.node.linking.blueprint import Blueprint, BuiltTree, Workshop
from envforge.node.linking.build import build_tree, bytecode_key
from envforge.node.linking.interpreter import Interpreter, check_version
from envforge.node.linking.tags import PythonTags, check_tags
from envforge.node.needs import Needs
from envforge.node.prefix import Prefix, is_complete
from envforge.node.preflight import check_before
from envforge.node.proving.scan import RECEIPT
from envforge.node.sources.source import ArtifactSource, StoreSource, lock_packages
from envforge.reporting import Reporter

__all__ = [
    "InstallOptions",
    "InstallResult",
    "host_platform",
    "install",
    "new_receipt",
    "planned",
    "tell",
    "tool_versions",
]

_PYTHON = re.compile(r"\d{1,4}\.\d{1,4}(?!\d)")
_FREE_THREADED = re.compile(r"_cp\d+t$")  # how conda-forge names such builds of python
_TRIES = 3
"""How often a generation is made that somebody else removes at once."""


@dataclass(frozen=True, kw_only=True)
class InstallOptions:
    """What may be chosen about an installation.

    ``jobs`` is the number of threads and processes; ``keep`` how many generations stay beside the current
    one, ``None`` for one; ``python`` the interpreter of a virtual environment; ``scripts`` the packages whose
    post-link scripts are run.  With ``anew`` a generation is made even if the same is there already.
    ``ignored`` names checks that are not to refuse, ``profile`` the nodes that the environment will run on,
    if not this machine.
    """

    groups: tuple[str, ...] = ("main",)
    jobs: int = 2
    dry_run: bool = False
    keep: int | None = None
    python: Interpreter | None = None
    scripts: tuple[str, ...] = ()
    anew: bool = False
    ignored: frozenset[str] = frozenset()
    profile: Target | None = None


@dataclass(frozen=True, kw_only=True)
class InstallResult:
    """What was done: ``changed`` is false where the prefix was already what was asked for.

    ``changes`` says how the environment differs from the one before; ``removed`` are generations that were
    not to be kept.  Of a dry run, ``files`` and ``bytes`` are about what would be written, ``unknown`` the
    packages that this leaves out because they are not at hand.
    """

    prefix: Path
    generation: Path
    changed: bool
    packages: int
    files: int = 0
    bytes: int = 0
    unknown: int = 0
    lock: str = ""
    changes: str = ""
    removed: tuple[Path, ...] = ()


def host_platform() -> str:
    """The platform of this machine."""
    return platform_of(machine.system(), machine.machine())


def tool_versions() -> dict[str, str]:
    """The versions of what decides how a tree looks."""
    return {"envforge": envforge.__version__, "py-rattler": version("py-rattler")}


def planned(source: ArtifactSource, platform: str, options: InstallOptions) -> Blueprint:
    """What is to be made of ``source``, but for the path.

    :raises InputError: if the lock cannot be installed on ``platform``, or not with that Python.
    """
    python = options.python
    rows = lock_packages(
        source.lockfile, platform, options.groups, python=None if python is None else python.path
    )
    own = next((row for row in rows if row.manager == "conda" and row.name == "python"), None)
    if python is not None:
        check_version(source.lockfile, platform, python)
        threads = python.free_threaded
        check_tags(rows, PythonTags.of(python.version, platform, free_threaded=threads))
    elif own is not None and "pypy" not in own.build_string and _PYTHON.match(own.version):
        threads = _FREE_THREADED.search(own.build_string) is not None
        check_tags(rows, PythonTags.of(own.version, platform, free_threaded=threads))
    return Blueprint(
        source=source,
        rows=rows,
        platform=platform,
        final=Path(),
        interpreter=python,
        scripts=options.scripts,
    )


def install(
    source: ArtifactSource,
    path: Path,
    *,
    store: Store,
    options: InstallOptions,
    reporter: Reporter,
    platform: str | None = None,
) -> InstallResult:
    """Make ``path`` the environment that ``source`` locks for this machine.

    :param platform: what this machine is; only a test says otherwise.
    :returns: what was done; ``changed`` is false if nothing was to do.
    :raises InputError: if the lock cannot be installed here, or ``path`` cannot be a prefix.
    :raises CouldNotError: if an artifact is not the locked one, or the disk refuses.
    :raises BusyError: if somebody else is changing the prefix.
    """
    prefix = Prefix(path)
    prefix.check()
    plan = planned(source, platform or host_platform(), options)
    return _Installation(prefix, plan, store, options, reporter).run()


class _Installation:
    def __init__(
        self, prefix: Prefix, plan: Blueprint, store: Store, options: InstallOptions, reporter: Reporter
    ) -> None:
        self.prefix = prefix
        self.plan = plan
        self.store = store
        self.options = options
        self.reporter = reporter
        self.identity = _identity(plan, prefix, options)

    def run(self) -> InstallResult:
        prefix, options = self.prefix, self.options
        current = prefix.current()
        generation = prefix.anew(self.identity) if options.anew else prefix.generation(self.identity)
        result = InstallResult(
            prefix=prefix.path,
            generation=generation,
            changed=current != generation or not is_complete(generation),
            packages=len(self.plan.rows),
            lock=self.plan.source.lockfile.digest(),
        )
        if result.changed and current is not None:
            changes = described_changes(installed_rows(prefix, current), self.plan.rows)
            result = replace(result, changes=changes)
        if not options.dry_run:
            # What killed runs have left takes room, too.
            prefix.clean()
            self.store.clean()
        if not is_complete(generation):
            needs = self._check(generation)
            result = replace(result, files=needs.total.files, bytes=needs.total.bytes, unknown=needs.unknown)
        if options.dry_run:
            if result.changed and not isinstance(self.plan.source, StoreSource):  # which would fetch
                self.plan.source.prepare(self.plan.rows)
            return result
        try:
            if not result.changed:
                removed = () if options.keep is None else self._keep_only(options.keep)
                return replace(result, removed=removed)
            self._make_and_switch(generation, result.changes)
        except OSError as error:
            raise disk_error(error, prefix.generations) from error
        note = read_note(prefix, generation)
        removed = self._tidy(1 if options.keep is None else options.keep)
        return replace(result, files=note.files, bytes=note.size, unknown=0, removed=removed)

    def _check(self, generation: Path) -> Needs:
        """Refuse what cannot end well; returns what will be written."""
        plan, options = self.plan, self.options
        key = bytecode_key(plan)
        return check_before(
            plan.source,
            plan.rows,
            final=generation,
            store=self.store,
            platform=plan.platform,
            reporter=self.reporter,
            jobs=options.jobs,
            profile=options.profile,
            ignored=options.ignored,
            compiled=lambda sha256: key is not None and self.store.bytecode(key, sha256) is not None,
        )

    def _make_and_switch(self, generation: Path, changes: str) -> None:
        for _ in range(_TRIES):
            # A post-link script runs where the environment will be: nobody else may take that for damaged.
            with self.prefix.turn(seconds=3600) if self.plan.scripts else nullcontext():
                if not is_complete(generation):
                    self._prepare(generation)
                    self._make(generation, changes)
            with self.prefix.turn():
                if is_complete(generation):  # else somebody who keeps fewer has removed it
                    point_to(self.prefix, generation)
                    return
        raise CouldNotError(
            "the new environment was removed again and again by somebody else",
            at=str(generation),
            do="see who else installs there: envforge history P",
        )

    def _prepare(self, generation: Path) -> None:
        """Have the artifacts at hand; what they need is known only then, if they had to be fetched."""
        self.plan.source.prepare(self.plan.rows)
        if isinstance(self.plan.source, StoreSource):  # a bundle knows its needs before
            self._check(generation)

    def _make(self, generation: Path, changes: str) -> None:
        """Make the generation, unless somebody else does meanwhile."""
        prefix = self.prefix
        with prefix.work() as work, _gone_if_unfinished(generation, prefix):
            plan = replace(self.plan, final=generation)
            shop = Workshop(work=work, store=self.store, jobs=self.options.jobs, reporter=self.reporter)
            self._clear(generation, work)
            built = build_tree(plan, shop)
            tell(built, self.reporter)
            receipt = new_receipt(plan, built, prefix=prefix.path, groups=self.options.groups)
            write_beside(built.path / RECEIPT, receipt_json.write(receipt))
            self._note(receipt, generation, changes)
            if built.path != generation:
                self._clear(generation, work)
                try:
                    built.path.rename(generation)
                except OSError:
                    if not is_complete(generation):  # else another process was faster, with the same content
                        raise

    def _clear(self, generation: Path, work: Path) -> None:
        if generation.is_dir() and not is_complete(generation):  # somebody broke it
            self.reporter.note(f"{generation.name} was damaged and is made again")
            generation.rename(work / f"damaged-{os.urandom(4).hex()}")

    def _note(self, receipt: Receipt, generation: Path, changes: str) -> None:
        plain = [record for record in receipt.files if record.kind == "file"]
        installation = new_installation(
            name=self.plan.source.lockfile.name,
            lock=receipt.lock,
            groups=receipt.groups,
            packages=len(receipt.packages),
            files=len(plain),
            size=sum(record.size or 0 for record in plain),
            changes=changes,
            stores=tuple(str(layer) for layer in self.store.layers),
        )
        write_note(self.prefix, generation, installation)

    def _tidy(self, count: int) -> tuple[Path, ...]:
        """Remove old generations, if that can be done: the new one is in place, and that is what counts."""
        try:
            return self._keep_only(count)
        except (EnvforgeError, OSError) as error:
            self.reporter.note(f"old generations could not be removed: {error}")
            return ()

    def _keep_only(self, count: int) -> tuple[Path, ...]:
        with self.prefix.turn():
            removed, running = keep_only(self.prefix, count)
        for path in running:
            self.reporter.note(f"{path.name} is kept: a process of this machine runs in it")
        return removed


def new_receipt(plan: Blueprint, built: BuiltTree, *, prefix: Path, groups: tuple[str, ...]) -> Receipt:
    """The receipt of a tree that was made of ``plan``.

    :param prefix: the path that people use.
    """
    source, tools = plan.source, tool_versions()
    if built.foreign is not None:
        tools[BYTECODE] = f"CPython {built.foreign}" if built.foreign else "none"
    return Receipt(
        prefix=str(prefix),
        generation=str(plan.final),
        platform=plan.platform,
        groups=groups,
        lock=source.lockfile.digest(),
        lockfile=source.lockfile_sha256,
        tools=tools,
        packages=plan.rows,
        python=None if plan.interpreter is None else plan.interpreter.executable,
        scripts=plan.scripts,
        runtime=source.runtime,
        files=tuple(built.files[name] for name in sorted(built.files)),
    )


@contextmanager
def _gone_if_unfinished(generation: Path, prefix: Prefix) -> Iterator[None]:
    """Leave no generation without a receipt behind, where it was made at its own path."""
    try:
        yield
    except BaseException:
        if generation.is_dir() and not is_complete(generation):
            with suppress(OSError):
                discard(generation, prefix.generations)
        raise


def _identity(plan: Blueprint, prefix: Prefix, options: InstallOptions) -> str:
    content = {
        "rows": [row.to_dict() for row in plan.rows],
        "lockfile": plan.source.lockfile_sha256,
        "prefix": str(prefix.path),
        "platform": plan.platform,
        "groups": list(options.groups),
        "tools": tool_versions(),
        "scripts": list(plan.scripts),
        "runtime": plan.source.runtime,
    }
    if plan.interpreter is not None:
        content["python"] = [plan.interpreter.executable, plan.interpreter.identity]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def tell(built: BuiltTree, reporter: Reporter) -> None:
    """Say what somebody should hear about a tree that was made."""
    if built.copied:
        reporter.note(f"files are copied and not hard-linked: {built.copied}")
    if built.unrun_scripts:
        names = ", ".join(built.unrun_scripts)
        reporter.note(f"post-link scripts were not run: {names}; --run-scripts NAME runs one")
    if built.clobbered:
        listed = ", ".join(built.clobbered[:5]) + (" …" if len(built.clobbered) > 5 else "")
        reporter.note(f"{len(built.clobbered)} files are in more than one package: {listed}")
    if built.not_compiled:
        reporter.note(f"{len(built.not_compiled)} sources do not compile, such as {built.not_compiled[0]}")
    for name in built.not_compiled:
        reporter.detail(f"no bytecode: {name} does not compile")
