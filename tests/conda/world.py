"""A channel of records alone, which can be solved and not be downloaded, and questions about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from envforge.errors import UnsatisfiableError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.spec import Line
from envforge.resolvers.conda import CondaRecord, CondaRequest, LesserVariant
from envforge.resolvers.conda.solver import Solver


class Records:
    """A channel in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._found: dict[str, dict[str, Any]] = {"noarch": {}}

    @property
    def url(self) -> str:
        return self.directory.as_uri()

    def add(
        self,
        name: str,
        version: str = "1.0",
        *depends: str,
        build: str = "0",
        subdir: str = "noarch",
        **more: Any,
    ) -> None:
        """A record; a build number is the digits at the end of the build."""
        digits = build.rpartition("_")[2]
        self._found.setdefault(subdir, {})[f"{name}-{version}-{build}.conda"] = {
            "name": name, "version": version, "build": build, "subdir": subdir,
            "build_number": int(digits) if digits.isdigit() else 0,
            "depends": list(depends), "md5": "0" * 32, "sha256": "0" * 64, "size": 1, **more,
        }  # fmt: skip
        for place, records in self._found.items():
            (self.directory / place).mkdir(parents=True, exist_ok=True)
            document = {"info": {"subdir": place}, "packages": {}, "packages.conda": records}
            (self.directory / place / "repodata.json").write_text(json.dumps(document))


def target(platform: str = "linux-64", *changes: str) -> Target:
    return default_target(platform).with_packages(tuple(map(VirtualPackage.parse, changes)))


class Asking:
    """Asks about channels, each time as a new command would."""

    def __init__(self, cache: Path, *channels: str) -> None:
        self.cache, self.channels = cache, channels

    def request(self, *specs: str, on: Target | None = None, **more: Any) -> CondaRequest:
        lines = tuple(Line(text=text, at=f"environment.yml:{n}") for n, text in enumerate(specs, 1))
        return CondaRequest(channels=self.channels, specs=lines, target=on or target(), **more)

    def solve(self, *specs: str, **more: Any) -> dict[str, CondaRecord]:
        found = Solver(cache=self.cache).solve(self.request(*specs, **more))
        return {record.name: record for record in found}

    def lesser(self, *specs: str, **more: Any) -> list[LesserVariant]:
        request, solver = self.request(*specs, **more), Solver(cache=self.cache)
        return list(solver.lesser_variants(request, solver.solve(request)))

    def refused(self, *specs: str, **more: Any) -> UnsatisfiableError:
        with pytest.raises(UnsatisfiableError) as caught:
            Solver(cache=self.cache).solve(self.request(*specs, **more))
        assert "\n" not in caught.value.what
        assert caught.value.at
        assert caught.value.do
        assert caught.value.story
        return caught.value


def rows(records: Sequence[CondaRecord], platform: str = "linux-64") -> tuple[LockedPackage, ...]:
    """The rows of a lockfile that such a solution makes."""
    return tuple(
        LockedPackage(
            name=record.name, version=record.version, manager="conda", platform=platform, url=record.url,
            sha256=record.sha256, md5=record.md5,
        )
        for record in records
    )  # fmt: skip
