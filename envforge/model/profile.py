"""Profiles: facts about one kind of node, and the target that a solver may assume on it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from envforge.errors import InputError
from envforge.model.platforms import PLATFORMS, Target, VirtualPackage, check_platform, default_target

__all__ = ["ClusterProfile", "intersected", "option_for", "parse_profile"]

_ARCHSPEC = re.compile(r"[a-z][a-z0-9_]{0,40}")
_MPI = re.compile(r"(/[A-Za-z0-9_+@=][A-Za-z0-9._+@=-]*)+/libmpi\.so\.(12|40)")
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}")


@dataclass(frozen=True, kw_only=True)
class ClusterProfile:
    """Facts about one kind of node, as ``envforge probe`` finds them; ``None`` is what it could not find out.

    ``kernel`` is Linux's version, ``macos`` that of macOS, of which a platform has one.
    ``microarchitecture`` is archspec's name of the processor's level, such as ``x86_64_v3``.  ``cuda`` is
    the newest CUDA that the NVIDIA driver runs, ``driver`` the driver's own version, ``mpi`` the path of the
    MPI's library, and ``distribution`` what the system calls itself, for people.

    :raises InputError: for an unknown platform, and for what is no version or no name.
    """

    platform: str
    glibc: str | None = None
    kernel: str | None = None
    macos: str | None = None
    microarchitecture: str | None = None
    cuda: str | None = None
    driver: str | None = None
    mpi: str | None = None
    distribution: str | None = None

    def __post_init__(self) -> None:
        check_platform(self.platform, at="platform")
        for name in ("glibc", "kernel", "macos", "cuda", "driver"):
            value = getattr(self, name)
            if value is not None and not _VERSION.fullmatch(value):
                raise InputError(f"{value[:40]!r} is not a version", at=name)
        if self.mpi is not None and not _MPI.fullmatch(self.mpi):
            raise InputError(f"{self.mpi[:80]!r} is not the library of an MPI", at="mpi")
        if self.microarchitecture is not None and not _ARCHSPEC.fullmatch(self.microarchitecture):
            raise InputError(
                f"{self.microarchitecture[:40]!r} is not a microarchitecture", at="microarchitecture"
            )

    def target(self) -> Target:
        """The platform with these facts; what is not known is as for every target of the platform."""
        facts = (
            ("__glibc", self.glibc),
            ("__linux", self.kernel),
            ("__osx", self.macos),
            ("__cuda", self.cuda),
        )
        changes = [VirtualPackage(name=name, version=version) for name, version in facts if version]
        if self.microarchitecture is not None:
            changes.append(VirtualPackage(name="__archspec", version="1", build=self.microarchitecture))
        return default_target(self.platform).with_packages(tuple(changes))


def parse_profile(text: str) -> Target:
    """A profile typed by hand: ``linux-64 glibc=2.28 cuda=12.4 x86_64_v3``.

    The platform comes first; ``NAME=VERSION`` stands for the virtual package ``__NAME``; a bare word is the
    microarchitecture.  What is not said is as for every target of the platform.

    :raises InputError: if it is not of that form.
    """
    words = text.split()
    if not words or words[0] not in PLATFORMS:
        raise InputError(
            f"the profile {text!r} does not begin with a platform",
            at="--profile",
            do="write it as: --profile 'linux-64 glibc=2.28 cuda=12.4 x86_64_v3'",
        )
    changes = []
    for word in words[1:]:
        name, equals, version = word.partition("=")
        if equals and _VERSION.fullmatch(version):
            changes.append(VirtualPackage(name=f"__{name.removeprefix('__')}", version=version))
        elif not equals and _ARCHSPEC.fullmatch(word):
            changes.append(VirtualPackage(name="__archspec", version="1", build=word))
        else:
            raise InputError(
                f"{word!r} in the profile is neither NAME=VERSION nor a microarchitecture",
                at="--profile",
                do="write it as: --profile 'linux-64 glibc=2.28 cuda=12.4 x86_64_v3'",
            )
    return default_target(words[0]).with_packages(tuple(changes))


def option_for(package: VirtualPackage) -> str:
    """What to say to ``envforge lock`` so that it assumes ``package``: ``--cuda 12.4``."""
    if package.name in ("__cuda", "__glibc"):
        return f"--{package.name.removeprefix('__')} {package.version}"
    return f"--virtual-package {package}"


def intersected(targets: Iterable[Target]) -> tuple[Target, ...]:
    """One target a platform: a virtual package only where all have it, at its lowest version.

    :raises InputError: for two microarchitectures of which neither is known to hold the other.
    """
    by_platform: dict[str, Target] = {}
    for target in targets:
        known = by_platform.get(target.platform)
        by_platform[target.platform] = target if known is None else _common(known, target)
    return tuple(by_platform.values())


def _common(one: Target, other: Target) -> Target:
    theirs = {package.name: package for package in other.virtual_packages}
    shared = [(mine, theirs[mine.name]) for mine in one.virtual_packages if mine.name in theirs]
    return Target(
        platform=one.platform, virtual_packages=tuple(_lower(mine, their) for mine, their in shared)
    )


def _lower(one: VirtualPackage, other: VirtualPackage) -> VirtualPackage:
    if one.name == "__archspec":
        levels = ["x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4"]
        if one.build == other.build:
            return one
        if one.build in levels and other.build in levels:
            return min(one, other, key=lambda package: levels.index(package.build))
        raise InputError(
            f"no common microarchitecture of {one.build} and {other.build}",
            at="--profile",
            do="lock to a file each: envforge lock --profile … -o ONE.conda-lock.yml",
        )
    return min(one, other, key=lambda package: [int(part) for part in package.version.split(".")])
