"""``pixi.lock``: the lockfile of pixi and rattler; versions 4 to 7 are read, 6 and 7 written.

Follows the crate ``rattler_lock``.  Goals: pixi and rattler read what is written here, and it is laid out as
they lay it out, so that their next writing of it makes a small diff.  An environment of pixi is a group and
what is in ``main``; ``main`` is pixi's ``default``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from envforge.errors import InputError
from envforge.formats._collector import collector_paused
from envforge.formats._halves import GROUPS, NAMES, NEEDED, losses, own_losses, shared_rows
from envforge.formats._pixi_reading import read
from envforge.formats._yaml import render
from envforge.formats.repodata import split_specs
from envforge.model.foreign import Loss, Written
from envforge.model.groups import Key, key_of
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.markers import platform_marker
from envforge.model.platforms import Target

__all__ = ["ENVIRONMENT", "VERSIONS", "read", "write"]

VERSIONS = (7, 6)
"""The versions that are written, the current one first."""
ENVIRONMENT = "default"
_PYPI = "https://pypi.org/simple"
_STEM = re.compile(r"(.+)-([^-]+)-([^-]+)")


def write(lockfile: Lockfile, *, version: int = VERSIONS[0]) -> Written:
    """All platforms and groups.

    :param version: of the format: 7, or 6 for a pixi before 0.68.
    :raises InputError: for a version that is not written.
    """
    if version not in VERSIONS:
        raise InputError(
            f"version {version} of pixi.lock is not written",
            at="--format-version",
            do=f"one of: {', '.join(map(str, VERSIONS))}",
        )
    with collector_paused():
        return _write(lockfile, version)


def _write(lockfile: Lockfile, version: int) -> Written:
    pip = shared_rows(lockfile, (row for row in lockfile.packages if row.manager == "pip"))
    conda = [row for row in lockfile.packages if row.manager == "conda"]
    nameless = [row for row in pip.rows if not _fits(row)]
    rows = [*conda, *(row for row in pip.rows if row not in nameless)]
    groups = sorted({row.category for row in rows} - {"main"})
    environments = {
        name: _environment(lockfile, rows, group)
        for name, group in [(ENVIRONMENT, "main"), *((group, group) for group in groups)]
        if name == ENVIRONMENT or group != ENVIRONMENT
    }
    document: dict[str, Any] = {"version": version}
    if version > 6:
        document["platforms"] = [_platform(lockfile, platform) for platform in _platforms(lockfile)]
    document["environments"] = {name: environments[name] for name in sorted(environments)}
    provided = _provided(lockfile)
    by_url: dict[tuple[str, str], list[LockedPackage]] = {}
    for row in rows:
        by_url.setdefault((row.manager, row.url), []).append(row)
    with_pip = any(row.manager == "pip" for row in rows)
    document["packages"] = [
        _conda_package(same[0], provided if with_pip else None) if manager == "conda" else _pypi_package(same)
        for (manager, _), same in sorted(by_url.items())
    ]
    whole = own_losses(lockfile, name=False, target=version > 6)
    if ENVIRONMENT in groups:
        whole += (Loss(what=GROUPS, packages=(ENVIRONMENT,)),)
    return Written(
        filename="pixi.lock",
        text=render(document),
        losses=losses((NAMES, nameless), (NEEDED, [row for row in pip.rows if _misses_needs(row)]))
        + pip.losses
        + whole,
    )


def _fits(row: LockedPackage) -> bool:
    """What rattler reads is a PEP 440 version and a name that PyPI would take."""
    from packaging.version import InvalidVersion, Version

    try:
        Version(row.version)
    except InvalidVersion:
        return False
    return re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", canonical_name(row.name)) is not None


def _platforms(lockfile: Lockfile) -> list[str]:
    return sorted({*lockfile.platforms, *(row.platform for row in lockfile.packages)})


def _platform(lockfile: Lockfile, platform: str) -> dict[str, Any]:
    target = lockfile.target(platform)
    words = [] if target is None else _virtual_packages(target)
    return {"name": platform, **({"virtual-packages": words} if words else {})}


def _virtual_packages(target: Target) -> list[str]:
    """As pixi writes them: build string 0, but for ``__unix``, whose version is."""
    order = ("__unix", "__linux", "__glibc", "__osx", "__win", "__cuda", "__archspec")
    ordered = sorted(
        target.virtual_packages,
        key=lambda p: (order.index(p.name) if p.name in order else len(order), p.name),
    )
    found = []
    for package in ordered:
        version = "0" if package.name == "__archspec" else package.version
        build = f"={package.build}" if package.build != "0" or version == "0" else ""
        found.append(f"{package.name}={version}{build}")
    return found


def _environment(lockfile: Lockfile, rows: Sequence[LockedPackage], group: str) -> dict[str, Any]:
    packages: dict[str, list[dict[str, str]]] = {}
    pypi = False
    for platform in _platforms(lockfile):
        chosen: dict[Key, LockedPackage] = {}
        for category in dict.fromkeys((group, "main")):
            for row in rows:
                if row.platform == platform and row.category == category:
                    chosen.setdefault(key_of(row), row)
        pypi = pypi or any(row.manager == "pip" for row in chosen.values())
        pairs = sorted({(row.manager, row.url) for row in chosen.values()})
        packages[platform] = [{"conda" if m == "conda" else "pypi": url} for m, url in pairs]
    urls = [channel.url for channel in lockfile.channels]
    environment: dict[str, Any] = {
        "channels": [{"url": _channel(url)} for url in urls],
    }
    if pypi:
        environment["indexes"] = [_PYPI]
    environment["packages"] = packages
    return environment


def _channel(url: str) -> str:
    url = url if "://" in url else f"https://conda.anaconda.org/{url}"
    return url.rstrip("/") + "/"


def _provided(lockfile: Lockfile) -> dict[str, str]:
    """The PyPI packages that conda packages are known to bring: purls by the name of the conda package."""
    found: dict[str, str] = {}
    for key, text in lockfile.custom.items():
        if key.startswith("envforge.provided."):
            for word in text.split():
                distribution, at, conda = word.rpartition("@")
                name, equals, version = distribution.partition("=")
                if at and equals:
                    found[conda] = f"pkg:pypi/{name}@{version}"
    return found


def _conda_package(row: LockedPackage, provided: Mapping[str, str] | None) -> dict[str, Any]:
    package: dict[str, Any] = {"conda": row.url}
    stem = row.filename.removesuffix(".conda").removesuffix(".tar.bz2")
    match = _STEM.fullmatch(stem)
    name, version, build = match.groups() if match else ("", "", "")
    if name != row.name:
        package["name"] = row.name
    if version != row.version:
        package["version"] = row.version
    if row.build is not None and row.build != build:
        package["build"] = row.build
    if row.sha256 is not None:
        package["sha256"] = row.sha256
    package["md5"] = row.md5
    depends = [spec for name, rest in sorted(row.dependencies.items()) for spec in split_specs(name, rest)]
    if depends:
        package["depends"] = depends
    if provided is not None:
        # Without the key pixi takes the file for one from before it knew of PyPI, and locks again.
        package["purls"] = [provided[row.name]] if row.name in provided else []
    return package


def _pypi_package(rows: Sequence[LockedPackage]) -> dict[str, Any]:
    """One file, of whatever platforms it is locked for."""
    row = rows[0]
    package: dict[str, Any] = {
        "pypi": row.url,
        "name": canonical_name(row.name),
        "version": row.version,
        "sha256": row.sha256,
    }
    requires = _requirements(rows)
    if requires:
        package["requires_dist"] = requires
    return package


def _requirements(rows: Sequence[LockedPackage]) -> list[str]:
    """What a wheel needs; a marker where that is not the same on all platforms that it is locked for."""
    platforms: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name, rest in row.dependencies.items():
            text = name if rest.strip() in ("", "*") else f"{name}{rest}"
            platforms.setdefault((text, name), set()).add(row.platform)
    everywhere = {row.platform for row in rows}
    found = []
    for (text, name), where in sorted(platforms.items()):
        markers = [platform_marker(platform) for platform in sorted(where)]
        if where != everywhere and all(markers):
            text = f"{text} ; {' or '.join(map(str, markers))}"
        if _is_requirement(text):
            found.append(text)
        elif _is_requirement(canonical_name(name)):
            found.append(canonical_name(name))
    return list(dict.fromkeys(found))


def _misses_needs(row: LockedPackage) -> bool:
    """Whether a wheel needs something that cannot be written as a requirement."""
    return any(
        rest.strip() not in ("", "*") and not _is_requirement(f"{name}{rest}")
        for name, rest in row.dependencies.items()
    )


def _is_requirement(text: str) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True
