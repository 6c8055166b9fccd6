"""Profiles: facts about one kind of node, as far as a solver may assume them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envforge.errors import InputError
from envforge.model.platforms import PLATFORMS, Target, VirtualPackage, default_target

__all__ = ["intersected", "option_for", "parse_profile"]

_ARCHSPEC = re.compile(r"x86_64(_v[234])?|aarch64|ppc64le|[a-z][a-z0-9_]*")


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
        if equals and re.fullmatch(r"\d+(\.\d+)*", version):
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
