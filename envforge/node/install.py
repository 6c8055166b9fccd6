"""``install``: one step from the old environment to the new.

A generation is made beside the others, recorded, renamed to its name, and only then does ``P`` point to it.
Its name is the hash of everything that it depends on: the locked rows, the prefix, the tools.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform as machine
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import envforge
from envforge.edges.scratch import disk_error
from envforge.edges.store import Store
from envforge.formats import receipt_json
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target, platform_of
from envforge.model.receipt import FileRecord, Receipt
from envforge.node.build import BuiltTree, build_tree
from envforge.node.prefix import Prefix
from envforge.node.preflight import check_before
from envforge.node.receipts import read_receipt
from envforge.node.scan import RECEIPT
from envforge.node.sources import ArtifactSource, lock_packages
from envforge.reporting import Reporter

__all__ = ["InstallOptions", "InstallResult", "host_platform", "install", "tool_versions"]


@dataclass(frozen=True, kw_only=True)
class InstallOptions:
    """What may be chosen about an installation.

    ``jobs`` is the number of threads and processes.  ``ignored`` names checks that are not to refuse,
    ``profile`` the nodes that the environment will run on, if not this machine.
    """

    groups: tuple[str, ...] = ("main",)
    jobs: int = 2
    dry_run: bool = False
    ignored: frozenset[str] = frozenset()
    profile: Target | None = None


@dataclass(frozen=True, kw_only=True)
class InstallResult:
    """What was done: ``changed`` is false where the prefix was already what was asked for.

    Of a dry run, ``files`` and ``bytes`` are about what would be written, ``unknown`` the packages that this
    leaves out because they are not at hand.
    """

    prefix: Path
    generation: Path
    changed: bool
    packages: int
    files: int = 0
    bytes: int = 0
    unknown: int = 0
    lock: str = ""


def host_platform() -> str:
    """The platform of this machine."""
    return platform_of(machine.system(), machine.machine())


def tool_versions() -> dict[str, str]:
    """The versions of what decides how a tree looks."""
    return {
        "envforge": envforge.__version__,
        "py-rattler": version("py-rattler"),
        "uv": version("uv"),
    }


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
    """
    prefix = Prefix(path)
    prefix.check()
    platform = platform or host_platform()
    rows = lock_packages(source.lockfile, platform, options.groups)
    generation = prefix.generation(_identity(rows, prefix.path, platform, source, options.groups))
    complete = _is_complete(generation)
    result = InstallResult(
        prefix=prefix.path,
        generation=generation,
        changed=prefix.current() != generation or not complete,
        packages=len(rows),
        lock=source.lockfile.digest(),
    )
    if not complete:
        needs = check_before(
            source,
            rows,
            final=generation,
            store=store,
            platform=platform,
            reporter=reporter,
            jobs=options.jobs,
            profile=options.profile,
            ignored=options.ignored,
        )
        result = replace(result, files=needs.total.files, bytes=needs.total.bytes, unknown=needs.unknown)
    if options.dry_run:
        return result
    prefix.clean()
    store.clean()
    if not result.changed:
        return result
    files = None
    try:
        if not complete:
            files = _make(source, rows, prefix, generation, platform, store, options, reporter)
        prefix.switch(generation)
    except OSError as error:
        raise disk_error(error, prefix.generations) from error
    if files is None:
        files = read_receipt(generation)[1].files
    plain = [record for record in files if record.kind == "file"]
    size = sum(record.size or 0 for record in plain)
    return replace(result, files=len(plain), bytes=size, unknown=0)


def _is_complete(generation: Path) -> bool:
    """Whether the generation is there; its receipt is the last file that is written into it.

    Files that were changed or removed afterwards are for ``verify`` to find.
    """
    try:
        return (generation / RECEIPT).stat().st_size > 0
    except OSError:
        return False


def _identity(
    rows: Sequence[LockedPackage],
    prefix: Path,
    platform: str,
    source: ArtifactSource,
    groups: Sequence[str],
) -> str:
    content = {
        "rows": [row.to_dict() for row in rows],
        "lockfile": source.lockfile_sha256,
        "prefix": str(prefix),
        "platform": platform,
        "groups": list(groups),
        "tools": tool_versions(),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _make(
    source: ArtifactSource,
    rows: Sequence[LockedPackage],
    prefix: Prefix,
    generation: Path,
    platform: str,
    store: Store,
    options: InstallOptions,
    reporter: Reporter,
) -> tuple[FileRecord, ...]:
    """Make the generation, unless somebody else did meanwhile; returns what it holds."""
    with prefix.work() as work:
        built = build_tree(
            source,
            rows,
            platform=platform,
            final=generation,
            work=work,
            store=store,
            jobs=options.jobs,
            reporter=reporter,
        )
        _tell(built, reporter)
        receipt = Receipt(
            prefix=str(prefix.path),
            generation=str(generation),
            platform=platform,
            groups=options.groups,
            lock=source.lockfile.digest(),
            lockfile=source.lockfile_sha256,
            tools=tool_versions(),
            packages=tuple(rows),
            files=tuple(built.files[name] for name in sorted(built.files)),
        )
        _write(built.path / RECEIPT, receipt_json.write(receipt))
        _remember(generation)
        if not _is_complete(generation):  # else another process was faster, with the same content
            if generation.is_dir():  # without a receipt: somebody broke it
                reporter.note(f"{generation.name} was damaged and is made again")
                generation.rename(work / "damaged")
            built.path.rename(generation)
        return receipt.files


def _tell(built: BuiltTree, reporter: Reporter) -> None:
    if built.unrun_scripts:
        reporter.note(f"post-link scripts were not run: {', '.join(built.unrun_scripts)}")
    if built.clobbered:
        listed = ", ".join(built.clobbered[:5]) + (" …" if len(built.clobbered) > 5 else "")
        reporter.note(f"{len(built.clobbered)} files are in more than one package: {listed}")
    for name in built.not_compiled:
        reporter.detail(f"no bytecode: {name} does not compile")


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _remember(generation: Path) -> None:
    """When, where and by whom, beside the generation: inside it would differ from one run to the next."""
    record = {
        "envforge_installation": 1,
        "time": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "host": socket.gethostname(),
        "user": _user(),
        "tool": f"envforge {envforge.__version__}",
    }
    path = generation.with_name(f"{generation.name}.json")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    _write(beside, json.dumps(record, indent=2) + "\n")
    beside.replace(path)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry in passwd, as in a container
        return str(os.getuid())
