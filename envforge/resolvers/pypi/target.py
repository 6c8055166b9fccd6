"""A target in the words of the PyPI world: markers, tags, and uv's name for the platform.

Nothing here looks at the host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envforge.errors import InputError
from envforge.model.markers import MACHINES, SYSTEMS
from envforge.model.platforms import Target

__all__ = ["marker_environment", "uv_platform", "wheel_rank", "wheel_tags"]

_TRIPLES = {
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-64": "x86_64-pc-windows-msvc",
    "win-arm64": "aarch64-pc-windows-msvc",
    "linux-ppc64le": "powerpc64le-unknown-linux-gnu",
}
_UV_GLIBC = (40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 28, 17)
"""The glibc 2.x that uv has a platform for; what lies between is rounded down."""
_OLDEST = 17
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


def marker_environment(target: Target, python_version: str) -> dict[str, str]:
    """The values of the markers on ``target``; kernel release and version are not known, hence empty.

    :param python_version: the full version, ``3.11.14``.
    """
    os_name, sys_platform, system = SYSTEMS[target.platform.partition("-")[0]]
    return {
        "implementation_name": "cpython",
        "implementation_version": python_version,
        "os_name": os_name,
        "platform_machine": MACHINES[target.platform],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": python_version,
        "python_version": ".".join(python_version.split(".")[:2]),
        "sys_platform": sys_platform,
    }


def wheel_tags(target: Target, python_version: str) -> tuple[Tag, ...]:
    """The tags of the wheels that CPython ``python_version`` installs on ``target``, the best first.

    :raises InputError: if the target says too little, or has a glibc older than 2.17.
    """
    major, minor = _python(python_version)
    platforms = _platform_tags(target)
    short = f"cp{major}{minor}"
    tags = [
        *cpython_tags((major, minor), abis=[short], platforms=platforms),
        *compatible_tags((major, minor), interpreter=short, platforms=platforms),
    ]
    return tuple(dict.fromkeys(tags))


def wheel_rank(filename: str, ranks: Mapping[Tag, int]) -> tuple[int, tuple[int, str]] | None:
    """How good a wheel is, the smaller the better; of equal tags the highest build number comes first.

    :param ranks: the place of each tag among :func:`wheel_tags`.
    """
    try:
        _, _, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    best = min((ranks[tag] for tag in tags if tag in ranks), default=None)
    return None if best is None else (best, (-build[0], build[1]) if build else (1, ""))


def uv_platform(target: Target) -> tuple[str, dict[str, str]]:
    """What uv calls the platform, and the variables that go with it.

    The glibc is rounded down to one that uv knows, so that nothing too new is ever chosen.

    :raises InputError: as :func:`wheel_tags`.
    """
    if target.platform.startswith("osx-"):
        major, minor = _version(target, "__osx")
        return _TRIPLES[target.platform], {"MACOSX_DEPLOYMENT_TARGET": f"{major}.{minor}"}
    if not target.platform.startswith("linux-"):
        return _TRIPLES[target.platform], {}
    minor = _glibc(target)
    if target.platform in _TRIPLES:
        return _TRIPLES[target.platform], {}
    known = next(known for known in _UV_GLIBC if known <= minor)
    return f"{MACHINES[target.platform]}-manylinux_2_{known}", {}


def _platform_tags(target: Target) -> list[str]:
    machine = MACHINES[target.platform]
    if target.platform.startswith("win-"):
        return [f"win_{machine.lower()}"]
    if target.platform.startswith("osx-"):
        return list(mac_platforms(_version(target, "__osx"), machine))
    tags = []
    for minor in range(_glibc(target), (5 if machine == "x86_64" else _OLDEST) - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{machine}")
    return [*tags, f"linux_{machine}"]


def _glibc(target: Target) -> int:
    major, minor = _version(target, "__glibc")
    if major != 2 or minor < _OLDEST:
        raise InputError(
            f"wheels need glibc 2.{_OLDEST} or newer, the target has {major}.{minor}",
            at=f"{target.platform}: {target}",
            do="take every package from conda, or name the cluster's glibc: envforge lock --glibc 2.28",
        )
    return minor


def _version(target: Target, name: str) -> tuple[int, int]:
    text = target.version(name) or ""
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.\d+)*", text)
    if match is None or match[1] == "0":
        raise InputError(
            f"wheels for {target.platform} cannot be chosen without a version of {name}",
            at=f"{target.platform}: {target}",
            do=f"envforge lock --virtual-package {name}={'13.0' if name == '__osx' else '2.28'}",
        )
    return int(match[1]), int(match[2] or 0)


def _python(text: str) -> tuple[int, int]:
    try:
        version = Version(text)
    except InvalidVersion as error:
        raise InputError(f"{text!r} is not a version of Python", do="write it in full: 3.11.14") from error
    return version.major, version.minor
