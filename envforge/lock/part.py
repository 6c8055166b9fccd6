"""One platform of a lockfile: its conda half, then its PyPI half, then the runtime that a bundle carries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from envforge.edges.fetch import Fetcher
from envforge.errors import InputError, UnsatisfiableError
from envforge.lock.asked import Place, asked_for, by_group
from envforge.lock.half import Half
from envforge.lock.options import LockOptions
from envforge.model.built import BuiltWheel, built_wheels
from envforge.model.groups import MAIN, groups_of, in_groups, provided_by_conda
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name, join_specs
from envforge.model.platforms import Target
from envforge.model.python import assumed_python
from envforge.model.runtime import RUNTIME_PLATFORMS, is_usable_python, runtime_rows
from envforge.model.spec import EnvironmentSpec, Line
from envforge.model.urls import without_secrets
from envforge.reporting import Reporter
from envforge.resolvers import conda
from envforge.resolvers.conda.solver import Solver
from envforge.resolvers.pypi.places import Places

if TYPE_CHECKING:
    from envforge.lock.pypi_half import PypiHalf
    from envforge.resolvers.building.builder import Builder

__all__ = ["Job", "Part"]

_RUNTIME_PYTHON = r"python[version='>=3.10',build='^(?!.*(pypy|graalpy|cp\d+t(_|$))).*$']"
"""What :func:`is_usable_python` says, as a MatchSpec."""
_UPGRADE = "-P "
"""How the place of a limit begins that the command line names."""


@dataclass(frozen=True, kw_only=True)
class Part:
    rows: tuple[LockedPackage, ...]
    provided: str
    by_extra: str
    runtime: tuple[LockedPackage, ...]
    built: tuple[BuiltWheel, ...] = ()
    custom: Mapping[str, str] = field(default_factory=dict)
    lesser: tuple[conda.LesserVariant, ...] = ()


@dataclass(frozen=True)
class Job:
    spec: EnvironmentSpec
    channels: tuple[str, ...]
    places: Places
    options: LockOptions
    previous: Lockfile | None
    cache: Path
    fetcher: Fetcher
    reporter: Reporter
    base: Path
    place: Path
    compare: bool = False
    """Whether to look for packages that would be others if more were assumed."""

    @cached_property
    def solver(self) -> Solver:
        """One for all targets: what they share is loaded once."""
        return Solver(
            cache=self.cache,
            offline=self.options.offline,
            fetcher=self.fetcher,
            channels=self.channels,
        )

    @cached_property
    def builder(self) -> Builder:
        """One for all targets: what is pure is built once."""
        from envforge.resolvers.building.builder import Builder, Uv

        uv = Uv(
            cache=(self.cache / "uv").absolute(),
            indexes=self.places.for_builds(),
            exclude_newer=self.spec.exclude_newer,
            offline=self.options.offline,
            access=self.fetcher.access,
        )
        return Builder(uv, cache=self.cache, fetcher=self.fetcher, reporter=self.reporter)

    @cached_property
    def pypi_half(self) -> PypiHalf:
        """The other half, the same for all targets."""
        from envforge.lock.pypi_half import PypiHalf

        return PypiHalf(
            spec=self.spec,
            channels=self.channels,
            places=self.places,
            options=self.options,
            cache=self.cache,
            fetcher=self.fetcher,
            reporter=self.reporter,
            base=self.base,
            place=self.place,
            builder=lambda: self.builder,
            solve=self._solve,
        )

    def lock_platform(self, target: Target) -> Part:
        self.reporter.step(f"solving {target.platform}: {target}")
        kept = self._kept(target.platform, "conda")
        specs = self.spec.conda_for(target.platform)
        limits = (*self.spec.conda_constraints_for(target.platform), *self._upgraded("conda"))
        request = self._request(specs, target, kept, limits)
        records = self._solved(request) if specs else ()
        rows = self._rows(records, target)
        runtime = self._runtime(target, records, rows)
        kept = self._kept(target.platform, "pip")
        found = Half()
        if self.spec.pip_for(target.platform):
            found = self.pypi_half.resolve(
                target, records, kept, self._known(target.platform), limits=self._upgraded("pip")
            )
        part = self._part(target, rows + found.rows, found, runtime)
        if self.compare and records:
            part = replace(part, lesser=self.solver.lesser_variants(request, records))
        return part

    def _part(
        self,
        target: Target,
        rows: tuple[LockedPackage, ...],
        found: Half,
        runtime: tuple[LockedPackage, ...],
    ) -> Part:
        """The rows in their groups."""
        met = provided_by_conda(found.met)
        place = Place(base=self.base, lockfile=self.place)
        asked = asked_for(
            self.spec,
            target,
            rows,
            provided=met,
            built=found.built,
            place=place,
            python=found.python and assumed_python(found.python),
        )
        groups = groups_of(rows, by_group(asked), met)
        return Part(
            rows=in_groups(rows, groups),
            provided=found.met,
            # An extra of what conda brings may need wheels, and no row says so.
            by_extra=" ".join(
                sorted(name for (manager, name), of in groups.items() if manager == "pip" and not of)
            ),
            runtime=runtime,
            built=tuple(replace(one, groups=groups["pip", one.name] or (MAIN,)) for one in found.built),
            custom=found.custom(target.platform),
        )

    def _solve(
        self,
        specs: tuple[Line, ...],
        target: Target,
        preferred: tuple[LockedPackage, ...],
        constraints: tuple[Line, ...] = (),
    ) -> tuple[conda.CondaRecord, ...]:
        return self._solved(self._request(specs, target, preferred, constraints))

    def _request(
        self,
        specs: tuple[Line, ...],
        target: Target,
        preferred: tuple[LockedPackage, ...],
        constraints: tuple[Line, ...],
    ) -> conda.CondaRequest:
        return conda.CondaRequest(
            channels=self.channels,
            specs=specs,
            target=target,
            preferred=preferred,
            before=self.previous.target(target.platform) if self.previous is not None else None,
            constraints=constraints,
            channel_priority=self.spec.channel_priority or "strict",
            exclude_newer=self.spec.exclude_newer,
        )

    def _solved(self, request: conda.CondaRequest) -> tuple[conda.CondaRecord, ...]:
        try:
            return self.solver.solve(request)
        except UnsatisfiableError as error:
            if not request.constraints:
                raise
            # What cannot be had at all says so itself.
            found = self.solver.solve(replace(request, constraints=()))
            self._explain_limits(request, found)
            raise UnsatisfiableError(
                f"nothing satisfies the specification for {request.target.platform} with "
                + " and ".join(line.text for line in request.constraints),
                at=", ".join(line.at for line in request.constraints),
                do=_loosen(request.constraints),
                story=error.story,
            ) from error

    def _explain_limits(self, request: conda.CondaRequest, found: Sequence[conda.CondaRecord]) -> None:
        """Say what stands against the limits on ``found``, what there would be without limits.

        :raises UnsatisfiableError: if the records tell.
        """
        names = {record.name for record in found}
        limits = [
            line for line in request.constraints if conda.parse_match_spec(line).name.normalized in names
        ]
        try:
            self.solver.solve(replace(request, specs=(*request.specs, *limits), constraints=()))
        except UnsatisfiableError as error:
            if any(line.at.startswith(_UPGRADE) for line in limits):
                error.do = _loosen(limits)
            raise

    def _runtime(
        self, target: Target, records: Sequence[conda.CondaRecord], rows: Sequence[LockedPackage]
    ) -> tuple[LockedPackage, ...]:
        """The conda part of the runtime: the environment's own Python where that will do, else another."""
        platform = target.platform
        if platform not in RUNTIME_PLATFORMS or not self.channels:
            return ()
        own = conda.closure("python", records)
        if any(is_usable_python(record.name, record.version, record.build) for record in own):
            names = {record.name for record in own}
            return tuple(row for row in rows if row.name in names)
        line = Line(text=_RUNTIME_PYTHON, at="the runtime")
        try:
            solved = self._solve((line,), target, self._kept_runtime(platform))
        except UnsatisfiableError as error:
            self.reporter.detail(f"no runtime for {platform}: {error.what}")
            return ()
        needed = conda.closure("python", solved)
        if not any(is_usable_python(record.name, record.version, record.build) for record in needed):
            self.reporter.detail(
                f"no runtime for {platform}: its Python is not a CPython with the stable ABI"
            )
            return ()
        return self._rows(needed, target)

    def _upgraded(self, manager: str) -> tuple[Line, ...]:
        """The versions that ``-P`` names of what is locked as a package of ``manager``."""
        rows = self.previous.packages if self.previous is not None else ()
        locked = {canonical_name(row.name) for row in rows if row.manager == manager}
        return tuple(
            Line(
                text=str(one) if manager == "conda" else f"{one.name}{one.specifier}",
                at=f"{_UPGRADE}{one}",
            )
            for one in self.options.upgrade
            if one.versions and canonical_name(one.name) in locked
        )

    def _kept_runtime(self, platform: str) -> tuple[LockedPackage, ...]:
        if self.previous is None or self.options.upgrade_all:
            return ()
        with suppress(InputError):  # what cannot be read is locked anew
            rows = runtime_rows(self.previous, platform)
            return tuple(row for row in rows if not self.options.lets_go(row.name))
        return ()

    def _known(self, platform: str) -> dict[str, BuiltWheel]:
        """What the lock that is renewed says was built, where that is kept."""
        kept = {canonical_name(row.name) for row in self._kept(platform, "pip")}
        found = built_wheels(self.previous) if self.previous is not None and kept else ()
        return {built.name: built for place, built in found if place == platform and built.name in kept}

    def _kept(self, platform: str, manager: str) -> tuple[LockedPackage, ...]:
        """The rows whose versions are kept where they fit, one of a name.

        What was never locked for this platform has the version that it has on another.
        """
        if self.previous is None or self.options.upgrade_all:
            return ()
        rows: dict[str, LockedPackage] = {}
        for row in sorted(self.previous.packages, key=lambda row: row.platform != platform):
            if row.manager == manager and not self.options.lets_go(row.name):
                rows.setdefault(row.name, row)
        return tuple(rows.values())

    def _rows(self, records: Sequence[conda.CondaRecord], target: Target) -> tuple[LockedPackage, ...]:
        if all(record.sha256 and record.md5 for record in records):
            return tuple(self._row(record, target) for record in records)
        with ThreadPoolExecutor(4) as pool:  # some have to be downloaded
            return tuple(pool.map(lambda record: self._row(record, target), records))

    def _row(self, record: conda.CondaRecord, target: Target) -> LockedPackage:
        sha256, md5 = record.sha256, record.md5
        if sha256 is None or md5 is None:
            self.reporter.detail(f"{record.name}: the channel gives no hash; computed from the file")
            sha256, md5 = self._hashes(record)
        return LockedPackage(
            name=record.name,
            version=record.version,
            manager="conda",
            platform=target.platform,
            url=without_secrets(record.url, tokens=True),
            sha256=sha256,
            md5=md5,
            dependencies=join_specs(record.depends),
        )

    def _hashes(self, record: conda.CondaRecord) -> tuple[str, str]:
        import tempfile

        with tempfile.TemporaryDirectory() as directory:
            got = self.fetcher.download(
                record.url, Path(directory) / "artifact", sha256=record.sha256, md5=record.md5
            )
        return got.sha256, got.md5


def _loosen(limits: Sequence[Line]) -> str:
    """What helps where ``limits`` leave nothing: those of the command line first."""
    given = [line.at for line in limits if line.at.startswith(_UPGRADE)]
    if given:
        names = (re.split(r"[=<>!~]", at, maxsplit=1)[0] for at in given)
        return f"envforge lock {' '.join(names)}"
    return f"loosen one of the constraints, or remove it: {', '.join(line.text for line in limits)}"
