"""The conda half: py-rattler solves for a target, and its answers and failures become ours.

py-rattler brings its own client for repodata (sharded, compressed, cached), which is the one exception to
the rule that a single module opens sockets.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envforge.errors import CouldNotError, EnvforgeError, InputError, UnsatisfiableError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.model.spec import Line
from envforge.model.urls import redacted

if TYPE_CHECKING:
    from rattler import Channel, Gateway, MatchSpec, RepoDataRecord

__all__ = [
    "CondaRecord",
    "CondaRequest",
    "channel_error",
    "channel_url",
    "closure",
    "cutoff",
    "open_gateway",
    "parse_match_spec",
    "record_of",
    "solve",
]

_ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_CONDA_NAMES = {
    "torch": "pytorch",
    "opencv-python": "opencv",
    "tables": "pytables",
    "sklearn": "scikit-learn",
    "cv2": "opencv",
    "pil": "pillow",
    "tensorflow-gpu": "tensorflow",
    "jax-cuda": "jax",
    "graphviz-python": "python-graphviz",
    "msgpack": "msgpack-python",
}
"""What people write, because PyPI or an import calls it so, and what conda-forge calls it."""


@dataclass(frozen=True, kw_only=True)
class CondaRequest:
    """What to solve: channel URLs in priority order, MatchSpecs, the target.

    ``preferred`` are the rows of the lock that is renewed: each is kept where it still fits.
    ``exclude_newer`` is RFC 3339; records without a time stamp stay.
    """

    channels: tuple[str, ...]
    specs: tuple[Line, ...]
    target: Target
    preferred: tuple[LockedPackage, ...] = ()
    channel_priority: str = "strict"
    exclude_newer: str | None = None


@dataclass(frozen=True, kw_only=True)
class CondaRecord:
    """A chosen record: what the channel's repodata says of one package; hashes in hex, size in bytes."""

    name: str
    version: str
    build: str
    url: str
    sha256: str | None
    md5: str | None
    size: int | None
    depends: tuple[str, ...]
    python_package: bool


def channel_url(channel: str, base: Path) -> tuple[str, ...]:
    """The URLs that a channel, as people write it, stands for.

    :param channel: a URL, a path (``./channel``, ``/srv/channel``) or a name on anaconda.org.
    :param base: the directory that a relative path is relative to.
    """
    if channel == "defaults":
        return _DEFAULTS
    if "://" in channel:
        return (channel.rstrip("/"),)
    if channel.startswith((".", "/", "~")):
        return ((base / Path(channel).expanduser()).resolve().as_uri(),)
    return (f"{_ALIAS}/{channel.strip('/')}",)


def parse_match_spec(line: Line) -> MatchSpec:
    """A dependency as environment.yml files really hold it.

    :raises InputError: if it is no MatchSpec.
    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError

    try:
        spec = MatchSpec(line.text, strict=False)
    except (InvalidMatchSpecError, InvalidPackageNameError, ValueError) as error:
        raise InputError(
            f"{line.text!r} is not a MatchSpec: {str(error).splitlines()[0]}",
            at=line.at,
            do="write it as name, name=1.2, name>=1.2,<2 or name=1.2=build*",
        ) from error
    crowded = spec.build is not None and re.search(r"\s", spec.build)
    if crowded or spec.name.as_package_name() is None:
        raise InputError(
            f"{line.text!r} is not a MatchSpec: {'too many words' if crowded else 'no package name'}",
            at=line.at,
            do="write it as name, name=1.2, name>=1.2,<2 or name=1.2=build*",
        )
    return spec


def solve(request: CondaRequest, *, cache: Path, offline: bool = False) -> tuple[CondaRecord, ...]:
    """The packages that satisfy ``request``, sorted by name.

    :param cache: where repodata is cached.
    :param offline: use the cached repodata only.
    :raises InputError: for a dependency that is no MatchSpec, or a channel that does not exist.
    :raises UnsatisfiableError: if a package does not exist in the channels, or nothing fits.
    :raises CouldNotError: if a channel cannot be read.
    """
    specs = [parse_match_spec(line) for line in request.specs]
    records = asyncio.run(_solve(request, specs, cache, offline=offline))
    return tuple(sorted((record_of(record) for record in records), key=lambda record: record.name))


def closure(name: str, records: Sequence[CondaRecord]) -> tuple[CondaRecord, ...]:
    """The record of ``name`` among ``records`` and all that it needs, sorted by name; empty without it."""
    by_name = {record.name: record for record in records}
    found: dict[str, CondaRecord] = {}
    todo = [name]
    while todo:
        record = by_name.get(todo.pop())
        if record is not None and record.name not in found:
            found[record.name] = record
            todo += [spec.strip().partition(" ")[0] for spec in record.depends]
    return tuple(found[name] for name in sorted(found))


async def _solve(
    request: CondaRequest, specs: Sequence[MatchSpec], cache: Path, *, offline: bool
) -> list[RepoDataRecord]:
    from rattler import Channel, ChannelPriority
    from rattler import solve as rattler_solve
    from rattler.exceptions import GatewayError, SolverError

    channels = [Channel(url) for url in request.channels]
    platforms = [request.target.platform, "noarch"]
    gateway = open_gateway(cache, offline=offline)
    try:
        await _check_names(gateway, channels, platforms, request)
        return await rattler_solve(
            channels,
            list(specs),
            gateway=gateway,
            platforms=platforms,  # type: ignore[arg-type]
            locked_packages=await _preferred(gateway, channels, platforms, request),
            virtual_packages=_virtual_packages(request.target),
            channel_priority=getattr(ChannelPriority, request.channel_priority.title()),
            exclude_newer=cutoff(request.exclude_newer),
            timestamp_policy="allow-missing",
            channel_relations="disabled",
        )
    except GatewayError as error:
        raise channel_error(error, request) from error
    except SolverError as error:
        raise _unsatisfiable(str(error), request) from error


def open_gateway(cache: Path, *, offline: bool) -> Gateway:
    """py-rattler's client for channels; with ``offline`` it has only what is in ``cache``."""
    from rattler import Client, Config, Gateway, SourceConfig

    client = None
    try:
        client = Client.default_client()
    except ValueError:  # no CA certificates on this machine: take those that py-rattler brings
        client = Client.from_config(Config.from_toml('tls-root-certs = "webpki"'))
    action: Any = "force-cache-only" if offline else "cache-or-fetch"
    return Gateway(
        cache_dir=cache / "repodata", default_config=SourceConfig(cache_action=action), client=client
    )


