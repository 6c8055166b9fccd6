"""What the command line says beside the specification, and what the lockfile keeps of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from envforge.lock.upgrades import Upgrade
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.platforms import Override, Target, VirtualPackage, default_target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["LockOptions", "settings_of", "settings_text", "targets_for"]


@dataclass(frozen=True, kw_only=True)
class LockOptions:
    """What the command line may say beside the specification.

    ``platforms`` and ``channels`` replace the specification's; ``assumed`` changes what each target offers;
    ``upgrade`` are the packages whose locked version is let go, ``upgrade_all`` lets go of all.
    ``no_binary`` names projects that are built from their sdist, beside those of the specification;
    ``index_of`` and ``find_links`` come on top of the specification's, too.
    ``overrides`` are what ``CONDA_OVERRIDE_…`` says of every target.
    ``python`` is the Python of an environment that brings none of its own, as ``3.11`` or ``3.11.9``.
    """

    platforms: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    assumed: tuple[VirtualPackage, ...] = ()
    overrides: tuple[Override, ...] = ()
    upgrade_all: bool = False
    upgrade: tuple[Upgrade, ...] = ()
    no_binary: tuple[str, ...] = ()
    index_of: tuple[tuple[str, str], ...] = ()
    find_links: tuple[str, ...] = ()
    prerelease: bool = False
    python: str | None = None
    channel_priority: str = "strict"
    exclude_newer: str | None = None
    offline: bool = False

    def lets_go(self, name: str) -> bool:
        """Whether the locked version of ``name`` is not to be kept."""
        wanted = {canonical_name(upgrade.name) for upgrade in self.upgrade}
        return self.upgrade_all or canonical_name(name) in wanted


def targets_for(
    spec: EnvironmentSpec, options: LockOptions, previous: Lockfile | None, host: str
) -> tuple[Target, ...]:
    """The targets to lock for, of what is said where the first that says it.

    The command line, a profile, ``CONDA_OVERRIDE_…``, the lock that is renewed, the specification, defaults.

    :param host: this machine's platform, used where nothing else says one.
    """
    profiles = {target.platform: target for target in options.targets}
    platforms = options.platforms or tuple(profiles) or spec.platforms
    platforms = platforms or (previous.platforms if previous else ()) or (host,)
    targets = []
    for platform in dict.fromkeys(platforms):
        target = profiles.get(platform) or _without_profile(spec, options, previous, platform)
        wanted = tuple(package for package in options.assumed if target.may_offer(package))
        targets.append(target.with_packages(wanted))
    return tuple(targets)


def _without_profile(
    spec: EnvironmentSpec, options: LockOptions, previous: Lockfile | None, platform: str
) -> Target:
    target = previous.target(platform) if previous is not None else None
    if target is None:
        target = default_target(platform)
        assumed = spec.assumed_for(platform)
        target = target.with_packages(tuple(package for package in assumed if target.may_offer(package)))
    for override in options.overrides:
        target = override.applied(target)
    return target


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
    if options.index_of:
        settings["index-of"] = {name: without_secrets(url, tokens=False) for name, url in options.index_of}
    if options.find_links:
        settings["find-links"] = [without_secrets(url, tokens=False) for url in options.find_links]
    if options.prerelease:
        settings["pre"] = True
    if options.python:
        settings["python"] = options.python
    if options.channel_priority != "strict":
        settings["channel-priority"] = options.channel_priority
    if options.exclude_newer:
        settings["exclude-newer"] = options.exclude_newer
    if options.no_binary:
        settings["no-binary"] = sorted(options.no_binary)
    return json.dumps(settings, sort_keys=True)
