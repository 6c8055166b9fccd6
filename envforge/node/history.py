"""The life of a prefix after it was installed: its generations, going back to one, removing them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from envforge import __version__
from envforge.edges.scratch import disk_error, write_beside
from envforge.errors import AnswerNo, EnvforgeError, InputError
from envforge.formats import installation_json, lock_json
from envforge.model.installation import Installation
from envforge.model.lockfile import LockedPackage
from envforge.node.outside import forget, made
from envforge.node.prefix import Prefix, is_complete
from envforge.node.sources.documents import read_document

__all__ = [
    "Moment",
    "described_changes",
    "history",
    "installed_rows",
    "keep_only",
    "new_installation",
    "point_to",
    "read_note",
    "rollback",
    "stores_before",
    "uninstall",
    "write_note",
]

_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID", "OAR_JOB_ID", "COBALT_JOBID")
_NAMED = 3  # packages that a line about changes names


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One generation of a prefix, how it came to be, and whether the prefix points to it."""

    generation: Path
    installation: Installation
    current: bool


def now() -> str:
    """The time, in UTC, to the microsecond: two generations may be made within one second."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def job_id() -> str:
    """The number of the batch job that this is, with the name of its variable; empty outside of one."""
    return next((f"{name}={os.environ[name]}" for name in _JOBS if os.environ.get(name)), "")


def new_installation(**facts: object) -> Installation:
    """What is written down about a generation that is made here and now."""
    here = Installation(
        made=now(), host=socket.gethostname(), user=_user(), job=job_id(), tool=f"envforge {__version__}"
    )
    return replace(here, **facts)  # type: ignore[arg-type]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no entry in passwd, as in a container
        return str(os.getuid())


# -- notes ---------------------------------------------------------------------------------------------


def read_note(prefix: Prefix, generation: Path) -> Installation:
    """How a generation came to be; where that is not known any more, only when."""
    try:
        text = read_document(prefix.note(generation), "the note", do="it may be removed")
        return installation_json.read(text)
    except (OSError, EnvforgeError):
        try:
            made = datetime.fromtimestamp(generation.stat().st_mtime, timezone.utc)
        except OSError:
            return Installation(made="")
        return Installation(made=made.isoformat(timespec="microseconds").replace("+00:00", "Z"))


def stores_before(prefix: Prefix) -> tuple[Path, ...]:
    """The layers of the store that the current generation was made from, as far as they are still there."""
    current = prefix.current()
    layers = () if current is None else map(Path, read_note(prefix, current).stores)
    return tuple(layer for layer in layers if layer.is_absolute() and layer.is_dir())


def write_note(prefix: Prefix, generation: Path, installation: Installation) -> None:
    """Write it down, beside the generation.

    :raises OSError: if the disk refuses.
    """
    write_beside(prefix.note(generation), installation_json.write(installation))


def installed_rows(prefix: Prefix, generation: Path) -> tuple[LockedPackage, ...]:
    """The rows of a generation; empty where that is not known any more."""
    try:
        text = read_document(generation / ".envforge" / "lock.json", "the lock", do="install again")
        lockfile, _ = lock_json.read(text)
        platform = lockfile.platforms[0] if len(lockfile.platforms) == 1 else _platform()
        return lockfile.rows(platform, read_note(prefix, generation).groups)
    except (OSError, EnvforgeError):
        return ()


def _platform() -> str:
    import platform

    from envforge.model.platforms import platform_of

    return platform_of(platform.system(), platform.machine())


def described_changes(before: Iterable[LockedPackage], after: Iterable[LockedPackage]) -> str:
    """How one environment differs from another, in a few words: ``updated numpy 1 -> 2; added pip; …``."""
    old = {(row.manager, row.name): row for row in before}
    new = {(row.manager, row.name): row for row in after}
    updated = [
        f"{new[key].name} {old[key].version} -> {new[key].version}"
        if old[key].version != new[key].version
        else f"{new[key].name} {new[key].version} (another build)"
        for key in sorted(old.keys() & new.keys())
        if old[key].sha256 != new[key].sha256
    ]
    added = [f"{new[key].name} {new[key].version}" for key in sorted(new.keys() - old.keys())]
    removed = [old[key].name for key in sorted(old.keys() - new.keys())]
    kinds = (("updated", updated), ("added", added), ("removed", removed))
    return "; ".join(f"{kind} {_some(names)}" for kind, names in kinds if names)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# -- what was ------------------------------------------------------------------------------------------


def history(prefix: Prefix) -> tuple[Moment, ...]:
    """Every generation, the one that was switched to last first.

    :raises InputError: if nothing was ever installed there.
    """
    current = prefix.current()
    moments = [
        Moment(generation=path, installation=read_note(prefix, path), current=path == current)
        for path in prefix.finished()
    ]
    if not moments:
        raise InputError(
            "nothing is installed there", at=str(prefix.path), do="envforge install SOURCE --prefix P"
        )
    return tuple(sorted(moments, key=_latest, reverse=True))


def _latest(moment: Moment) -> tuple[bool, str, str]:
    return (moment.current, moment.installation.switched, moment.installation.made)


# -- what is changed -----------------------------------------------------------------------------------


def point_to(prefix: Prefix, generation: Path) -> None:
    """Write down that the prefix is switched, and switch it; to be called in turn."""
    write_note(prefix, generation, replace(read_note(prefix, generation), switched=now()))
    prefix.switch(generation)


def keep_only(prefix: Prefix, count: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Remove generations but the current one and the ``count`` that were in use last; to be called in turn.

    :returns: those that were removed, and those that were not because a process of this machine runs in them.
    """
    others = [moment.generation for moment in history(prefix) if not moment.current]
    running = _running(others[count:])
    gone = [path for path in others[count:] if path not in running]
    for path in gone:
        prefix.remove(path)
    return tuple(gone), tuple(running)