def _virtual_packages(target: Target) -> list[Any]:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package.build_string import BuildString

    return [
        GenericVirtualPackage(PackageName(p.name), Version(p.version), BuildString(p.build))
        for p in target.virtual_packages
    ]


def cutoff(text: str | None) -> datetime | None:
    """RFC 3339 or a date as an aware UTC time; py-rattler takes the digits and ignores the zone.

    :raises InputError: if it is neither.
    """
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise InputError(f"{text!r} is no date", at="--exclude-newer", do="write 2026-11-23") from error
    return moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


async def _check_names(
    gateway: Gateway, channels: Sequence[Channel], platforms: list[str], request: CondaRequest
) -> None:
    """Every package that was asked for exists in some build; the solver would name the first one only."""
    from rattler import MatchSpec

    wanted = {}
    for line in request.specs:
        spec = parse_match_spec(line)
        wanted[spec.name.normalized] = line
    real = [name for name in wanted if not name.startswith("__")]
    found = await gateway.query(
        channels,
        platforms,  # type: ignore[arg-type]
        [MatchSpec(name) for name in real],
        recursive=False,
        channel_relations="disabled",
    )
    present: dict[str, list[RepoDataRecord]] = {}
    for record in (record for records in found for record in records):
        present.setdefault(record.name.normalized, []).append(record)
    missing = [name for name in real if name not in present]
    if missing:
        names = await gateway.names(channels, platforms)  # type: ignore[arg-type]
        raise _unknown(missing, [name.normalized for name in names], wanted, request)
    for name in real:
        spec = parse_match_spec(wanted[name])
        if not any(spec.matches(record) for record in present[name]):
            raise _no_such_version(wanted[name], present[name], request)


def _no_such_version(
    line: Line, records: Sequence[RepoDataRecord], request: CondaRequest
) -> UnsatisfiableError:
    newest = max(records, key=lambda record: (record.version, record.build_number))
    return UnsatisfiableError(
        f"no package fits {line.text} for {request.target.platform}",
        at=line.at,
        do=f"of {len(records)} builds the newest is {newest.name.normalized} {newest.version} {newest.build}",
    )


def _unknown(
    missing: Sequence[str], known: Sequence[str], wanted: dict[str, Line], request: CondaRequest
) -> UnsatisfiableError:
    hints = []
    for name in missing:
        guess = _CONDA_NAMES.get(name)
        close = [guess] if guess in known else difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        hints.append(
            f"{name}: did you mean {close[0]}?" if close else f"{name}: from pip, or another channel?"
        )
    where = ", ".join(redacted(url) for url in request.channels)
    return UnsatisfiableError(
        f"no package {' and no package '.join(missing)} for {request.target.platform} in {where}",
        at=", ".join(wanted[name].at for name in missing),
        do="; ".join(hints),
    )


