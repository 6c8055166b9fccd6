"""What the command line says beside the specification, and what the lockfile keeps of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from envforge.lock.upgrades import Upgrade
from envforge.model.lockfile import Lockfile, canonical_name
from envforge.model.platforms import Override, Target, VirtualPackage, default_target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["LockOptions", "applied", "settings_of", "settings_text", "targets_for"]


@dataclass(frozen=True, kw_only=True)
class LockOptions:
    """What the command line may say beside the specification.

    ``platforms`` and ``channels`` replace the specification's; ``assumed`` changes what each target offers;
    ``upgrade`` are the packages whose locked version is let go, ``upgrade_all`` lets go of all.
    ``no_binary`` names projects that are built from their sdist, beside those of the specification;
    ``index_of`` and ``find_links`` come on top of the specification's, too.
    ``provides`` are the distributions that conda packages bring, where a setting says so.
    ``overrides`` are what ``CONDA_OVERRIDE_…`` says of every target.
    ``python`` is the Python of an environment that brings none of its own, as ``3.11`` or ``3.11.9``.
    ``channel_priority`` and ``exclude_newer`` take the place of what the specification says.
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
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environment: str | None = None
    channel_priority: str | None = None
    exclude_newer: str | None = None
    offline: bool = False

    def lets_go(self, name: str) -> bool:
        """Whether the locked version of ``name`` is not to be kept."""
        wanted = {canonical_name(upgrade.name) for upgrade in self.upgrade}
        return self.upgrade_all or canonical_name(name) in wanted


def applied(spec: EnvironmentSpec, options: LockOptions) -> EnvironmentSpec:
    """The specification with what the command line says beside it, but for channels and targets."""
    return replace(
        spec,
        indexes=options.indexes or spec.indexes,
        index_of=tuple(sorted({**dict(spec.index_of), **dict(options.index_of)}.items())),
        find_links=tuple(dict.fromkeys((*spec.find_links, *options.find_links))),
        no_binary=tuple(sorted({*spec.no_binary, *options.no_binary})),
        prerelease=spec.prerelease or options.prerelease,
        python=options.python or spec.python,
        channel_priority=options.channel_priority or spec.channel_priority or "strict",
        exclude_newer=options.exclude_newer or spec.exclude_newer,
    )


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
    settings: dict[str, object] = {
        "channels": [without_secrets(url, tokens=True) for url in options.channels],
        "indexes": [without_secrets(url, tokens=False) for url in options.indexes],
        "index-of": {name: without_secrets(url, tokens=False) for name, url in options.index_of},
        "find-links": [without_secrets(url, tokens=False) for url in options.find_links],
        "pre": options.prerelease,
        "python": options.python,
        "environment": options.environment,
        "channel-priority": options.channel_priority,
        "exclude-newer": options.exclude_newer,
        "no-binary": sorted(options.no_binary),
    }
    return json.dumps({key: value for key, value in settings.items() if value}, sort_keys=True)
