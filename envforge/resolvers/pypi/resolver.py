"""The PyPI half: uv resolves for a target that need not be the host, and its answer becomes rows.

What conda brings is shown to uv as stubs (:mod:`envforge.resolvers.pypi.stubs`): it is neither resolved nor
locked a second time, and a requirement that it does not meet is an error now and not on the cluster.  Only
wheels are taken; of each package the one that fits the target best, by the target's own tags.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from envforge.errors import CouldNotError, UnsatisfiableError
from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.spec import Line
from envforge.resolvers.pypi.choice import Chosen, choose, sdists
from envforge.resolvers.pypi.compiler import Compiler
from envforge.resolvers.pypi.hashes import HashesOf, Hashing
from envforge.resolvers.pypi.metadata import (
    Asked,
    Metadata,
    asked_for,
    parse_metadata,
)
from envforge.resolvers.pypi.request import (
    ProvidedDistribution,
    PypiRequest,
    Wanted,
    wanted,
)
from envforge.resolvers.pypi.stubs import Stub, stubs_for
from envforge.resolvers.pypi.target import marker_environment

__all__ = ["PypiPorts", "Resolved", "find_sdists", "resolve"]

_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class PypiPorts:
    """Who is asked beside uv; each from several threads, with URLs that have the login of their place.

    ``metadata_of`` gives the METADATA of a wheel by URL and sha256, such as :func:`wheel_metadata`,
    ``hashes_of`` the hashes of an artifact, such as :func:`artifact_hashes`: for an index that gives none.
    ``complete`` fills in the metadata of a provided distribution of which an extra is asked for.
    """

    metadata_of: Callable[[str, str], str]
    hashes_of: HashesOf
    complete: Callable[[ProvidedDistribution], ProvidedDistribution] = lambda one: one


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Rows, the requirements with projects by name, and the wheels among the rows that were built."""

    rows: tuple[LockedPackage, ...]
    requirements: tuple[Line, ...]
    built: tuple[BuiltWheel, ...] = ()


def resolve(
    request: PypiRequest, *, cache: Path, ports: PypiPorts, offline: bool = False
) -> tuple[LockedPackage, ...]:
    """One row for each package that the requirements need and conda does not bring; sorted by name.

    :param cache: uv's own, and where the stubs lie.
    :param offline: use nothing but the cache and ``file:`` indexes.
    :raises UnsatisfiableError: if no set of wheels fits, or one clashes with what conda brings.
    :raises InputError: for something that is no requirement, no index, no hash, no date.
    :raises CouldNotError: if an index cannot be read, or is not in the cache with ``offline``.
    """
    compiler = _compiler(request, cache, offline=offline)
    return _Resolving(compiler=compiler, ports=ports).rows() if compiler.direct else ()


def find_sdists(
    request: PypiRequest, *, cache: Path, ports: PypiPorts, offline: bool = False
) -> tuple[Chosen, ...]:
    """The sdists that the packages of ``request.no_binary`` would be built from, sorted by name.

    What conda brings, what was built already and what nothing needs is not among them.  uv asks an sdist that
    does not say what it depends on by running its code.

    :raises EnvforgeError: as :func:`resolve`.
    """
    compiler = _compiler(request, cache, offline=offline)
    if not compiler.direct or not request.no_binary:
        return ()
    resolving = _Resolving(compiler=compiler, ports=ports)
    pylock = compiler.compiled(stubs_for(request.provided))
    found = sdists(pylock, request.no_binary, request, resolving.hashing)
    return tuple(resolving.with_hash(one) for one in found)


def _compiler(request: PypiRequest, cache: Path, *, offline: bool) -> Compiler:
    return Compiler(
        request=request,
        direct=wanted(request, request.requirements),
        constraints=wanted(request, request.constraints),
        cache=cache.absolute(),
        offline=offline,
    )