async def _preferred(
    gateway: Gateway, channels: Sequence[Channel], platforms: list[str], request: CondaRequest
) -> list[RepoDataRecord]:
    """The channel's own records of the rows to keep; what the channel has no more is not kept."""
    from rattler import MatchSpec

    if not request.preferred:
        return []
    urls = {row.url for row in request.preferred}
    found = await gateway.query(
        channels,
        platforms,  # type: ignore[arg-type]
        [MatchSpec(row.name) for row in request.preferred],
        recursive=False,
        channel_relations="disabled",
    )
    return [record for records in found for record in records if record.url in urls]


def record_of(record: RepoDataRecord) -> CondaRecord:
    """A record of py-rattler's as ours."""
    raw = json.loads(record.to_json())
    depends = tuple(raw.get("depends") or ())
    names = {text.split(" ")[0] for text in depends}
    return CondaRecord(
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        url=str(record.url),
        sha256=record.sha256.hex() if record.sha256 else None,
        md5=record.md5.hex() if record.md5 else None,
        size=record.size,
        depends=depends,
        python_package=raw.get("noarch") == "python" or bool(names & {"python", "python_abi"}),
    )


def channel_error(error: Exception, request: CondaRequest) -> EnvforgeError:
    """What the failure of py-rattler's client means, and what helps."""
    story = redacted(_whole(error))
    url = next((u for u in request.channels if u in story), request.channels[0] if request.channels else "")
    at = redacted(url)
    status = re.search(r"status (?:client|server) error \((\d{3})", story, re.IGNORECASE)
    if "could not find subdir" in story or (status and status[1] in ("404", "410")):
        return InputError(
            "no such channel: it has no repodata for noarch or the platform",
            at=at,
            do="check the spelling of the channel; every channel has a noarch/repodata.json",
            story=story,
        )
    if "no usable repodata cache" in story or ("cache" in story and "offline" in story):
        return CouldNotError(
            "the channel is not in the cache, and --offline forbids to fetch it",
            at=at,
            do="lock once without --offline",
            story=story,
        )
    if status:
        denied = status[1] in ("401", "403", "407")
        help_ = "put the credentials for this host into ~/.netrc" if denied else "try again later"
        return CouldNotError(f"the channel answered {status[1]}", at=at, do=help_, story=story)
    if re.search(r"end of file|reading a body|decoding response", story):
        return CouldNotError(
            "the channel sent half a file", at=at, do="try again; the connection broke off", story=story
        )
    if re.search(r"connect|dns|resolve|timed out|sending request", story, re.IGNORECASE):
        return CouldNotError(
            f"no connection to {urlsplit(url).hostname or 'the channel'}",
            at=at,
            do="check the network, https_proxy and the channel's URL",
            story=story,
        )
    return CouldNotError(
        "the channel's repodata cannot be read",
        at=at,
        do="try again; if it stays so, the channel serves half a file or something else",
        story=story,
    )


def _whole(error: BaseException) -> str:
    parts, current = [], error
    while current is not None:
        parts.append(str(current))
        current = current.__cause__ or current.__context__  # type: ignore[assignment]
    return "\n".join(parts)


def _unsatisfiable(story: str, request: CondaRequest) -> UnsatisfiableError:
    """What was asked for and cannot be had together, in the words of the specification."""
    roots = re.findall(r"^[├└]─ (\S+)", story, re.MULTILINE)
    named = [line for line in request.specs if any(_same(line.text, root) for root in roots)]
    between = " and ".join(dict.fromkeys(line.text for line in named)) or "the dependencies"
    return UnsatisfiableError(
        f"nothing satisfies the specification for {request.target.platform}: {between} "
        + ("cannot be installed together" if len(named) > 1 else "cannot be installed"),
        at=", ".join(line.at for line in named) or None,
        do=_way_out(story, request),
        story=story,
    )


def _same(text: str, root: str) -> bool:
    return re.split(r"[\s=<>!~\[]", text.rpartition("::")[2])[0].lower() == root.lower()


def _way_out(story: str, request: CondaRequest) -> str:
    virtual = re.search(r"(__[a-z]+)[^\n]*(?:no candidates|no viable|missing|which)", story)
    name = virtual[1] if virtual else None
    if name == "__cuda":
        return "no GPU is assumed; name the CUDA of the cluster's driver: envforge lock --cuda 12.4"
    if name == "__glibc":
        assumed = request.target.version("__glibc")
        return f"glibc {assumed} is assumed; if the cluster has a newer one: envforge lock --glibc 2.34"
    if name is not None:
        return f"say what the cluster offers: envforge lock --virtual-package {name}=VERSION"
    mpis = sorted(set(re.findall(r"─ mpi \S+ (mpich|openmpi|msmpi|impi)\b", story)))
    if len(mpis) > 1:
        return f"an environment holds one MPI: choose {' or '.join(mpis)} for all of them"
    return "loosen or remove one of them"
