"""The PyPI half where something is built: projects first, then the sdists that were named, then the rest.

uv resolves last, with the wheels that were built in its hands: what they depend on is what they say.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl

from packaging.requirements import Requirement

from envforge.edges.fetch import local_path
from envforge.edges.repository import Repository, resolve_commit
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage
from envforge.model.spec import Line
from envforge.model.urls import redacted, without_secrets
from envforge.resolvers.building.builder import Builder, Checkout, Project, Sdist
from envforge.resolvers.building.portable import check_fits
from envforge.resolvers.building.sources import Source, checkout_of
from envforge.resolvers.pypi.choice import Chosen
from envforge.resolvers.pypi.direct import Direct, Kind, direct_of
from envforge.resolvers.pypi.hashes import HashesOf, Hashing
from envforge.resolvers.pypi.request import PypiRequest, Wanted, holds, wheel_name
from envforge.resolvers.pypi.resolver import Resolved

__all__ = ["Ports", "resolve_with_builds"]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Who is asked.

    ``hashes_of`` gives the hashes of an artifact, ``find`` the sdists of a request's ``no_binary``,
    ``resolve`` its rows; ``offered`` is the version of a conda package of that name, or ``None``.  ``base``
    is the directory that paths in the specification are relative to, ``relative`` such a path as the lockfile
    names it.
    """

    builder: Builder
    hashes_of: HashesOf
    find: Callable[[PypiRequest], Sequence[Chosen]]
    resolve: Callable[[PypiRequest], tuple[LockedPackage, ...]]
    offered: Callable[[str], str | None]
    base: Path
    relative: Callable[[Path], str]


def resolve_with_builds(request: PypiRequest, ports: Ports, known: Mapping[str, BuiltWheel]) -> Resolved:
    """Resolve ``request``; build the projects that it points at, and the sdists of its ``no_binary``.

    :param known: what an earlier lock says was built, by name.
    :raises EnvforgeError: as the resolver and the builder do; where conda has the package, it says so.
    """
    building = _Building(request, ports, known)
    lines = tuple(named for line in request.requirements for named in building.by_name(line))
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

    def by_name(self, line: Line) -> Iterator[Line]:
        """The requirement; where it points at something to build, that for the wheel that was built of it."""
        direct = direct_of(line) if line.applies_to(self.request.target.platform) else None
        if direct is None:
            yield line
        elif direct.marker is None or holds(direct.marker, line, self.request):
            if direct.kind is Kind.WHEEL:
                yield self._wheel(direct, line)
            else:
                yield self._built(direct, line)

    def _wheel(self, direct: Direct, line: Line) -> Line:
        if not direct.is_path:
            return line
        path = (self.ports.base / direct.place).resolve()
        if not path.is_file():
            raise InputError(f"{direct.place} is not there", at=line.at, do="check the path")
        return replace(line, text=direct.named(path.as_uri(), wheel_name(path.name, line)))

    def _built(self, direct: Direct, line: Line) -> Line:
        source, known = self._source(direct, line)
        built = self.ports.builder.build(source, self.python, known)
        if isinstance(source, Checkout):
            built = replace(built, asked=direct.source)
        if direct.name not in (None, built.name):
            raise InputError(
                f"{redacted(line.text)!r} is {built.name}",
                at=line.at,
                do=f"write {built.name} @ {direct.source}",
            )
        wheel = self.ports.builder.path(built)
        check_fits(wheel, self.request.target, self.request.python_version, at=line.at)
        self.built[built.name] = built
        return replace(line, text=direct.named(wheel.as_uri(), built.name), hashes=())

    def _source(self, direct: Direct, line: Line) -> tuple[Source, BuiltWheel | None]:
        if direct.kind is Kind.SDIST and not direct.is_path:
            known = self._known_as(direct.source)
            return self._sdist_at(direct, line), known
        if line.hashes:
            raise InputError(
                f"{redacted(line.text)!r} has no hash that could be compared",
                at=line.at,
                do="leave --hash out: a commit is known by itself, and what is built by the lockfile",
            )
        if direct.kind is Kind.REPOSITORY:
            known = self._known_as(direct.source)
            return self._checkout(direct, known), known
        path = local_path(direct.place) or self.ports.base / direct.place
        relative = self.ports.relative(path)
        return Project(path=path, source=relative, at=line.at), self._known_as(relative)

    def _known_as(self, asked: str) -> BuiltWheel | None:
        return next((one for one in self.known.values() if one.asked_as == asked), None)

    def _checkout(self, direct: Direct, known: BuiltWheel | None) -> Checkout:
        """The commit that was locked, else the one that the name stands for now."""
        url, _, fragment = direct.place.removeprefix("git+").partition("#")
        path = url.partition("://")[2].partition("/")[2]
        revision = path.rpartition("@")[2] if "@" in path else None
        url = url.removesuffix(f"@{revision}") if revision else url
        repository = Repository(url=url, revision=revision)
        if known is not None:
            commit = checkout_of(known.source).commit
        else:
            with tempfile.TemporaryDirectory(prefix="envforge-git-") as work:
                commit = resolve_commit(repository, Path(work))
        subdirectory = dict(parse_qsl(fragment)).get("subdirectory", "")
        source = f"git+{without_secrets(url, tokens=False)}@{commit}"
        source += f"#subdirectory={subdirectory}" if subdirectory else ""
        return Checkout(repository=repository, commit=commit, subdirectory=subdirectory, source=source)

    def _sdist_at(self, direct: Direct, line: Line) -> Sdist:
        fetch = self.request.places.with_login(direct.place).partition("#")[0]
        hashes = self.ports.hashes_of(fetch)
        url = Wanted(line=line, requirement=Requirement(f"{direct.name or 'x'} @ {direct.place}"))
        hashing = Hashing.of([url], self.ports.hashes_of)
        if not hashing.accepts(url.name, fetch, hashes):
            raise hashing.refused(url.name, "", [hashes["sha256"]], self.request.assumed)
        return Sdist(
            url=direct.source.partition("#")[0], sha256=hashes["sha256"], fetch=fetch, name=direct.name
        )

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
