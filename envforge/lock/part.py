"""One platform of a lockfile: its conda half, then its PyPI half, then the runtime that a bundle carries."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from envforge.edges.cache import remembered
from envforge.edges.fetch import Fetcher
from envforge.errors import EnvforgeError, InputError, UnsatisfiableError
from envforge.lock.asked import Place, asked_for, by_group
from envforge.lock.options import LockOptions
from envforge.model.built import BuiltWheel, built_wheels
from envforge.model.groups import Key, in_groups, key_of, provided_by_conda
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name, join_specs
from envforge.model.platforms import Target
from envforge.model.runtime import RUNTIME_PLATFORMS, is_usable_python, runtime_rows
from envforge.model.spec import EnvironmentSpec, Line
from envforge.model.urls import without_secrets
from envforge.reporting import Reporter
from envforge.resolvers import conda, pypi
from envforge.resolvers.building import Builder, Uv
from envforge.resolvers.provided import Distribution, met_by_conda, metadata_of_provided, provided_by
from envforge.resolvers.with_builds import Ports, Resolved, resolve_with_builds

__all__ = ["Job", "Part"]

_RUNTIME_PYTHON = r"python[version='>=3.10',build='^(?!.*(pypy|graalpy|cp\d+t(_|$))).*$']"
"""What :func:`is_usable_python` says, as a MatchSpec."""


@dataclass(frozen=True, kw_only=True)
class Part:
    rows: tuple[LockedPackage, ...]
    provided: str
    runtime: tuple[LockedPackage, ...]
    built: tuple[BuiltWheel, ...] = ()


@dataclass(frozen=True)
class Job:
    spec: EnvironmentSpec
    channels: tuple[str, ...]
    indexes: tuple[str, ...]
    options: LockOptions
    previous: Lockfile | None
    cache: Path
    fetcher: Fetcher
    reporter: Reporter
    base: Path
    place: Path

    @cached_property
    def builder(self) -> Builder:
        """One for all targets: what is pure is built once."""
        uv = Uv(
            cache=(self.cache / "uv").absolute(),
            indexes=self.indexes,
            exclude_newer=self.options.exclude_newer,
            offline=self.options.offline,
        )
        return Builder(uv, cache=self.cache, fetcher=self.fetcher, reporter=self.reporter)

    def lock_platform(self, target: Target) -> Part:
        self.reporter.step(f"solving {target.platform}: {target}")
        kept = self._kept(target.platform, "conda")
        records = self._solve(self.spec.conda_for(target.platform), target, kept)
        with ThreadPoolExecutor(4) as pool:
            rows = tuple(pool.map(lambda record: self._row(record, target), records))
        runtime = self._runtime(target, records, rows)
        if not self.spec.pip_for(target.platform):
            return self._part(target, rows, "", runtime, ())
        found, provided = self._resolve_pip(target, records)
        met = met_by_conda(found.requirements, found.rows, provided)
        return self._part(target, rows + found.rows, met, runtime, found.built)

    def _part(
        self,
        target: Target,
        rows: tuple[LockedPackage, ...],
        provided: str,
        runtime: tuple[LockedPackage, ...],
        built: tuple[BuiltWheel, ...],
    ) -> Part:
        """The rows in their groups."""
        met = provided_by_conda(provided)
        place = Place(base=self.base, lockfile=self.place)
        asked = asked_for(self.spec, target, rows, provided=met, built=built, place=place)
        grouped = in_groups(rows, by_group(asked), met)
        of: dict[Key, list[str]] = {}
        for row in grouped:
            of.setdefault(key_of(row), []).append(row.category)
        return Part(
            rows=grouped,
            provided=provided,
            runtime=runtime,
            built=tuple(replace(one, groups=tuple(of["pip", one.name])) for one in built),
        )

    def _solve(
        self, specs: tuple[Line, ...], target: Target, preferred: tuple[LockedPackage, ...]
    ) -> tuple[conda.CondaRecord, ...]:
        request = conda.CondaRequest(
            channels=self.channels,
            specs=specs,
            target=target,
            preferred=preferred,
            exclude_newer=self.options.exclude_newer,
        )
        return conda.solve(request, cache=self.cache, offline=self.options.offline)

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
        return tuple(self._row(record, target) for record in needed)

    def _kept_runtime(self, platform: str) -> tuple[LockedPackage, ...]:
        if self.previous is None or self.options.upgrade_all:
            return ()
        let_go = {canonical_name(name) for name in self.options.upgrade}
        with suppress(InputError):  # what cannot be read is locked anew
            rows = runtime_rows(self.previous, platform)
            return tuple(row for row in rows if canonical_name(row.name) not in let_go)
        return ()

    def _resolve_pip(
        self, target: Target, records: Sequence[conda.CondaRecord]
    ) -> tuple[Resolved, tuple[Distribution, ...]]:
        lines = self.spec.pip_for(target.platform)
        python = next((record.version for record in records if record.name == "python"), None)
        if python is None:
            raise InputError(
                "the pip: part needs a Python, and the conda part brings none",
                at=lines[0].at,
                do="add python to the conda dependencies",
            )
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
            python_version=python,
            provided=tuple(
                pypi.ProvidedDistribution(name=d.name, version=d.version, conda_name=d.conda.name)
                for d in by_name.values()
            ),
            indexes=self.indexes,
            exclude_newer=self.options.exclude_newer,
            preferred=tuple((row.name, row.version) for row in self._kept(target.platform, "pip")),
            no_binary=tuple(sorted({*self.options.no_binary, *self.spec.no_binary})),
        )
        return resolve_with_builds(
            request, self._ports(target, complete), self._known(target.platform)
        ), provided

    def _ports(
        self, target: Target, complete: Callable[[pypi.ProvidedDistribution], pypi.ProvidedDistribution]
    ) -> Ports:
        cache, offline = self.cache / "uv", self.options.offline

        def sha256_of(url: str) -> str:
            return pypi.wheel_sha256(self.fetcher, url)

        def resolve(request: pypi.PypiRequest) -> tuple[LockedPackage, ...]:
            return pypi.resolve(
                request,
                cache=cache,
                metadata_of=self._metadata,
                sha256_of=sha256_of,
                offline=offline,
                complete=complete,
            )

        return Ports(
            builder=self.builder,
            find=lambda r: pypi.find_sdists(r, cache=cache, offline=offline, sha256_of=sha256_of),
            resolve=resolve,
            offered=lambda name: self._offered(name, target),
            base=self.base,
            relative=lambda path: Path(os.path.relpath(path, self.place)).as_posix(),
        )

    def _offered(self, name: str, target: Target) -> str | None:
        """The version of the conda package ``name`` that the channels have for ``target``."""
        with suppress(EnvforgeError):
            found = self._solve((Line(text=name, at="--no-binary"),), target, ())
            return next((record.version for record in found if record.name == name), None)
        return None

    def _known(self, platform: str) -> dict[str, BuiltWheel]:
        """What the lock that is renewed says was built, where that is kept."""
        kept = {canonical_name(row.name) for row in self._kept(platform, "pip")}
        found = built_wheels(self.previous) if self.previous is not None and kept else ()
        return {built.name: built for place, built in found if place == platform and built.name in kept}

    def _metadata(self, url: str, sha256: str) -> str:
        return remembered(
            self.cache / "metadata", sha256, lambda: pypi.wheel_metadata(self.fetcher, url, sha256)
        )

    def _kept(self, platform: str, manager: str) -> tuple[LockedPackage, ...]:
        if self.previous is None or self.options.upgrade_all or platform not in self.previous.platforms:
            return ()
        let_go = {canonical_name(name) for name in self.options.upgrade}
        return tuple(
            row
            for row in self.previous.packages
            if row.platform == platform and row.manager == manager and canonical_name(row.name) not in let_go
        )

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
        with tempfile.TemporaryDirectory() as directory:
            got = self.fetcher.download(
                record.url, Path(directory) / "artifact", sha256=record.sha256, md5=record.md5
            )
        return got.sha256, got.md5
