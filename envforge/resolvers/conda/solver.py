"""py-rattler over one set of channels, which all platforms and all solves of a command share.

py-rattler brings its own client for repodata (sharded, compressed, cached), which is the one exception to
the rule that a single module opens sockets.  What it once loaded it keeps: noarch, which every platform
needs, is read once.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from envforge.edges.fetch import Fetcher
from envforge.model.moments import cutoff
from envforge.model.platforms import Target
from envforge.model.spec import Line
from envforge.resolvers.conda.channel_errors import channel_error, is_refusal
from envforge.resolvers.conda.client import BroughtChannels, conda_client
from envforge.resolvers.conda.preferred import preferred_records
from envforge.resolvers.conda.request import CondaRecord, CondaRequest, parse_match_spec

if TYPE_CHECKING:
    from rattler import Gateway, MatchSpec, RepoDataRecord

    from envforge.resolvers.conda.variants import LesserVariant

__all__ = ["Asked", "Solver"]

T = TypeVar("T")


class Solver:
    """Solves requests; may be used by several threads at once.

    :param cache: where repodata is cached.
    :param offline: use the cached repodata only.
    :param fetcher: knows what a site has elsewhere and what hosts want to be shown, and brings what
        py-rattler's own client cannot.
    :param channels: the URLs that requests will name.
    """

    def __init__(
        self,
        *,
        cache: Path,
        offline: bool = False,
        fetcher: Fetcher | None = None,
        channels: Sequence[str] = (),
    ) -> None:
        self._cache = cache
        self._offline = offline
        self._fetcher = fetcher or Fetcher(offline=offline)
        self._channels = tuple(channels)
        self._brought = BroughtChannels(cache / "channels", self._fetcher)

    @cached_property
    def gateway(self) -> Gateway:
        """The channels' records, as far as they were needed."""
        return self._gateway(refused=False)

    @cached_property
    def gateway_with_keyring(self) -> Gateway:
        """The same with the logins of the keyring, which may ask people: for hosts that have refused us."""
        return self._gateway(refused=True)

    def _gateway(self, *, refused: bool) -> Gateway:
        from rattler import Gateway, SourceConfig

        action: Any = "force-cache-only" if self._offline else "cache-or-fetch"
        return Gateway(
            cache_dir=self._cache / "repodata",
            default_config=SourceConfig(cache_action=action),
            client=conda_client(self._fetcher.access, self._channels, refused=refused),
        )

    def solve(self, request: CondaRequest) -> tuple[CondaRecord, ...]:
        """The packages that satisfy ``request``, sorted by name.

        :raises InputError: for a dependency that is no MatchSpec, or a channel that does not exist.
        :raises UnsatisfiableError: if a package does not exist in the channels, or nothing fits; it says why.
        :raises CouldNotError: if a channel cannot be read.
        """
        records = self.ask(request, _solved)
        found = (_record(record, self._brought.origin(str(record.url))) for record in records)
        return tuple(sorted(found, key=lambda record: record.name))

    def known(self, request: CondaRequest, names: Sequence[str]) -> tuple[CondaRecord, ...]:
        """All records that the channels of ``request`` have of packages; errors as :meth:`solve` has them."""
        found = self.ask(request, lambda asked: asked.records(names))
        return tuple(
            _record(record, self._brought.origin(str(record.url))) for records in found for record in records
        )

    def lesser_variants(
        self, request: CondaRequest, records: Sequence[CondaRecord]
    ) -> tuple[LesserVariant, ...]:
        """Which of ``records``, the answer to ``request``, would be others if the target offered more."""
        from envforge.resolvers.conda.variants import lesser_variants

        return tuple(self.ask(request, lambda asked: lesser_variants(asked, records)))

    def ask(self, request: CondaRequest, question: Callable[[Asked], Awaitable[T]]) -> T:
        """The answer to ``question`` about ``request``; errors as :meth:`solve` has them."""
        import asyncio

        from rattler.exceptions import GatewayError

        platform = request.target.platform
        places = [self._brought.place(url, platform) for url in request.channels]

        async def answer(gateway: Gateway) -> T:
            return await question(Asked(gateway, request, places))

        known = "gateway_with_keyring" in vars(self)  # some host has refused us before
        try:
            return asyncio.run(answer(self.gateway_with_keyring if known else self.gateway))
        except GatewayError as error:
            if known or not self._fetcher.access.keyring or not is_refusal(error):
                raise channel_error(error, request, self._fetcher.access) from error
        try:
            return asyncio.run(answer(self.gateway_with_keyring))
        except GatewayError as error:
            raise channel_error(error, request, self._fetcher.access) from error