def _running(generations: Sequence[Path]) -> list[Path]:
    """Those in which a process runs whose program can be asked for: the caller's own, on this machine."""
    if not generations:
        return []
    programs = set()
    for process in Path("/proc").glob("[0-9]*/exe"):
        try:
            programs.add(os.readlink(process))  # noqa: PTH115 - the text; the program may be gone
        except OSError:  # somebody else's, or ended
            continue
    return [path for path in generations if any(name.startswith(f"{path}/") for name in programs)]


def rollback(prefix: Prefix, name: str | None = None, *, dry_run: bool = False) -> Moment:
    """Point the prefix to an earlier generation.

    :param name: the beginning of its name; else the one that was current before.
    :returns: the generation that is current now, and was.
    :raises AnswerNo: if there is no other.
    :raises InputError: if there is none of that name.
    :raises BusyError: if somebody else is changing the prefix.
    """
    prefix.check()
    moments = history(prefix)
    if name is not None:
        chosen = prefix.named(name)
    else:
        earlier = [moment.generation for moment in moments if not moment.current]
        if not earlier:
            raise AnswerNo(
                "there is no other generation to go back to",
                at=str(prefix.path),
                do="install the earlier lockfile again: envforge install SOURCE --prefix P",
            )
        chosen = earlier[0]
    if dry_run:
        return next(moment for moment in moments if moment.generation == chosen)
    try:
        with prefix.turn():
            if not is_complete(chosen):
                raise InputError("it was removed meanwhile", at=str(chosen), do="choose another")
            point_to(prefix, chosen)
    except OSError as error:
        raise disk_error(error, prefix.generations) from error
    return Moment(generation=chosen, installation=read_note(prefix, chosen), current=True)


def uninstall(prefix: Prefix, *, dry_run: bool = False) -> tuple[Path, ...]:
    """Remove the prefix, its generations, and what was made for it elsewhere.

    :returns: what is removed.
    :raises InputError: if nothing is installed there.
    :raises BusyError: if somebody else is changing the prefix.
    """
    prefix.check()
    if not prefix.path.is_symlink() and not prefix.generations.is_dir():
        raise InputError(
            "nothing is installed there", at=str(prefix.path), do="name the --prefix of an install"
        )
    removed = (*((prefix.path,) if prefix.path.is_symlink() else ()), prefix.generations)
    if dry_run:
        return (*(entry.path for entry in made(prefix.generations) if entry.sha256 is not None), *removed)
    try:
        with prefix.turn():
            elsewhere = forget(prefix.generations)
            prefix.uninstall()
    except OSError as error:
        raise disk_error(error, prefix.generations) from error
    prefix.clean()
    return (*elsewhere, *removed)
