"""The PyPI half where something is built: projects first, then the sdists that were named, then the rest.

uv resolves last, with the wheels that were built in its hands: what they depend on is what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.errors import CouldNotError, EnvforgeError
from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage
from envforge.model.spec import Line
from envforge.resolvers._choice import Chosen
from envforge.resolvers._request import PypiRequest, project_of
from envforge.resolvers.building import Builder, Project, Sdist, check_fits

__all__ = ["Ports", "Resolved", "resolve_with_builds"]


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Rows, the wheels among them that were built, and the requirements with projects by name."""

    rows: tuple[LockedPackage, ...]
    built: tuple[BuiltWheel, ...]
    requirements: tuple[Line, ...]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Who is asked.

    ``find`` gives the sdists of a request's ``no_binary``, ``resolve`` its rows; ``offered`` is the version
    of a conda package of that name, or ``None``.  ``base`` is the directory that paths in the specification
    are relative to, ``relative`` such a path as the lockfile names it.
    """

    builder: Builder
    find: Callable[[PypiRequest], Sequence[Chosen]]
    resolve: Callable[[PypiRequest], tuple[LockedPackage, ...]]
    offered: Callable[[str], str | None]
    base: Path
    relative: Callable[[Path], str]


def resolve_with_builds(request: PypiRequest, ports: Ports, known: Mapping[str, BuiltWheel]) -> Resolved:
    """Resolve ``request``, whose requirements may be projects, with its ``no_binary`` built from sdists.

    :param known: what an earlier lock says was built, by name.
    :raises EnvforgeError: as the resolver and the builder do; where conda has the package, it says so.
    """
    building = _Building(request, ports, known)
    lines = tuple(building.by_name(line) for line in request.requirements)
    request = replace(request, requirements=lines)
    found = building.sdists(building.chosen(request)) if request.no_binary else ()
    rows = ports.resolve(replace(request, no_binary=(), built=found))
    made = {building.ports.builder.path(one).as_uri(): one for one in building.built.values()}
    kept = [replace(made[row.url], dependencies=row.dependencies) for row in rows if row.url in made]
    rows = tuple(replace(row, url=made[row.url].url) if row.url in made else row for row in rows)
    return Resolved(rows=rows, built=tuple(kept), requirements=lines)


class _Building:
    def __init__(self, request: PypiRequest, ports: Ports, known: Mapping[str, BuiltWheel]) -> None:
        self.request = request
        self.ports = ports
        self.known = known
        self.built: dict[str, BuiltWheel] = {}
        self.python = ".".join(request.python_version.split(".")[:2])

    def by_name(self, line: Line) -> Line:
        """A requirement for the wheel of a project in place of its path."""
        project = project_of(line.text)
        if project is None or not line.applies_to(self.request.target.platform):
            return line
        path, extras = project
        directory = self.ports.base / path
        source = Project(path=directory, source=self.ports.relative(directory), at=line.at)
        known = next((one for one in self.known.values() if one.source == source.source), None)
        built = self.ports.builder.build(source, self.python, known)
        wheel = self.ports.builder.path(built)
        check_fits(wheel, self.request.target, self.request.python_version, at=line.at)
        self.built[built.name] = built
        return replace(line, text=f"{built.name}{extras} @ {wheel.as_uri()}")

    def chosen(self, request: PypiRequest) -> Sequence[Chosen]:
        """The sdists to build."""
        try:
            return self.ports.find(request)
        except CouldNotError as error:
            for name in request.no_binary:
                if f"the build of {name} " in error.what:
                    self._name_conda(name, error)
            raise

    def sdists(self, chosen: Sequence[Chosen]) -> tuple[tuple[str, str], ...]:
        """Names, and the URLs of the wheels that were built of their sdists."""
        return tuple((one.name, self._sdist(one).as_uri()) for one in chosen)

    def _sdist(self, one: Chosen) -> Path:
        source = Sdist(
            name=one.name,
            version=one.version,
            url=one.url,
            sha256=one.sha256 or "",
            fetch=self.request.places.with_login(one.url),
        )
        try:
            built = self.ports.builder.build(source, self.python, self.known.get(one.name))
            wheel = self.ports.builder.path(built)
            check_fits(wheel, self.request.target, self.request.python_version)
        except EnvforgeError as error:
            self._name_conda(one.name, error)
            raise
        self.built[one.name] = built
        return wheel

    def _name_conda(self, name: str, error: EnvforgeError) -> None:
        version = self.ports.offered(name)
        if version is not None:
            error.do = f"take it from conda, whose channels have {name} {version}: write it outside pip:"