async def _solved(asked: Asked) -> list[RepoDataRecord]:
    from rattler.exceptions import SolverError

    kept = await asked.preferred()
    before = asked.request.before
    if kept and before is not None and before != asked.request.target:
        from envforge.resolvers.conda.variants import solve_offering

        with suppress(SolverError):  # the versions do not fit any more
            return await solve_offering(asked, asked.request.target, kept, before)
    try:
        return await asked.solve(asked.specs, preferred=kept)
    except SolverError as error:
        # Explaining is a search of its own, which only those pay for whom nothing was found.
        from envforge.resolvers.conda.explain import explained

        raise await explained(asked, str(error)) from error


class Asked:
    """One request, and what the engine can be asked about it.  Raises what py-rattler raises."""

    def __init__(self, gateway: Gateway, request: CondaRequest, channels: Sequence[str]) -> None:
        """``channels`` are the URLs at which the engine finds those of the request."""
        from rattler import Channel

        self.request = request
        self.specs = [self.parse(line) for line in request.specs]
        self._gateway = gateway
        self._channels = [Channel(url) for url in channels]
        self.cutoff = None if request.exclude_newer is None else cutoff(request.exclude_newer)

    def parse(self, line: Line) -> MatchSpec:
        """A dependency, whose ``CHANNEL::`` may be one of the request's channels."""
        return parse_match_spec(line, self.request.channels)

    async def solve(
        self,
        specs: Sequence[MatchSpec],
        *,
        target: Target | None = None,
        preferred: Sequence[RepoDataRecord] = (),
        versions: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> list[RepoDataRecord]:
        """The records that satisfy ``specs`` on the request's target, or on another one.

        :param versions: what packages must have, by name, if they are needed.
        """
        from rattler import ChannelPriority, MatchSpec
        from rattler import solve as rattler_solve

        target = target or self.request.target
        return await rattler_solve(
            self._channels,
            list(specs),
            gateway=self._gateway,
            platforms=[target.platform, "noarch"],  # type: ignore[list-item]
            locked_packages=preferred,
            constraints=[
                *(self.parse(line) for line in self.request.constraints),
                *(MatchSpec(f"{name} =={version}") for name, version in (versions or {}).items()),
            ],
            virtual_packages=_virtual_packages(target),
            channel_priority=getattr(ChannelPriority, self.request.channel_priority.title()),
            exclude_newer=self.cutoff,
            timestamp_policy="allow-missing",
            channel_relations="disabled",
            timeout=None if seconds is None else timedelta(seconds=seconds),
        )

    async def records(
        self, names: Iterable[str], *, recursive: bool = False, platform: str | None = None
    ) -> list[list[RepoDataRecord]]:
        """All records of packages, in the channels' order.

        :param names: of packages, or MatchSpecs, of which those count that match.
        :param recursive: also those of everything that they depend on.
        """
        from rattler import MatchSpec

        return await self._gateway.query(
            self._channels,
            [platform or self.request.target.platform, "noarch"],  # type: ignore[list-item]
            [MatchSpec(name, strict=False) for name in dict.fromkeys(names)],
            recursive=recursive,
            channel_relations="disabled",
        )

    async def names(self) -> list[str]:
        """The name of every package that the channels have for the platform."""
        platforms: Any = [self.request.target.platform, "noarch"]
        return [name.normalized for name in await self._gateway.names(self._channels, platforms)]

    async def preferred(self) -> list[RepoDataRecord]:
        """The channels' own records of the rows to keep, or those most like them."""
        return await preferred_records(
            self._gateway,
            self._channels,
            [self.request.target.platform, "noarch"],
            self.request.preferred,
            strict=self.request.channel_priority == "strict",
        )


def _virtual_packages(target: Target) -> list[Any]:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package.build_string import BuildString

    return [
        GenericVirtualPackage(PackageName(p.name), Version(p.version), BuildString(p.build))
        for p in target.virtual_packages
    ]


def _record(record: RepoDataRecord, url: str) -> CondaRecord:
    raw = json.loads(record.to_json())
    depends = tuple(raw.get("depends") or ())
    names = {text.split(" ")[0] for text in depends}
    return CondaRecord(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        url=url,
        sha256=record.sha256.hex() if record.sha256 else None,
        md5=record.md5.hex() if record.md5 else None,
        size=record.size,
        depends=depends,
        python_package=raw.get("noarch") == "python" or bool(names & {"python", "python_abi"}),
    )
