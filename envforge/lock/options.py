"""What the command line says beside the specification, and what the lockfile keeps of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from envforge.model.lockfile import Lockfile
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["LockOptions", "settings_of", "settings_text", "targets_for"]


@dataclass(frozen=True, kw_only=True)
class LockOptions:
    """What the command line may say beside the specification.

    ``platforms`` and ``channels`` replace the specification's; ``assumed`` changes what each target offers;
    ``upgrade`` names the packages whose locked version is let go, ``upgrade_all`` all of them.
    ``no_binary`` names projects that are built from their sdist, beside those of the specification.
    """

    platforms: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    assumed: tuple[VirtualPackage, ...] = ()
    upgrade_all: bool = False
    upgrade: tuple[str, ...] = ()
    no_binary: tuple[str, ...] = ()
    exclude_newer: str | None = None
    offline: bool = False


def targets_for(
    spec: EnvironmentSpec, options: LockOptions, previous: Lockfile | None, host: str
) -> tuple[Target, ...]:
    """The targets to lock for: command line, profiles, the lock that is renewed, the specification, defaults.

    :param host: this machine's platform, used where nothing else says one.
    """
    profiles = {target.platform: target for target in options.targets}
    platforms = options.platforms or tuple(profiles) or spec.platforms
    platforms = platforms or (previous.platforms if previous else ()) or (host,)
    targets = []
    for platform in dict.fromkeys(platforms):
        known = profiles.get(platform) or (previous.target(platform) if previous else None)
        target = known or default_target(platform)
        wanted = tuple(p for p in options.assumed if _belongs(p, platform))
        targets.append(target.with_packages(wanted))
    return tuple(targets)


def _belongs(package: VirtualPackage, platform: str) -> bool:
    """A glibc or a Linux kernel is assumed on Linux only, whatever platforms are locked with it."""
    family = {"__glibc": "linux-", "__linux": "linux-", "__osx": "osx-", "__win": "win-"}
    return platform.startswith(family.get(package.name, ""))


def settings_of(lockfile: Lockfile) -> dict[str, object]:
    """The settings that a lockfile says to lock with again; empty for another tool's file."""
    try:
        settings = json.loads(lockfile.custom.get("envforge.settings", "{}"))
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def settings_text(options: LockOptions) -> str:
    """What the command line said beside the specification, for the next lock to know."""
    settings: dict[str, object] = {}
    if options.channels:
        settings["channels"] = [without_secrets(url, tokens=True) for url in options.channels]
    if options.indexes:
        settings["indexes"] = [without_secrets(url, tokens=False) for url in options.indexes]
    if options.exclude_newer:
        settings["exclude-newer"] = options.exclude_newer
    if options.no_binary:
        settings["no-binary"] = sorted(options.no_binary)
    return json.dumps(settings, sort_keys=True)