@dataclass(kw_only=True)
class _Resolving:
    """One call of :func:`resolve`: what does not change while stubs are completed, and what was fetched."""

    compiler: Compiler
    ports: PypiPorts
    known: dict[str, Metadata] = field(default_factory=dict)

    @property
    def request(self) -> PypiRequest:
        return self.compiler.request

    @property
    def direct(self) -> tuple[Wanted, ...]:
        return self.compiler.direct

    @cached_property
    def hashing(self) -> Hashing:
        return Hashing.of((*self.direct, *self.compiler.constraints), self._hashes_of)

    def _hashes_of(self, url: str) -> Mapping[str, str]:
        return self.ports.hashes_of(self.request.places.with_login(url))

    def rows(self) -> tuple[LockedPackage, ...]:
        environment = marker_environment(self.request.target, self.request.python_version)
        provided = {stub.name: stub.distribution for stub in stubs_for(self.request.provided).values()}
        completed: set[str] = set()
        while True:
            stubs = stubs_for(provided.values())
            pylock = self.compiler.compiled(stubs)
            chosen = [self.with_hash(one) for one in choose(pylock, self.request, self.hashing)]
            locked = self._metadata(chosen)
            asked = asked_for(
                ((one.requirement, one.line.at) for one in self.direct),
                locked,
                {name: stub.metadata for name, stub in stubs.items()},
                environment,
            )
            if self.compiler.forget({one.name for one in chosen} - asked.extras.keys()):
                continue
            lacking = {n for n, stub in stubs.items() if not stub.metadata.extras.issuperset(asked.of(n))}
            for name in sorted(lacking):
                if name in completed and provided[name].metadata is None:
                    raise _unknown_extra(stubs[name], asked)
                if name in completed:
                    raise self._no_extra(stubs[name].metadata, _brought(stubs[name]), name, asked)
                completed.add(name)
                provided[name] = self.ports.complete(provided[name])
            if not lacking:
                break
        self._check_extras(locked, asked)
        return tuple(self._row(one, locked[one.name], asked, environment) for one in chosen)

    def with_hash(self, one: Chosen) -> Chosen:
        """The same with its sha256, computed from the file where the index does not say it."""
        return one if one.sha256 is not None else replace(one, sha256=self._hashes_of(one.url)["sha256"])

    def _metadata(self, chosen: Sequence[Chosen]) -> dict[str, Metadata]:
        """Of every chosen wheel; what an earlier round fetched is not fetched again."""

        def fetch(one: Chosen) -> Metadata:
            text = self.ports.metadata_of(self.request.places.with_login(one.url), one.sha256 or "")
            return parse_metadata(text)

        new = [one for one in chosen if one.url not in self.known]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self.known.update(zip((one.url for one in new), pool.map(fetch, new), strict=True))
        return {one.name: self.known[one.url] for one in chosen}

    def _check_extras(self, locked: Mapping[str, Metadata], asked: Asked) -> None:
        """A person who asks for an extra that is not there would miss what it should have brought."""
        for one in self.direct:
            metadata = locked.get(one.name)
            if metadata and not metadata.extras.issuperset(map(canonical_name, one.requirement.extras)):
                raise self._no_extra(metadata, one.name, one.name, asked)

    def _no_extra(self, metadata: Metadata, what: str, name: str, asked: Asked) -> UnsatisfiableError:
        extra = next(extra for extra in asked.of(name) if extra not in metadata.extras)
        who = asked.extras[name][extra]
        is_direct = any(one.line.at == who for one in self.direct)
        some = difflib.get_close_matches(extra, sorted(metadata.extras), n=3) or sorted(metadata.extras)[:8]
        has = f"it has: {', '.join(some)}{', …' if len(some) < len(metadata.extras) else ''}"
        return UnsatisfiableError(
            f"{what} has no extra {extra!r}" + ("" if is_direct else f", which {who} asks for"),
            at=who if is_direct else None,
            do=f"{f'leave [{extra}] out, or ask' if is_direct else 'ask conda'} for another version; "
            f"{has if some else 'it has none'}",
        )

    def _row(
        self, one: Chosen, metadata: Metadata, asked: Asked, environment: Mapping[str, str]
    ) -> LockedPackage:
        needed: dict[Requirement, None] = {}
        for extra in ["", *asked.of(one.name)]:
            needed.update(dict.fromkeys(metadata.needs(extra, environment)))
        return LockedPackage(
            name=one.name,
            version=one.version,
            manager="pip",
            platform=self.request.target.platform,
            url=one.url,
            sha256=one.sha256,
            dependencies=_dependencies(one.name, needed),
        )


def _dependencies(name: str, needed: Mapping[Requirement, None]) -> dict[str, str]:
    """Specifiers by canonical name, ``*`` where any version will do, without the package itself."""
    found: dict[str, SpecifierSet] = {}
    for requirement in needed:
        other = canonical_name(requirement.name)
        found[other] = found.get(other, SpecifierSet()) & requirement.specifier
    found.pop(name, None)
    return {other: str(versions) or "*" for other, versions in sorted(found.items())}


def _unknown_extra(stub: Stub, asked: Asked) -> CouldNotError:
    extra = next(extra for extra in asked.of(stub.name) if extra not in stub.metadata.extras)
    conda = stub.distribution.conda_name
    return CouldNotError(
        f"what {stub.name}[{extra}] needs cannot be looked up: the files of conda's {conda} cannot be read",
        at=asked.extras[stub.name][extra],
        do=f"lock once without --offline, from a channel that holds {conda}; or leave {conda} out",
    )


def _brought(stub: Stub) -> str:
    return f"{stub.name} {stub.distribution.version}, as conda's {stub.distribution.conda_name} brings it,"
