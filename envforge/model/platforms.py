"""Platforms, virtual packages and targets.

A *platform* is a conda subdir.  A *target* is a platform plus the virtual packages that a solver may
assume on it (CEP "virtual packages").  The host never enters here: whoever decides is given a target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from envforge.errors import InputError

__all__ = [
    "OVERRIDES",
    "PLATFORMS",
    "Override",
    "Target",
    "VirtualPackage",
    "check_platform",
    "default_target",
    "overrides_of",
    "platform_of",
]

PLATFORMS = (
    "linux-64",
    "linux-aarch64",
    "linux-ppc64le",
    "osx-64",
    "osx-arm64",
    "win-64",
    "win-arm64",
)
"""The platforms that can be locked for; ``noarch`` is a subdir but never a target."""

_BASELINE = {
    "linux-64": "x86_64",
    "linux-aarch64": "aarch64",
    "linux-ppc64le": "ppc64le",
    "osx-64": "x86_64",
    "osx-arm64": "m1",
    "win-64": "x86_64",
    "win-arm64": "arm64",
}
_FAMILIES = {
    "__cuda": ("linux-", "win-"),
    "__glibc": ("linux-",),
    "__linux": ("linux-",),
    "__osx": ("osx-",),
    "__unix": ("linux-", "osx-"),
    "__win": ("win-",),
}
OVERRIDES = {
    f"CONDA_OVERRIDE_{word}": f"__{word.lower()}" for word in ("ARCHSPEC", "CUDA", "GLIBC", "LINUX", "OSX")
}
"""The variables that say what a virtual package is, as in conda, and its name."""

_MACHINES = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "ppc64le"): "linux-ppc64le",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
    ("windows", "amd64"): "win-64",
    ("windows", "arm64"): "win-arm64",
}
_VIRTUAL = re.compile(r"(__[a-z0-9_]+)(?:=([^=\s]+))?(?:=([^=\s]+))?")


def check_platform(name: str, *, at: str | None = None) -> str:
    """Return ``name`` if it is a platform that can be locked for.

    :raises InputError: for anything else, with the names that are known.
    """
    if name not in PLATFORMS:
        raise InputError(f"unknown platform {name!r}", at=at, do=f"use one of: {', '.join(PLATFORMS)}")
    return name


def platform_of(system: str, machine: str) -> str:
    """The platform of a machine, from what ``platform.system()`` and ``platform.machine()`` say.

    :raises InputError: for a machine that conda has no subdir for.
    """
    found = _MACHINES.get((system.lower(), machine.lower()))
    if found is None:
        raise InputError(
            f"no conda platform for {system} on {machine}",
            do=f"name one: -p {'|'.join(PLATFORMS)}",
        )
    return found


@dataclass(frozen=True, kw_only=True, order=True)
class VirtualPackage:
    """One ``__name=version=build``; the build string is ``0`` except for ``__archspec``."""

    name: str
    version: str
    build: str = "0"

    @classmethod
    def parse(cls, text: str) -> VirtualPackage:
        """Read ``__cuda=12.4``, ``__unix`` or ``__archspec=1=x86_64_v3``.

        :raises InputError: if the text is not of that form.
        """
        match = _VIRTUAL.fullmatch(text.strip())
        if match is None:
            raise InputError(
                f"{text!r} is not a virtual package",
                do="write it as __cuda=12.4, __glibc=2.28 or __archspec=1=x86_64_v3",
            )
        name, version, build = match.groups()
        return cls(name=name, version=version or "0", build=build or "0")

    def __str__(self) -> str:
        return f"{self.name}={self.version}" + ("" if self.build == "0" else f"={self.build}")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a solver may assume: a platform and its virtual packages, sorted by name."""

    platform: str
    virtual_packages: tuple[VirtualPackage, ...]

    def __post_init__(self) -> None:
        check_platform(self.platform)
        names = [package.name for package in self.virtual_packages]
        if len(set(names)) != len(names):
            raise InputError(
                f"a virtual package is named twice for {self.platform}: {', '.join(names)}",
                do="name each once",
            )
        ordered = tuple(sorted(self.virtual_packages))
        object.__setattr__(self, "virtual_packages", ordered)

    @classmethod
    def parse(cls, platform: str, text: str) -> Target:
        """The inverse of :meth:`__str__`: virtual packages separated by blanks."""
        return cls(
            platform=platform,
            virtual_packages=tuple(VirtualPackage.parse(word) for word in text.split()),
        )

    def version(self, name: str) -> str | None:
        """The version of the virtual package ``name``, or ``None`` where the target has none."""
        package = self.offered(name)
        return package.version if package is not None else None

    def offered(self, name: str) -> VirtualPackage | None:
        """The virtual package ``name``, or ``None`` where the target has none."""
        return next((package for package in self.virtual_packages if package.name == name), None)

    def with_packages(self, changes: tuple[VirtualPackage, ...]) -> Target:
        """The same target with ``changes`` put in place of, or added to, its virtual packages."""
        names = {package.name for package in changes}
        kept = tuple(p for p in self.virtual_packages if p.name not in names)
        return Target(platform=self.platform, virtual_packages=kept + changes)

    def may_offer(self, package: VirtualPackage) -> bool:
        """Whether the platform may have it at all: a glibc or a Linux kernel is offered on Linux only."""
        family = _FAMILIES.get(package.name, ("",))
        return self.platform.startswith(family)

    def __str__(self) -> str:
        return " ".join(str(package) for package in self.virtual_packages)


@dataclass(frozen=True, kw_only=True)
class Override:
    """What ``CONDA_OVERRIDE_…`` says of a virtual package; ``package`` is ``None`` for: not there."""

    variable: str
    name: str
    package: VirtualPackage | None

    def applied(self, target: Target) -> Target:
        """``target`` as the variable wants it; unchanged where its platform has no such virtual package."""
        if self.package is not None:
            return target.with_packages((self.package,)) if target.may_offer(self.package) else target
        kept = tuple(p for p in target.virtual_packages if p.name != self.name)
        return Target(platform=target.platform, virtual_packages=kept)


def overrides_of(environment: Mapping[str, str]) -> tuple[Override, ...]:
    """What the variables of :data:`OVERRIDES` say.

    An empty one takes the virtual package away.

    :raises InputError: for what is neither a version nor, for ``_ARCHSPEC``, a microarchitecture.
    """
    found = []
    for variable, name in OVERRIDES.items():
        text = environment.get(variable)
        if text is None:
            continue
        pattern = r"[a-z][a-z0-9_]*" if name == "__archspec" else r"\d+(\.\d+)*"
        if text and not re.fullmatch(pattern, text):
            raise InputError(f"{text!r} is no version of {name}", at=variable, do=f"unset {variable}")
        version, build = ("1", text) if name == "__archspec" else (text, "0")
        package = VirtualPackage(name=name, version=version, build=build) if text else None
        found.append(Override(variable=variable, name=name, package=package))
    return tuple(found)


def default_target(platform: str) -> Target:
    """What is assumed of a platform when nobody says otherwise: the same on every laptop.

    :raises InputError: for an unknown platform.
    """
    check_platform(platform)
    words = [f"__archspec=1={_BASELINE[platform]}"]
    if platform.startswith("linux-"):
        words += ["__unix", "__linux=4.18", "__glibc=2.28"]
    elif platform.startswith("osx-"):
        words += ["__unix", "__osx=13.0"]
    else:
        words += ["__win"]
    return Target.parse(platform, " ".join(words))
