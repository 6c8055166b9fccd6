"""The PyPI half of one platform: what the requirements need beside what conda brings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from envforge.edges.cache import remembered
from envforge.edges.fetch import Fetcher
from envforge.errors import EnvforgeError, InputError
from envforge.lock.half import Half
from envforge.lock.options import LockOptions
from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.model.python import assumed_python
from envforge.model.spec import EnvironmentSpec, Line
from envforge.reporting import Reporter
from envforge.resolvers import conda
from envforge.resolvers.provided import (
    Channels,
    Distribution,
    met_by_conda,
    metadata_of_provided,
    provided_by,
)
from envforge.resolvers.pypi.choice import Chosen
from envforge.resolvers.pypi.clash import ClashError
from envforge.resolvers.pypi.direct import direct_of
from envforge.resolvers.pypi.hashes import artifact_hashes
from envforge.resolvers.pypi.metadata import wheel_metadata
from envforge.resolvers.pypi.missing import NoWheelError, UnknownProjectError
from envforge.resolvers.pypi.places import Places
from envforge.resolvers.pypi.request import ProvidedDistribution, PypiRequest, wanted
from envforge.resolvers.pypi.resolver import PypiPorts, Resolved, find_sdists, resolve
from envforge.resolvers.pypi.torch import backend_of, with_torch

if TYPE_CHECKING:
    from envforge.resolvers.building.builder import Builder

__all__ = ["PypiHalf", "Solve"]

Solve = Callable[[tuple[Line, ...], Target, tuple[LockedPackage, ...]], tuple[conda.CondaRecord, ...]]
"""Solves conda dependencies for a target, with rows whose versions are kept where they fit."""


@dataclass(frozen=True, kw_only=True)
class PypiHalf:
    """Resolves the PyPI half, for one target after another.

    ``base`` is the directory that paths in the specification are relative to, ``place`` the one that the
    lockfile will lie in.  ``builder`` is called where there is something to build.
    """

    spec: EnvironmentSpec
    channels: tuple[str, ...]
    places: Places
    options: LockOptions
    cache: Path
    fetcher: Fetcher
    reporter: Reporter
    base: Path
    place: Path
    builder: Callable[[], Builder]
    solve: Solve

    def resolve(
        self,
        target: Target,
        records: Sequence[conda.CondaRecord],
        kept: Sequence[LockedPackage],
        known: Mapping[str, BuiltWheel],
        *,
        limits: Sequence[Line] = (),
    ) -> Half:
        """Resolve the requirements that count for ``target``.

        :param records: what conda has chosen.
        :param kept: the rows of the lock that is renewed whose versions are kept where they fit.
        :param known: what that lock says was built, by name.
        :param limits: constraints beside the specification's.
        :raises EnvforgeError: as :func:`resolve_with_builds`.
        """
        lines = self.spec.pip_for(target.platform)
        if not lines:
            return Half()
        own = next((record.version for record in records if record.name == "python"), None)
        python = own or self._said_python(records, lines[0].at)
        self._check_python(target, own)
        self.reporter.step(f"resolving {len(lines)} PyPI requirements for {target.platform}")
        provided = provided_by(
            records,
            cache=self.cache,
            reporter=self.reporter,
            channels=self._channels,
            offline=self.options.offline,
            said=self.options.provides,
        )
        request = self._request(target, assumed_python(python), provided)
        request = replace(
            request,
            constraints=(*request.constraints, *limits),
            preferred=tuple({row.name: row.version for row in reversed(kept)}.items()),
        )
        try:
            found = self._resolved(request, self._ports(provided), known)
        except ClashError as error:
            from envforge.lock.clashes import explain

            lines = self.spec.conda_for(target.platform)
            explain(error, records, lines, lambda line: self.solve((*lines, line), target, ()))
            raise
        except (NoWheelError, UnknownProjectError) as error:
            self._help(error, request, has_conda=own is not None)
            raise
        return Half(
            rows=found.rows,
            met=met_by_conda(found.requirements, found.rows, provided),
            built=found.built,
            python=None if own else python,
            torch=self._said_torch(target, found.rows),
        )

    @cached_property
    def _channels(self) -> Channels:
        return Channels(urls=self.channels, access=self.fetcher.access)

    def _request(self, target: Target, python: str, provided: Sequence[Distribution]) -> PypiRequest:
        return PypiRequest(
            requirements=self.spec.pip_for(target.platform),
            target=target,
            python_version=python,
            provided=tuple(
                ProvidedDistribution(name=one.name, version=one.version, conda_name=one.conda.name)
                for one in {one.name: one for one in provided}.values()
            ),
            constraints=self.spec.constraints_for(target.platform),
            places=self.places,
            exclude_newer=self.spec.exclude_newer,
            prerelease=self.spec.prerelease,
            no_binary=self.spec.no_binary,
        )

    def _said_python(self, records: Sequence[conda.CondaRecord], at: str) -> str:
        if self.spec.python is not None and not records:
            return self.spec.python
        add = f"write python={self.spec.python or '3.12'} among the conda dependencies"
        raise InputError(
            "the pip: part needs a Python, and the conda part brings none",
            at=at,
            do=add if records else f"{add}; or name the one of the cluster: envforge lock --python 3.11",
        )

    def _said_torch(self, target: Target, rows: Sequence[LockedPackage]) -> str | None:
        backend = backend_of(rows)
        if backend is not None and not (self.places.indexes or self.places.find_links):
            what = "CPUs" if backend == "cpu" else f"CUDA {backend[2:-1]}.{backend[-1]}"
            cuda = target.version("__cuda")
            said = f"__cuda={cuda}" if cuda else "no GPU; for one: envforge lock --cuda 12.4"
            self.reporter.note(
                f"torch for {target.platform} is that for {what} ({backend}): it assumes {said}"
            )
        return backend

    def _check_python(self, target: Target, found: str | None) -> None:
        said = self.spec.python
        if found is not None and said is not None and not f"{found}.".startswith(f"{said}."):
            raise InputError(
                f"conda brings Python {found} for {target.platform}, and {said} is asked for",
                at="--python" if self.options.python else ", ".join(self.spec.sources),
                do=f"write python={said} among the conda dependencies",
            )

    def _resolved(self, request: PypiRequest, ports: PypiPorts, known: Mapping[str, BuiltWheel]) -> Resolved:
        cache, offline = self.cache / "uv", self.options.offline

        def rows(request: PypiRequest) -> tuple[LockedPackage, ...]:
            return with_torch(request, lambda one: resolve(one, cache=cache, ports=ports, offline=offline))

        if not request.no_binary and not any(map(direct_of, request.requirements)):
            return Resolved(rows=rows(request), requirements=request.requirements)
        from envforge.resolvers.building.with_builds import Ports, resolve_with_builds

        def find(request: PypiRequest) -> Sequence[Chosen]:
            return with_torch(
                request, lambda one: find_sdists(one, cache=cache, ports=ports, offline=offline)
            )

        builds = Ports(
            builder=self.builder(),
            hashes_of=ports.hashes_of,
            find=find,
            resolve=rows,
            offered=lambda name: self._offered(name, request.target),
            base=self.base,
            relative=lambda path: Path(os.path.relpath(path, self.place)).as_posix(),
        )
        return resolve_with_builds(request, builds, known)

    def _ports(self, provided: Sequence[Distribution]) -> PypiPorts:
        by_name = {distribution.name: distribution for distribution in provided}

        def complete(one: ProvidedDistribution) -> ProvidedDistribution:
            text = metadata_of_provided(
                by_name[one.name], self._channels, cache=self.cache, offline=self.options.offline
            )
            return replace(one, metadata=text)

        return PypiPorts(
            metadata_of=self._metadata,
            hashes_of=lambda url: artifact_hashes(self.fetcher, url),
            complete=complete,
        )

    def _help(
        self, error: NoWheelError | UnknownProjectError, request: PypiRequest, *, has_conda: bool
    ) -> None:
        # What helps is looked for only where something is missing.
        from envforge.lock.remedies import Circumstances, remedy, remedy_unknown
        from envforge.resolvers.pypi.nearest import listed_files, nearest

        there = Circumstances(
            target=request.target,
            python=request.python_version,
            has_conda=has_conda,
            offered=lambda name: self._offered(name, request.target) if has_conda else None,
        )
        if isinstance(error, UnknownProjectError):
            remedy_unknown(error, there)
            return
        near = nearest(listed_files(self.fetcher, error.project, self.places), error.versions, request)
        is_asked = any(one.name == error.project for one in wanted(request, request.requirements))
        remedy(error, near if is_asked else replace(near, version=None), there)

    def _offered(self, name: str, target: Target) -> str | None:
        """The version of the conda package ``name`` that the channels have for ``target``."""
        with suppress(EnvforgeError):
            found = self.solve((Line(text=name, at="--no-binary"),), target, ())
            return next((record.version for record in found if record.name == name), None)
        return None

    def _metadata(self, url: str, sha256: str) -> str:
        return remembered(self.cache / "metadata", sha256, lambda: wheel_metadata(self.fetcher, url, sha256))
