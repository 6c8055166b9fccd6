"""Whether a lock fits the machine that it is installed on, or the profile that it is installed for.

What no package starts without is refused.  What only the job will need, a GPU or a newer processor, is said
in a note where nobody named a profile: an installation is often made on a login node, and runs elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from envforge.edges.machine import LEVELS, cuda_version, glibc_version, kernel_version, microarchitecture
from envforge.errors import EnvforgeError, InputError
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.platforms import Target
from envforge.reporting import Reporter

__all__ = ["glibc_of_wheel", "misfits", "needed_version"]

_LEGACY = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
_ALL_THE_SAME = "and mirror again; to try all the same:"
_KINDS = {
    "glibc": ("__glibc", "glibc", "--glibc "),
    "kernel": ("__linux", "Linux", "--virtual-package __linux="),
    "cuda": ("__cuda", "CUDA", "--cuda "),
}
"""By the name of the check: the virtual package, what people call it, and what ``lock`` is told of it."""

Misfit = tuple[str, EnvforgeError]


def misfits(
    lockfile: Lockfile,
    rows: Sequence[LockedPackage],
    platform: str,
    profile: Target | None,
    reporter: Reporter,
) -> Iterator[Misfit]:
    """What does not fit, by the name of the check.

    :param rows: what will be installed of the lock.
    :param profile: what to hold the lock against, if not this machine.
    :raises InputError: if the profile is of another platform, or the lock's record cannot be read.
    """
    try:
        target = lockfile.target(platform)
    except InputError as error:
        raise error.inside(f"envforge.target.{platform}") from None
    if profile is not None:
        if profile.platform != platform:
            raise InputError(
                f"the profile is of {profile.platform}, and this machine installs {platform}",
                at="--profile",
                do=f"write it as: --profile '{platform} …', or install on such a machine",
            )
        yield from _against_profile(target, rows, profile)
    elif platform.startswith("linux-"):
        yield from _against_machine(target, rows, reporter)


def _against_machine(
    target: Target | None, rows: Sequence[LockedPackage], reporter: Reporter
) -> Iterator[Misfit]:
    glibc, kernel = glibc_version(), kernel_version()
    yield from _refused("glibc", target, rows, glibc, "this machine has")
    if kernel is not None:
        # What packages ask for themselves; what the lock assumes is hardly ever needed, and only said.
        yield from _refused("kernel", None, rows, kernel, "this machine has")
        _say(_misfit("kernel", target, (), kernel), f"this machine has {kernel}", reporter)
    if _misfit("cuda", target, rows, None) is not None:
        cuda = cuda_version()
        has = f"the driver of this machine has {cuda}" if cuda else "this machine has no NVIDIA driver"
        _say(_misfit("cuda", target, rows, cuda), has, reporter)
    wanted, level = _archspec(target), microarchitecture()
    if _higher(wanted, level):
        reporter.note(f"the lock assumes a processor of {wanted}, and this machine has {level}")


def _say(misfit: tuple[str, str] | None, has: str, reporter: Reporter) -> None:
    if misfit is not None:
        reporter.note(f"{misfit[0]}, and {has}")


def _against_profile(
    target: Target | None, rows: Sequence[LockedPackage], profile: Target
) -> Iterator[Misfit]:
    for check, (name, _, _) in _KINDS.items():
        yield from _refused(check, target, rows, profile.version(name), "the profile has")
    wanted, level = _archspec(target), _archspec(profile)
    if _higher(wanted, level):
        yield (
            "archspec",
            InputError(
                f"the lock assumes a processor of {wanted}, and the profile has {level}",
                at=f"target: {target}",
                do=f"envforge lock --virtual-package __archspec=1={level}   "
                f"# {_ALL_THE_SAME} --ignore-check archspec",
            ),
        )


def _refused(
    check: str, target: Target | None, rows: Sequence[LockedPackage], found: str | None, has: str
) -> Iterator[Misfit]:
    misfit = _misfit(check, target, rows, found)
    if misfit is None:
        return
    what, at = misfit
    name, label, option = _KINDS[check]
    said = needed_version(rows, name)
    more = f"; its packages themselves ask for {said[0]}" if said and what.startswith("the lock") else ""
    way = f"envforge lock {option}{found}   #" if found else f"lock without {label},"
    do = f"{way} {_ALL_THE_SAME} --ignore-check {check}"
    yield check, InputError(f"{what}, and {has} {found or 'none'}{more}", at=at, do=do)


def _misfit(
    check: str, target: Target | None, rows: Sequence[LockedPackage], found: str | None
) -> tuple[str, str] | None:
    """What wants more than was found, and where that stands.

    A package that says what it needs is believed first.  What the lock assumes counts as well, because not
    every channel has its packages say so.
    """
    name, label, _ = _KINDS[check]
    said, assumed = needed_version(rows, name), target.version(name) if target else None
    if said is not None and _newer(said[0], found):
        return f"{said[1]} needs {label} {said[0]}", f"package {said[1]}"
    if assumed is not None and _newer(assumed, found):
        return f"the lock assumes {label} {assumed}", f"target: {target}"
    return None


def needed_version(rows: Sequence[LockedPackage], name: str) -> tuple[str, str] | None:
    """The highest version of a virtual package that the packages themselves ask for, and one that does."""
    needs = []
    for row in rows:
        if row.manager == "conda":
            spec = row.dependencies.get(name, "")
            # With `|` there is a choice, which nothing is said about here.
            found = [] if "|" in spec else re.findall(r">=?\s*([0-9]+(?:\.[0-9]+)*)", spec)
        else:
            tag = glibc_of_wheel(row.filename) if name == "__glibc" else None
            found = [tag] if tag else []
        needs += [(_numbers(version), version, row.filename) for version in found]
    return max(needs)[1:] if needs else None


def glibc_of_wheel(filename: str) -> str | None:
    """The glibc that a wheel's name asks for, the lowest of its tags; ``None`` for one that asks for none."""
    found = []
    for tag in filename.removesuffix(".whl").split("-")[-1].split("."):
        named = re.fullmatch(r"manylinux_([0-9]{1,4})_([0-9]{1,4})_\w+", tag)
        version = f"{named[1]}.{named[2]}" if named else _LEGACY.get(tag.split("_")[0])
        if version is not None:
            found.append(version)
    return min(found, key=_numbers, default=None)


def _archspec(target: Target | None) -> str | None:
    if target is None:
        return None
    return next((p.build for p in target.virtual_packages if p.name == "__archspec"), None)


def _higher(wanted: str | None, level: str | None) -> bool:
    """Whether both are levels and the wanted one is above; of other names nothing is known."""
    return wanted in LEVELS and level in LEVELS and LEVELS.index(str(wanted)) > LEVELS.index(str(level))


def _newer(wanted: str, found: str | None) -> bool:
    return _numbers(wanted) > (_numbers(found) if found is not None else ())


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without zeros at the end: 2.28.0 is no more than 2.28."""
    match = re.match(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    parts = [int(part) for part in match[0].split(".")] if match else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
