"""Asking :func:`envforge.resolvers.pypi.resolver.resolve` in few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from envforge.edges.fetch import Fetcher
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.spec import Line
from envforge.resolvers.pypi.hashes import artifact_hashes
from envforge.resolvers.pypi.metadata import wheel_metadata
from envforge.resolvers.pypi.places import Places
from envforge.resolvers.pypi.request import ProvidedDistribution, PypiRequest
from envforge.resolvers.pypi.resolver import PypiPorts, resolve

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
        *texts: str | Line,
        indexes: Sequence[str] = (),
        index_of: Mapping[str, str] = MappingProxyType({}),
        find_links: Sequence[str] = (),
        where: Target | None = None,
        python: str = "3.11.14",
        offline: bool = False,
        complete: Callable[[ProvidedDistribution], ProvidedDistribution] = lambda one: one,
        **request: Any,
    ) -> tuple[LockedPackage, ...]:
        return resolve(
            PypiRequest(
                requirements=tuple(
                    line if isinstance(line, Line) else Line(text=line, at=f"environment.yml:{number}")
                    for number, line in enumerate(texts, 1)
                ),
                target=where or target(),
                python_version=python,
                places=Places(
                    indexes=tuple(indexes), index_of=tuple(index_of.items()), find_links=tuple(find_links)
                ),
                **request,
            ),
            cache=self.cache,
            ports=PypiPorts(
                metadata_of=lambda url, sha256: wheel_metadata(self.fetcher, url, sha256),
                hashes_of=lambda url: artifact_hashes(self.fetcher, url),
                complete=complete,
            ),
            offline=offline,
        )
