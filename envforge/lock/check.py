"""``lock --check``: does the lockfile still satisfy the specification?  Nothing is resolved, or fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from envforge.model.built import built_wheels
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.platforms import Target, default_target
from envforge.model.spec import EnvironmentSpec, Line
from envforge.resolvers.conda import channel_url, parse_match_spec

__all__ = ["Unmet", "first_unmet"]


class Unmet(Exception):
    """The first requirement that does not hold: what, and where it was written."""

    def __init__(self, what: str, at: str) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


def first_unmet(
    spec: EnvironmentSpec,
    lockfile: Lockfile,
    targets: Sequence[Target],
    base: Path,
    place: Path | None = None,
) -> Unmet | None:
    """The first requirement of ``spec`` that ``lockfile`` does not satisfy, or ``None``.

    :param targets: what the lockfile would be made for now.
    :param base: the directory that relative paths of channels and projects are relative to.
    :param place: the directory that the lockfile lies in, if it is another one.
    """
    return next(_unmet(spec, lockfile, targets, base, place or base), None)


def _unmet(
    spec: EnvironmentSpec, lockfile: Lockfile, targets: Sequence[Target], base: Path, place: Path
) -> Iterator[Unmet]:
    at = ", ".join(spec.sources) or "the specification"
    declared = {url for name in spec.channels for url in channel_url(name, base)}
    locked = {channel.url.rstrip("/") for channel in lockfile.channels}
    for url in sorted(declared):
        if url not in locked and url.rsplit("/", 1)[-1] not in locked:
            yield Unmet(f"the lockfile was made without the channel {url}", at)
    for target in targets:
        if target.platform not in lockfile.platforms:
            yield Unmet(f"the lockfile has no packages for {target.platform}", at)
            continue
        assumed = lockfile.target(target.platform)
        if assumed is not None and assumed != target:
            yield Unmet(f"{target.platform} was locked for {assumed}, now it is {target}", at)
        yield from _unmet_conda(spec, lockfile, target)
        yield from _unmet_projects(spec, lockfile, target, base, place)
        yield from _unmet_pip(spec, lockfile, target)


def _unmet_conda(spec: EnvironmentSpec, lockfile: Lockfile, target: Target) -> Iterator[Unmet]:
    rows = {row.name: row for row in _rows(lockfile, target, "conda")}
    for line in spec.conda_for(target.platform):
        match_spec = parse_match_spec(line)
        name = match_spec.name.normalized
        if name.startswith("__"):
            continue
        row = rows.get(name)
        if row is None:
            yield Unmet(f"{line.text}: {name} is not locked for {target.platform}", line.at)
        elif not _matches(match_spec, row):
            found = f"{row.version} {row.build_string}"
            yield Unmet(f"{line.text}: {name} {found} is locked for {target.platform}", line.at)


def _matches(match_spec: object, row: LockedPackage) -> bool:
    from rattler import MatchSpec, PackageRecord
    from rattler.package.build_string import BuildString

    assert isinstance(match_spec, MatchSpec)  # noqa: S101 - narrows the type for the lazy import
    digits = row.build_string.rpartition("_")[2]
    record = PackageRecord(
        name=row.name,
        version=row.version,
        build=BuildString(row.build_string),
        build_number=int(digits) if digits.isdigit() else 0,
        subdir=row.subdir,
    )
    channel = match_spec.channel
    if channel is not None and str(channel.base_url).rstrip("/") != row.channel:
        return False
    plain = MatchSpec(f"{row.name} {match_spec.version or '*'} {match_spec.build or '*'}", strict=False)
    return plain.matches(record)


def _unmet_projects(
    spec: EnvironmentSpec, lockfile: Lockfile, target: Target, base: Path, place: Path
) -> Iterator[Unmet]:
    """Whether what is to be built was built; not, whether a project has changed since."""
    from envforge.resolvers.building import project_of

    built = {one.name: one for platform, one in built_wheels(lockfile) if platform == target.platform}
    sources = {one.source for one in built.values()}
    for line in spec.pip_for(target.platform):
        project = project_of(line.text)
        if project and Path(os.path.relpath(base / project[0], place)).as_posix() not in sources:
            yield Unmet(f"{line.text}: no wheel of that project is locked for {target.platform}", line.at)
    for row in _rows(lockfile, target, "pip"):
        if canonical_name(row.name) in spec.no_binary and canonical_name(row.name) not in built:
            yield Unmet(
                f"{row.name} is to be built from its sdist, and is locked as a wheel for {target.platform}",
                "--no-binary",
            )


def _unmet_pip(spec: EnvironmentSpec, lockfile: Lockfile, target: Target) -> Iterator[Unmet]:
    from envforge.resolvers.building import project_of
    from envforge.resolvers.pypi import marker_environment, parse_requirement

    lines = [line for line in spec.pip_for(target.platform) if project_of(line.text) is None]
    if not lines:
        return
    versions = _provided(lockfile, target) | {row.name: row.version for row in _rows(lockfile, target, "pip")}
    python = next((r.version for r in _rows(lockfile, target, "conda") if r.name == "python"), "3")
    environment = marker_environment(
        lockfile.target(target.platform) or default_target(target.platform), python
    )
    for line in lines:
        requirement = parse_requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            yield from _unmet_requirement(line, requirement, versions, target)


def _unmet_requirement(
    line: Line, requirement: Requirement, versions: dict[str, str], target: Target
) -> Iterator[Unmet]:
    version = versions.get(canonical_name(requirement.name))
    if version is None:
        yield Unmet(f"{line.text}: {requirement.name} is not locked for {target.platform}", line.at)
        return
    try:
        fits = requirement.specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        fits = not requirement.specifier
    if not fits:
        yield Unmet(f"{line.text}: {requirement.name} {version} is locked for {target.platform}", line.at)


def _provided(lockfile: Lockfile, target: Target) -> dict[str, str]:
    words = lockfile.custom.get(f"envforge.provided.{target.platform}", "").split()
    return dict(word.partition("@")[0].split("=", 1) for word in words if "=" in word)


def _rows(lockfile: Lockfile, target: Target, manager: str) -> list[LockedPackage]:
    return [r for r in lockfile.packages if r.platform == target.platform and r.manager == manager]
