"""The PyPI half of one platform: what the requirements need beside what conda brings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.edges.cache import remembered
from envforge.edges.fetch import Fetcher
from envforge.errors import EnvforgeError, InputError
from envforge.lock.half import Half
from envforge.lock.options import LockOptions
from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.model.python import assumed_python, python_key
from envforge.model.spec import EnvironmentSpec, Line
from envforge.reporting import Reporter
from envforge.resolvers import conda, pypi
from envforge.resolvers._choice import Chosen
from envforge.resolvers.building import Builder
from envforge.resolvers.provided import met_by_conda, metadata_of_provided, provided_by
from envforge.resolvers.with_builds import Ports, resolve_with_builds

__all__ = ["PypiHalf", "Solve"]

Solve = Callable[[tuple[Line, ...], Target, tuple[LockedPackage, ...]], tuple[conda.CondaRecord, ...]]
"""Solves conda dependencies for a target, with rows whose versions are kept where they fit."""


@dataclass(frozen=True, kw_only=True)
class PypiHalf:
    """Resolves the PyPI half, for one target after another.

    ``base`` is the directory that paths in the specification are relative to, ``place`` the one that the
    lockfile will lie in.
    """

    spec: EnvironmentSpec
    places: pypi.Places
    options: LockOptions
    cache: Path
    fetcher: Fetcher
    reporter: Reporter
    base: Path
    place: Path
    builder: Builder
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
        python, custom = self._python(target, records, lines[0].at)
        self.reporter.step(f"resolving {len(lines)} PyPI requirements for {target.platform}")
        provided = provided_by(
            records, cache=self.cache, reporter=self.reporter, offline=self.options.offline
        )
        by_name = {distribution.name: distribution for distribution in provided}

        def complete(one: pypi.ProvidedDistribution) -> pypi.ProvidedDistribution:
            return replace(one, metadata=metadata_of_provided(by_name[one.name]))

        request = pypi.PypiRequest(
            requirements=lines,
            target=target,
            python_version=assumed_python(python),
            provided=tuple(
                pypi.ProvidedDistribution(name=d.name, version=d.version, conda_name=d.conda.name)
                for d in by_name.values()
            ),
            constraints=(*self.spec.constraints_for(target.platform), *limits),
            places=self.places,
            exclude_newer=self.options.exclude_newer,
            preferred=tuple((row.name, row.version) for row in kept),
            prerelease=self.spec.prerelease or self.options.prerelease,
            no_binary=tuple(sorted({*self.options.no_binary, *self.spec.no_binary})),
        )
        found = resolve_with_builds(request, self._ports(target, complete), known)
        return Half(
            rows=found.rows,
            met=met_by_conda(found.requirements, found.rows, provided),
            built=found.built,
            custom=custom,
        )

    def _python(
        self, target: Target, records: Sequence[conda.CondaRecord], at: str
    ) -> tuple[str, dict[str, str]]:
        """The version of conda's Python, or the one that was said, and what the lockfile says of that."""
        found = next((record.version for record in records if record.name == "python"), None)
        said = self.options.python or self.spec.python
        if found is None and said is None:
            raise InputError(
                "the pip: part needs a Python, and the conda part brings none",
                at=at,
                do="add python to the conda dependencies; or name the one of the cluster: --python 3.11",
            )
        if found is None:
            return str(said), {python_key(target.platform): str(said)}
        if said is not None and not f"{found}.".startswith(f"{said}."):
            raise InputError(
                f"conda brings Python {found} for {target.platform}, and {said} is asked for",
                at="--python" if self.options.python else at,
                do=f"write python={said} among the conda dependencies",
            )
        return found, {}

    def _ports(
        self, target: Target, complete: Callable[[pypi.ProvidedDistribution], pypi.ProvidedDistribution]
    ) -> Ports:
        ports = pypi.PypiPorts(
            metadata_of=self._metadata,
            hashes_of=lambda url: pypi.artifact_hashes(self.fetcher, url),
            complete=complete,
        )

        def find(request: pypi.PypiRequest) -> Sequence[Chosen]:
            return pypi.find_sdists(
                request, cache=self.cache / "uv", ports=ports, offline=self.options.offline
            )

        def resolve(request: pypi.PypiRequest) -> tuple[LockedPackage, ...]:
            return pypi.resolve(request, cache=self.cache / "uv", ports=ports, offline=self.options.offline)

        return Ports(
            builder=self.builder,
            find=find,
            resolve=resolve,
            offered=lambda name: self._offered(name, target),
            base=self.base,
            relative=lambda path: Path(os.path.relpath(path, self.place)).as_posix(),
        )

    def _offered(self, name: str, target: Target) -> str | None:
        """The version of the conda package ``name`` that the channels have for ``target``."""
        with suppress(EnvforgeError):
            found = self.solve((Line(text=name, at="--no-binary"),), target, ())
            return next((record.version for record in found if record.name == name), None)
        return None

    def _metadata(self, url: str, sha256: str) -> str:
        return remembered(
            self.cache / "metadata", sha256, lambda: pypi.wheel_metadata(self.fetcher, url, sha256)
        )
