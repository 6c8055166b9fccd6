"""Looking locked packages up: what channels and indexes say of a version that is settled already.

Nothing is solved here.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Pylock

from envforge.edges.process import Command, run, uv_executable
from envforge.errors import CouldNotError, InputError
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import Target
from envforge.model.urls import redacted
from envforge.resolvers._choice import read_pylock
from envforge.resolvers._targets import uv_platform
from envforge.resolvers.conda import CondaRecord, CondaRequest, channel_error, open_gateway, record_of
from envforge.resolvers.pypi import certificates, index_options

if TYPE_CHECKING:
    from rattler import Channel, Gateway

__all__ = ["IndexRequest", "channel_records", "indexed_files"]


def channel_records(
    names: Mapping[str, Iterable[str]], target: Target, *, cache: Path, offline: bool = False
) -> dict[str, tuple[CondaRecord, ...]]:
    """All records of some packages, by channel.

    :param names: the packages' names by the channel's URL.
    :param target: whose platform's packages, and those of ``noarch``, are looked at.
    :raises InputError: if a channel does not exist.
    :raises CouldNotError: if one cannot be read.
    """
    return asyncio.run(_channel_records(names, target, open_gateway(cache, offline=offline)))


async def _channel_records(
    names: Mapping[str, Iterable[str]], target: Target, source: Gateway
) -> dict[str, tuple[CondaRecord, ...]]:
    from rattler import Channel, MatchSpec
    from rattler.exceptions import GatewayError

    platforms = [target.platform, "noarch"]

    async def one(url: str) -> tuple[CondaRecord, ...]:
        channel: Channel = Channel(url)
        try:
            found = await source.query(
                [channel],
                platforms,  # type: ignore[arg-type]
                [MatchSpec(name) for name in sorted(set(names[url]))],
                recursive=False,
                channel_relations="disabled",
            )
        except GatewayError as error:
            request = CondaRequest(channels=(url,), specs=(), target=target)
            raise channel_error(error, request) from error
        return tuple(record_of(record) for records in found for record in records)

    urls = list(names)
    return dict(zip(urls, await asyncio.gather(*map(one, urls)), strict=True))


@dataclass(frozen=True, kw_only=True)
class IndexRequest:
    """Versions of PyPI packages to look up: ``pins`` by canonical name, on ``indexes``, for ``target``."""

    pins: Mapping[str, str]
    target: Target
    python_version: str
    indexes: tuple[str, ...] = ()


def indexed_files(request: IndexRequest, *, cache: Path, offline: bool = False) -> Pylock:
    """What the indexes have of each version: the sdist, and the wheels that fit the target.

    uv asks them, because it knows every kind of index, credentials and caches.

    :param cache: uv's own.
    :raises InputError: if there is no such version.
    :raises CouldNotError: if an index cannot be read.
    """
    platform, variables = uv_platform(request.target)
    options, indexes = index_options(request.indexes)
    with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
        work = Path(directory)
        lines = "".join(f"{name}=={version}\n" for name, version in sorted(request.pins.items()))
        (work / "requirements.in").write_text(lines, encoding="utf-8")
        argv = [
            uv_executable(), "pip", "compile", "requirements.in", "--no-deps",
            "--no-config", "--no-python-downloads", "--no-progress", "--color", "never",
            "--cache-dir", str(cache.absolute()),
            "--python-version", request.python_version,
            "--python-platform", platform,
            "--format", "pylock.toml", "--output-file", "pylock.toml",
            "--no-header", "--no-annotate", "--no-build", "--prerelease", "allow",
            *options,
        ]  # fmt: skip
        argv += ["--python", sys.executable] if sys.executable else []
        argv += ["--offline"] if offline else []
        env = {"UV_HTTP_RETRIES": "3", "TMPDIR": str(work), **variables, **indexes, **certificates()}
        done = run(Command(argv=tuple(argv), cwd=work, env=env, network=not offline))
        if done.returncode != 0:
            raise _not_there(done.stderr, request, offline=offline)
        return read_pylock((work / "pylock.toml").read_text(encoding="utf-8"))


def _not_there(story: str, request: IndexRequest, *, offline: bool) -> Exception:
    where = ", ".join(map(redacted, request.indexes)) or "PyPI"
    flat = " ".join(story.split())
    missing = re.search(r"(?:no version of|Because|only) ([A-Za-z0-9._-]+?)(?:==|<|>|\s)(\S*)", flat)
    known = [name for name in request.pins if re.search(rf"\b{re.escape(name)}\b", flat)]
    if re.search(
        r"no version of|not found in the package registry|were found in the provided|unsatisfiable", flat
    ):
        names = _named(request.pins, known, missing)
        return InputError(
            f"{where} does not have {names}",
            at="; ".join(f"{name}=={request.pins[name]}" for name in known[:3]) or where,
            do="name the index that has it: --index-url URL",
            story=redacted(story),
        )
    if offline:
        return CouldNotError(
            "an index must be asked, and --offline forbids it", at=where, do="import once without --offline"
        )
    return CouldNotError(
        "the index cannot be read", at=where, do="check the network and https_proxy", story=redacted(story)
    )


def _named(pins: Mapping[str, str], known: Sequence[str], missing: re.Match[str] | None) -> str:
    if missing is not None and canonical_name(missing[1]) in pins:
        name = canonical_name(missing[1])
        return f"{name} {pins[name]}"
    return " and ".join(f"{name} {pins[name]}" for name in known[:3]) or "one of the packages"
