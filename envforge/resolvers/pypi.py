"""The PyPI half: uv resolves for a target that need not be the host, and its answer becomes rows.

What conda brings is shown to uv as stubs (:mod:`envforge.resolvers._stubs`): it is neither resolved nor
locked a second time, and a requirement that it does not meet is an error now and not on the cluster.  Only
wheels are taken; of each package the one that fits the target best, by the target's own tags.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from packaging.pylock import Pylock
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from envforge.edges.fetch import local_path
from envforge.edges.process import Command, run, uv_executable
from envforge.errors import CouldNotError, InputError, UnsatisfiableError
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.urls import redacted, with_login
from envforge.resolvers._choice import Chosen, choose, read_pylock, sdists
from envforge.resolvers._metadata import (
    Asked,
    Metadata,
    asked_for,
    parse_metadata,
    wheel_metadata,
    wheel_sha256,
)
from envforge.resolvers._request import (
    ProvidedDistribution,
    PypiRequest,
    Wanted,
    cutoff,
    parse_requirement,
    requirement_name,
    wanted,
)
from envforge.resolvers._stubs import Stub, stubs_for
from envforge.resolvers._targets import marker_environment, uv_platform, wheel_rank, wheel_tags
from envforge.resolvers._uv_errors import clashing_url, translated

__all__ = [
    "ProvidedDistribution",
    "PypiRequest",
    "certificates",
    "find_sdists",
    "index_options",
    "marker_environment",
    "parse_requirement",
    "requirement_name",
    "resolve",
    "wheel_metadata",
    "wheel_rank",
    "wheel_sha256",
    "wheel_tags",
]

_RETRIES = 3
_AT_ONCE = 8


def resolve(
    request: PypiRequest,
    *,
    cache: Path,
    metadata_of: Callable[[str, str], str],
    offline: bool = False,
    complete: Callable[[ProvidedDistribution], ProvidedDistribution] | None = None,
    sha256_of: Callable[[str], str] | None = None,
) -> tuple[LockedPackage, ...]:
    """One row for each package that the requirements need and conda does not bring; sorted by name.

    :param cache: uv's own, and where the stubs lie.
    :param metadata_of: the METADATA of a wheel by URL and sha256, such as :func:`wheel_metadata`; called
        from several threads.  The URL has the credentials of its index.
    :param offline: use nothing but the cache and ``file:`` indexes.
    :param complete: fills in the metadata of a provided distribution of which an extra is asked for.
    :param sha256_of: the sha256 of the wheel at a URL, for an index that gives another hash only.
    :raises UnsatisfiableError: if no set of wheels fits, or one clashes with what conda brings.
    :raises InputError: for something that is no requirement, no index, no date.
    :raises CouldNotError: if an index cannot be read, or is not in the cache with ``offline``.
    """
    direct = wanted(request)
    if not direct:
        return ()
    resolving = _Resolving(
        request=request,
        direct=direct,
        cache=cache.absolute(),
        offline=offline,
        metadata_of=metadata_of,
        sha256_of=sha256_of,
    )
    return resolving.rows(complete)


def find_sdists(
    request: PypiRequest, *, cache: Path, offline: bool = False, sha256_of: Callable[[str], str]
) -> tuple[Chosen, ...]:
    """The sdists that the packages of ``request.no_binary`` would be built from, sorted by name.

    What conda brings, what was built already and what nothing needs is not among them.  uv asks an sdist that
    does not say what it depends on by running its code.

    :raises EnvforgeError: as :func:`resolve`.
    """
    direct = wanted(request)
    if not direct or not request.no_binary:
        return ()
    resolving = _Resolving(
        request=request,
        direct=direct,
        cache=cache.absolute(),
        offline=offline,
        metadata_of=lambda _url, _sha256: "",
        sha256_of=sha256_of,
    )
    found = sdists(resolving.compiled(stubs_for(request.provided)), request.no_binary)
    return tuple(resolving.with_hash(one) for one in found)


@dataclass(kw_only=True)
class _Resolving:
    """One call of :func:`resolve`: what does not change while stubs are completed, and what was fetched."""

    request: PypiRequest
    direct: tuple[Wanted, ...]
    cache: Path
    offline: bool
    metadata_of: Callable[[str, str], str]
    sha256_of: Callable[[str], str] | None
    known: dict[str, Metadata] = field(default_factory=dict)

    def rows(
        self, complete: Callable[[ProvidedDistribution], ProvidedDistribution] | None
    ) -> tuple[LockedPackage, ...]:
        environment = marker_environment(self.request.target, self.request.python_version)
        provided = {stub.name: stub.distribution for stub in stubs_for(self.request.provided).values()}
        completed: set[str] = set()
        while True:
            stubs = stubs_for(provided.values())
            chosen = [self.with_hash(one) for one in self._chosen(stubs)]
            locked = self._metadata(chosen)
            asked = asked_for(
                ((one.requirement, one.line.at) for one in self.direct),
                locked,
                {name: stub.metadata for name, stub in stubs.items()},
                environment,
            )
            lacking = {n for n, stub in stubs.items() if not stub.metadata.extras.issuperset(asked.of(n))}
            for name in sorted(lacking):
                if complete is None or name in completed:
                    raise self._no_extra(stubs[name].metadata, _brought(stubs[name]), name, asked)
                completed.add(name)
                provided[name] = replace(provided[name], metadata=complete(provided[name]).metadata)
            if not lacking:
                break
        self._check_extras(locked, asked)
        return tuple(self._row(one, locked[one.name], asked, environment) for one in chosen)

    def _chosen(self, stubs: Mapping[str, Stub]) -> tuple[Chosen, ...]:
        return choose(self.compiled(stubs), self.request)

    def compiled(self, stubs: Mapping[str, Stub]) -> Pylock:
        """What uv comes to."""
        clash = clashing_url(self.direct, stubs)
        if clash is not None:
            raise clash
        with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
            work = Path(directory)
            self._write_input(work, stubs)
            done = run(self._command(work, stubs))
            if done.returncode != 0:
                raise translated(done.stderr, self.request, self.direct, stubs, offline=self.offline)
            return read_pylock((work / "pylock.toml").read_text(encoding="utf-8"))

    def _write_input(self, work: Path, stubs: Mapping[str, Stub]) -> None:
        constraints = [stub.constraint(self.cache / "stubs") for stub in stubs.values()]
        constraints += [f"{name} @ {url}" for name, url in self.request.built if name not in stubs]
        for name, lines in (("requirements.in", map(str, self.direct)), ("provided.txt", constraints)):
            (work / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        preferred = _preferences(self.request.preferred)
        if preferred:
            (work / "pylock.toml").write_text(preferred, encoding="utf-8")

    def _command(self, work: Path, stubs: Mapping[str, Stub]) -> Command:
        request = self.request
        platform, variables = uv_platform(request.target)
        options, indexes = index_options(request.indexes)
        argv = [
            uv_executable(), "pip", "compile", "requirements.in",
            "--no-config", "--no-python-downloads", "--no-progress", "--color", "never",
            "--cache-dir", str(self.cache),
            "--python-version", request.python_version,
            "--python-platform", platform,
            "--only-binary", ":all:",
            "--format", "pylock.toml", "--output-file", "pylock.toml",
            "--no-header", "--no-annotate",
            *options,
        ]  # fmt: skip
        if sys.executable:  # any interpreter will do, but one it must be; this one is there
            argv += ["--python", sys.executable]
        argv += [word for name in request.no_binary for word in ("--no-binary", name)]
        if stubs or request.built:
            argv += ["--constraints", "provided.txt"]
        argv += [word for name in stubs for word in ("--no-emit-package", name)]
        if request.exclude_newer is not None:
            argv += ["--exclude-newer", cutoff(request.exclude_newer)]
        if request.prerelease:
            argv += ["--prerelease", "allow"]
        if self.offline:
            argv += ["--offline"]
        # uv leaves its interpreter locks in the temporary directory: let that be one that goes away.
        env = {
            "UV_HTTP_RETRIES": str(_RETRIES),
            "TMPDIR": str(work),
            **variables,
            **indexes,
            **certificates(),
        }
        return Command(argv=tuple(argv), cwd=work, env=env, network=not self.offline)

    def with_hash(self, one: Chosen) -> Chosen:
        """The same with its sha256, computed from the file where the index does not say it."""
        if one.sha256 is not None:
            return one
        if self.sha256_of is None:
            raise CouldNotError(
                f"the index gives no sha256 for {one.name} {one.version}",
                at=one.url,
                do="use an index that gives sha256",
            )
        return replace(one, sha256=self.sha256_of(with_login(one.url, self.request.indexes)))

    def _metadata(self, chosen: Sequence[Chosen]) -> dict[str, Metadata]:
        """Of every chosen wheel; what an earlier round fetched is not fetched again."""

        def fetch(one: Chosen) -> Metadata:
            text = self.metadata_of(with_login(one.url, self.request.indexes), one.sha256 or "")
            return parse_metadata(text)

        new = [one for one in chosen if one.url not in self.known]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self.known.update(zip((one.url for one in new), pool.map(fetch, new), strict=True))
        return {one.name: self.known[one.url] for one in chosen}

    def _check_extras(self, locked: Mapping[str, Metadata], asked: Asked) -> None:
        """A person who asks for an extra that is not there would miss what it should have brought."""
        for one in self.direct:
            metadata = locked.get(one.name)
            if metadata and not metadata.extras.issuperset(map(canonical_name, one.requirement.extras)):
                raise self._no_extra(metadata, one.name, one.name, asked)

    def _no_extra(self, metadata: Metadata, what: str, name: str, asked: Asked) -> UnsatisfiableError:
        extra = next(extra for extra in asked.of(name) if extra not in metadata.extras)
        who = asked.extras[name][extra]
        is_direct = any(one.line.at == who for one in self.direct)
        some = difflib.get_close_matches(extra, sorted(metadata.extras), n=3) or sorted(metadata.extras)[:8]
        has = f"it has: {', '.join(some)}{', …' if len(some) < len(metadata.extras) else ''}"
        return UnsatisfiableError(
            f"{what} has no extra {extra!r}" + ("" if is_direct else f", which {who} asks for"),
            at=who if is_direct else None,
            do=f"leave [{extra}] out, or ask for another version; {has if some else 'it has none'}",
        )

    def _row(
        self, one: Chosen, metadata: Metadata, asked: Asked, environment: Mapping[str, str]
    ) -> LockedPackage:
        needed: dict[Requirement, None] = {}
        for extra in ["", *asked.of(one.name)]:
            needed.update(dict.fromkeys(metadata.needs(extra, environment)))
        return LockedPackage(
            name=one.name,
            version=one.version,
            manager="pip",
            platform=self.request.target.platform,
            url=one.url,
            sha256=one.sha256,
            dependencies=_dependencies(one.name, needed),
        )


def _dependencies(name: str, needed: Mapping[Requirement, None]) -> dict[str, str]:
    """Specifiers by canonical name, ``*`` where any version will do, without the package itself."""
    found: dict[str, SpecifierSet] = {}
    for requirement in needed:
        other = canonical_name(requirement.name)
        found[other] = found.get(other, SpecifierSet()) & requirement.specifier
    found.pop(name, None)
    return {other: str(versions) or "*" for other, versions in sorted(found.items())}


def _brought(stub: Stub) -> str:
    return f"{stub.name} {stub.distribution.version}, as conda's {stub.distribution.conda_name} brings it,"


def _preferences(preferred: Sequence[tuple[str, str]]) -> str:
    """An earlier output of uv as far as uv looks at one: names and versions."""
    lines = []
    for name, version in preferred:
        try:
            lines.append(f'[[packages]]\nname = "{canonical_name(name)}"\nversion = "{Version(version)}"\n')
        except InvalidVersion:
            continue
    return 'lock-version = "1.0"\ncreated-by = "envforge"\n\n' + "\n".join(lines) if lines else ""


def index_options(indexes: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Options and variables that name the indexes.

    The URLs go by way of the environment: every user of the machine can read a command line.

    :raises InputError: for what is no URL, or a directory that is not there.
    """
    pages: list[str] = []
    folders: list[str] = []
    for index in indexes:
        path = local_path(index)
        if urlsplit(index).scheme not in ("http", "https", "file") or any(c.isspace() for c in index):
            raise InputError(
                f"{redacted(index)!r} is not the URL of an index",
                do="write https://HOST/simple or file:///DIRECTORY/simple",
            )
        if path is not None and not path.is_dir():
            raise InputError("the index is not a directory", at=str(path), do="check the URL of the index")
        is_folder = path is not None and any(path.glob("*.whl"))
        (folders if is_folder else pages).append(index)
    variables = {}
    if pages:
        variables["UV_DEFAULT_INDEX"] = pages[0]
    if pages[1:]:
        variables["UV_INDEX"] = " ".join(pages[1:])
    if folders:
        variables["UV_FIND_LINKS"] = ",".join(folders)
    return (["--no-index"] if folders and not pages else []), variables


def certificates() -> dict[str, str]:
    """A site's certificates where only ``requests`` has been told of them."""
    if "SSL_CERT_FILE" in os.environ:
        return {}
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return {"SSL_CERT_FILE": bundle} if bundle and Path(bundle).is_file() else {}
