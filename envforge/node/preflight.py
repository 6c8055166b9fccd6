"""What is checked before a byte is written: the lock against the machine, the needs against the disk.

Each refusal says what was found, what was needed and the way out.  It is about what would otherwise end
halfway, or in an environment that does not start; and since a check may be wrong about a machine that nobody
has seen, each has a name by which it can be ignored, one by one.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from envforge.edges.machine import Place, place_of
from envforge.edges.quota import Quota, quotas_of
from envforge.edges.store import Store
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.node.fitness import misfits
from envforge.node.needs import Amount, Needs, needs_of
from envforge.node.sources.source import ArtifactSource
from envforge.reporting import Reporter, human_size

__all__ = ["CHECKS", "check_before"]

CHECKS = ("archspec", "cuda", "glibc", "inodes", "kernel", "noexec", "quota", "space", "symlinks")
"""The names that ``--ignore-check`` takes."""

Refusal = tuple[str, EnvforgeError]


def check_before(
    source: ArtifactSource,
    rows: Sequence[LockedPackage],
    *,
    final: Path,
    store: Store,
    platform: str,
    reporter: Reporter,
    jobs: int = 1,
    profile: Target | None = None,
    ignored: frozenset[str] = frozenset(),
    compiled: Callable[[str], bool] = lambda _: False,
) -> Needs:
    """Refuse what cannot end well, before a byte is written.

    :param rows: what will be installed.
    :param final: the path that the environment will be linked for.
    :param profile: the nodes that it will run on, if not this machine.
    :param ignored: names out of :data:`CHECKS`; what they would have refused is said in a note.
    :param compiled: whether the store has the bytecode of the artifact with this sha256.
    :returns: what will be written.  Artifacts that cannot be read are counted as unknown, and no error here.
    :raises InputError: if the lock is for other machines, or the path is too long.
    :raises CouldNotError: if the disk has no room, or cannot hold an environment.
    """
    _settle(misfits(source.lockfile, rows, platform, profile, reporter), ignored, reporter)
    place = place_of(final)
    if place is not None:
        _settle(_unfit(place), ignored, reporter)
    needs = needs_of(source, rows, final=final, store=store, compiled=compiled, jobs=jobs)
    _check_length(needs, final)
    for where, amount in _places(place, place_of(store.root), needs):
        _settle(_short(where, amount, asking="quota" not in ignored), ignored, reporter)
    return needs


def _settle(refusals: Iterator[Refusal], ignored: frozenset[str], reporter: Reporter) -> None:
    for name, error in refusals:
        if name not in ignored:
            raise error
        reporter.note(f"--ignore-check {name}: {error.what}")


def _unfit(place: Place) -> Iterator[Refusal]:
    """What the file system of the prefix cannot do at all."""
    if not place.symlinks:
        yield (
            "symlinks",
            CouldNotError(
                f"the prefix lies on {place.type}, which has no symbolic links: an environment needs them",
                at=str(place.directory),
                do=_elsewhere("symlinks"),
            ),
        )
    if place.noexec:
        yield (
            "noexec",
            CouldNotError(
                "the prefix lies on a file system that is mounted noexec: no program starts from it",
                at=str(place.mount.point if place.mount else place.directory),
                do=_elsewhere("noexec"),
            ),
        )


def _check_length(needs: Needs, final: Path) -> None:
    """A binary has room for a prefix of a certain length, and for no longer one; nothing can be ignored."""
    length = len(str(final).encode(errors="surrogateescape"))
    if needs.room is not None and needs.room < length:
        raise InputError(
            f"the path is too long for {needs.narrowest}: {length} bytes, and {needs.room} fit",
            at=str(final),
            do=f"name a --prefix that is at least {length - needs.room} bytes shorter",
        )


def _places(prefix: Place | None, store: Place | None, needs: Needs) -> list[tuple[Place, Amount]]:
    """How much goes where; once, where store and prefix share a file system."""
    if prefix is not None and store is not None and prefix.device == store.device:
        return [(prefix, needs.total)]
    parts = ((prefix, needs.generation), (store, needs.store))
    return [(place, amount) for place, amount in parts if place is not None and amount.files]


def _short(place: Place, amount: Amount, *, asking: bool) -> Iterator[Refusal]:
    """Where there is not enough room.

    :param asking: whether the programs that know of quotas may be started.
    """
    where = shlex.quote(str(place.directory))
    if place.bytes is not None and place.bytes < amount.bytes:
        needed, free = human_size(amount.bytes), human_size(place.bytes)
        what = f"there is not enough space: about {needed} needed, {free} free"
        yield "space", _no_room(what, place, f"df -h {where}", "space")
    if place.inodes is not None and place.inodes < amount.files:
        what = f"there are not enough inodes: about {amount.files} needed, {place.inodes} free"
        yield "inodes", _no_room(what, place, f"df -i {where}", "inodes")
    for quota in quotas_of(place) if asking else ():
        over = _over(quota, amount)
        if over is not None:
            yield "quota", _no_room(over, place, _asking_again(place, where), "quota")


def _over(quota: Quota, amount: Amount) -> str | None:
    if quota.bytes is not None and quota.bytes < amount.bytes:
        left, needed = human_size(quota.bytes), human_size(amount.bytes)
    elif quota.files is not None and quota.files < amount.files:
        left, needed = f"{quota.files} files", f"{amount.files}"
    else:
        return None
    return f"the quota of your {quota.of} is not enough: about {needed} needed, {left} left"


def _asking_again(place: Place, where: str) -> str:
    if place.type.startswith("lustre"):
        return f"lfs quota {where}"
    return "mmlsquota" if place.type in ("gpfs", "mmfs") else "quota"


def _no_room(what: str, place: Place, look: str, name: str) -> CouldNotError:
    return CouldNotError(
        what,
        at=f"{place.directory} ({place.type})",
        do=f"{look}   # make room, or {_elsewhere(name)}",
    )


def _elsewhere(name: str) -> str:
    return f"name a --prefix elsewhere; to try all the same: --ignore-check {name}"
