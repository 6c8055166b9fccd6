"""Asking :func:`envforge.resolvers.pypi.resolve` in few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envforge.edges.fetch import Fetcher
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.spec import Line
from envforge.resolvers.pypi import ProvidedDistribution, PypiRequest, resolve, wheel_metadata, wheel_sha256

__all__ = ["Ask", "brings", "lines", "target", "versions"]


def target(platform: str = "linux-64", *changes: str) -> Target:
    return default_target(platform).with_packages(tuple(VirtualPackage.parse(text) for text in changes))


def lines(*texts: str) -> tuple[Line, ...]:
    return tuple(Line(text=text, at=f"environment.yml:{number}") for number, text in enumerate(texts, 1))


def brings(
    name: str, version: str, *, conda: str | None = None, metadata: str | None = None
) -> ProvidedDistribution:
    return ProvidedDistribution(name=name, version=version, conda_name=conda or name, metadata=metadata)


def versions(rows: Sequence[LockedPackage]) -> dict[str, str]:
    return {row.name: row.version for row in rows}


@dataclass
class Ask:
    """Resolves against indexes, with a cache of its own."""

    cache: Path
    fetcher: Fetcher

    def __call__(
        self,
        *texts: str,
        indexes: Sequence[str] = (),
        where: Target | None = None,
        python: str = "3.11.14",
        offline: bool = False,
        complete: Callable[[ProvidedDistribution], ProvidedDistribution] | None = None,
        **request: Any,
    ) -> tuple[LockedPackage, ...]:
        return resolve(
            PypiRequest(
                requirements=lines(*texts),
                target=where or target(),
                python_version=python,
                indexes=tuple(indexes),
                **request,
            ),
            cache=self.cache,
            metadata_of=lambda url, sha256: wheel_metadata(self.fetcher, url, sha256),
            sha256_of=lambda url: wheel_sha256(self.fetcher, url),
            offline=offline,
            complete=complete,
        )
