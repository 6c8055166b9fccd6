"""``pixi.toml``: the manifest that goes with a ``pixi.lock`` of ours, so that pixi installs it as it is.

It asks for what nothing else in the lock needs, each at its locked version, so that pixi finds the lock to
satisfy it and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from envforge.formats._halves import roots, shown_name
from envforge.formats._toml import render
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.platforms import PLATFORMS, Target, default_target

__all__ = ["write"]

_FRIENDLY = {
    "__cuda": "cuda",
    "__glibc": "glibc",
    "__linux": "linux",
    "__osx": "macos",
    "__win": "windows",
}


def write(lockfile: Lockfile) -> str:
    """The manifest of ``lockfile``."""
    groups = sorted({row.category for row in lockfile.packages} - {"main"})
    workspace: dict[str, Any] = {
        "name": shown_name(lockfile),
        "channels": [
            url if "://" in url else f"https://conda.anaconda.org/{url}"
            for url in (channel.url for channel in lockfile.channels)
        ],
        "platforms": [_platform(lockfile.target(platform), platform) for platform in lockfile.platforms],
    }
    document: dict[str, Any] = {"workspace": workspace, **_needs(lockfile, "main")}
    if groups:
        document["feature"] = {group: _needs(lockfile, group) for group in groups}
        document["environments"] = {group: [group] for group in groups}
    return render(document)


def _platform(target: Target | None, platform: str) -> str | dict[str, str]:
    """The bare name where the target is what pixi takes it for, too; else what it offers beside that."""
    if target is None or platform not in PLATFORMS or target == default_target(platform):
        return platform
    entry = {"platform": platform}
    for package in target.virtual_packages:
        if package.name == "__archspec":
            entry["archspec"] = package.build
        elif package.name in _FRIENDLY and package.version != "0":
            entry[_FRIENDLY[package.name]] = package.version
        elif package.name not in (*_FRIENDLY, "__unix"):
            entry[package.name] = package.version
    return entry


def _needs(lockfile: Lockfile, group: str) -> dict[str, Any]:
    """What one group asks for: on all platforms alike, else by platform."""
    tables: dict[str, Any] = {}
    for manager, key in (("conda", "dependencies"), ("pip", "pypi-dependencies")):
        asked = {platform: _asked(lockfile, group, manager, platform) for platform in lockfile.platforms}
        everywhere = _common(list(asked.values()))
        tables[key] = everywhere
        for platform, versions in asked.items():
            own = {name: text for name, text in versions.items() if name not in everywhere}
            if own:
                tables.setdefault("target", {}).setdefault(platform, {})[key] = own
    if not tables["pypi-dependencies"]:
        del tables["pypi-dependencies"]
    return {key: tables[key] for key in ("dependencies", "pypi-dependencies", "target") if key in tables}


def _asked(lockfile: Lockfile, group: str, manager: str, platform: str) -> Mapping[str, str]:
    rows = roots(lockfile, manager, group, [platform])
    return {canonical_name(row.name) if manager == "pip" else row.name: f"=={row.version}" for row in rows}


def _common(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    if not tables:
        return {}
    return {
        name: text for name, text in tables[0].items() if all(other.get(name) == text for other in tables)
    }
