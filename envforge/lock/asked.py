"""What the lines of a specification ask for, by the name of the package that meets each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.fetch import local_path
from envforge.model.built import BuiltWheel
from envforge.model.groups import Key, key_of
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.platforms import Target
from envforge.model.spec import EnvironmentSpec, Line
from envforge.resolvers.conda.request import parse_match_spec

__all__ = ["Place", "asked_for", "by_group", "project_source"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """``base``, which paths in the specification are relative to, and ``lockfile``, where that lies."""

    base: Path
    lockfile: Path


def project_source(line: Line, place: Place) -> str | None:
    """What a lockfile calls that which a line points at and which is built; ``None`` for any other line.

    A path is relative to the lockfile.
    """
    from envforge.resolvers.pypi.direct import Kind, direct_of

    direct = direct_of(line)
    if direct is None or direct.kind is Kind.WHEEL:
        return None
    path = Path(direct.place) if direct.is_path else local_path(direct.place)
    if path is None or direct.kind is Kind.REPOSITORY:
        return direct.source
    return Path(os.path.relpath(place.base / path, place.lockfile)).as_posix()


def asked_for(
    spec: EnvironmentSpec,
    target: Target,
    rows: Iterable[LockedPackage],
    *,
    provided: Mapping[str, tuple[str, str]],
    built: Iterable[BuiltWheel],
    place: Place,
    python: str | None = None,
) -> tuple[tuple[Line, Key | None], ...]:
    """Each line that counts for ``target`` with the package that meets it, conda's first.

    ``None`` is for a project of which no wheel is known.  Virtual packages, and requirements whose marker
    does not hold, are left out.

    :param rows: those of the target's platform.
    :param provided: what conda packages meet: by project, version and conda package.
    :param python: the full version of the Python where no row brings one.
    :raises InputError: for a line that is no dependency.
    """
    found: list[tuple[Line, Key | None]] = []
    for line in spec.conda_for(target.platform):
        name = parse_match_spec(line).name.normalized
        if not name.startswith("__"):
            found.append((line, ("conda", name)))
    lines = spec.pip_for(target.platform)
    if not lines:
        return tuple(found)
    from envforge.resolvers.pypi.direct import Kind, direct_of
    from envforge.resolvers.pypi.request import parse_requirement, wheel_name
    from envforge.resolvers.pypi.target import marker_environment

    versions = {key_of(row): row.version for row in rows}
    environment = marker_environment(target, versions.get(("conda", "python"), python or "3"))
    sources = {one.asked_as: one.name for one in built}
    for line in lines:
        direct = direct_of(line)
        marker = parse_requirement(line).marker if direct is None else direct.marker
        if marker is not None and not marker.evaluate(environment):
            continue
        if direct is not None and direct.kind is not Kind.WHEEL:
            source = project_source(line, place)
            found.append((line, ("pip", sources[source]) if source in sources else None))
            continue
        if direct is None or not direct.is_path:
            name = canonical_name(parse_requirement(line).name)
        else:
            name = wheel_name(direct.place.rpartition("/")[2], line)
        by_conda = ("pip", name) not in versions and name in provided
        found.append((line, ("conda", provided[name][1]) if by_conda else ("pip", name)))
    return tuple(found)


def by_group(asked: Iterable[tuple[Line, Key | None]]) -> dict[str, list[Key]]:
    """The packages that the lines of each group name."""
    found: dict[str, list[Key]] = {}
    for line, key in asked:
        if key is not None:
            found.setdefault(line.group, []).append(key)
    return found
