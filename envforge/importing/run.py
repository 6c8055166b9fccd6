"""``import``: from what another tool's file says to a lockfile, and to the specification behind it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from packaging.version import InvalidVersion, Version

from envforge.errors import InputError
from envforge.formats._draft import PYPI
from envforge.formats._fields import check_url, redacted
from envforge.formats._rows import PLATFORM, check_file_name
from envforge.formats.conda_lock import custom_format
from envforge.importing.completing import ImportPorts, completed_conda, located_files
from envforge.importing.pythons import is_settled, lowest_python, python_of_wheels, said_python
from envforge.importing.selecting import Member, filename_of, members
from envforge.importing.specifying import specification
from envforge.model.foreign import NOT_IMPORTED, Edge, ForeignConda, ForeignFile, ForeignLock
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, join_specs
from envforge.model.platforms import PLATFORMS, Target, default_target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["ImportOptions", "Imported", "import_lock"]

_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORMER_PYPI = ("https://pypi.python.org/simple", "http://pypi.python.org/simple")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the command line may say beside the file.

    ``platforms`` are those to lock for, empty for those of the file; ``targets`` what to assume of them where
    that is not the default; ``python`` is the version to choose wheels for; ``indexes`` replace the file's.
    """

    platforms: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    python: str | None = None
    indexes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A lockfile, the specification that it answers as far as that is known, and notes for the user."""

    lockfile: Lockfile
    spec: EnvironmentSpec
    kind: str
    notes: tuple[str, ...] = ()


def import_lock(
    lock: ForeignLock,
    *,
    source: str,
    digest: str,
    host: str,
    options: ImportOptions,
    ports: ImportPorts,
    listed: str | None = None,
) -> Imported:
    """The lockfile of what ``lock`` says.

    :param source: the file's name, for errors.
    :param listed: its name as the lockfile is to have it, relative to itself; the same if it is left out.
    :param digest: sha256 in hex of the file's content.
    :param host: this machine's platform, which is taken where nothing else says one.
    :raises InputError: if something in it cannot be locked.
    :raises CouldNotError: if a channel, an index or an artifact that must be asked cannot be read.
    """
    lock = replace(lock, python=options.python or lock.python)
    job = _Job(lock, options, ports, source)
    platforms = job.platforms(host)
    rows = [row for platform in platforms for row in job.rows(platform)]
    if not rows:
        raise _nothing(lock, job, source)
    listed = source if listed is None else listed
    lockfile = _lockfile(job, rows, platforms, listed, digest)
    return Imported(
        lockfile=lockfile,
        spec=specification(lock, lockfile, listed),
        kind=lock.kind,
        notes=tuple(dict.fromkeys([*lock.notes, *job.told()])),
    )


def _nothing(lock: ForeignLock, job: _Job, source: str) -> InputError:
    why = [*job.left_out(), *(note for note in lock.notes if note.startswith(NOT_IMPORTED))]
    if why:
        what = f"there is nothing in it that can be locked: {why[0]}"
    elif lock.conda or lock.pypi:
        what = "none of its packages is needed on any of the platforms"
    else:
        what = "it locks no packages"
    return InputError(what, at=source, do="name another file, or lock anew: envforge lock")


def _lockfile(
    job: _Job, rows: Sequence[LockedPackage], platforms: Sequence[str], listed: str, digest: str
) -> Lockfile:
    custom: dict[str, str] = {}
    if job.lock.name:
        custom["envforge.name"] = job.lock.name
    indexes = tuple(without_secrets(url, tokens=False) for url in job.indexes)
    if indexes and indexes != (PYPI,):
        custom["envforge.settings"] = json.dumps({"indexes": list(indexes)})
    custom |= {f"envforge.target.{platform}": text for platform, text in job.assumed.items()}
    custom["envforge.format"] = custom_format(custom)
    channels = job.lock.channels or tuple(dict.fromkeys(r.channel for r in rows if r.manager == "conda"))
    try:
        return Lockfile(
            packages=tuple(rows),
            channels=tuple(_channel(without_secrets(url.rstrip("/"), tokens=True)) for url in channels),
            platforms=tuple(sorted(platforms)),
            sources=(listed,),
            content_hash={
                platform: hashlib.sha256(f"{platform}\n{digest}".encode()).hexdigest()
                for platform in sorted(platforms)
            },
            custom=dict(sorted(custom.items())),
        )
    except InputError as error:
        error.do = error.do or "keep one of the two, or take the file as its tool wrote it"
        raise error.inside(job.source) from None


def _channel(url: str) -> LockedChannel:
    return LockedChannel(url=url, used_env_vars=tuple(sorted(set(re.findall(r"\$\{?(\w+)", url)))))


@dataclass
class _Job:
    lock: ForeignLock
    options: ImportOptions
    ports: ImportPorts
    source: str
    assumed: dict[str, str] = field(default_factory=dict)
    stripped: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    sdists: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @property
    def indexes(self) -> tuple[str, ...]:
        return self.options.indexes or tuple(
            PYPI if url.rstrip("/") in _FORMER_PYPI else url for url in self.lock.indexes
        )

    def platforms(self, host: str) -> tuple[str, ...]:
        """The platforms to lock for."""
        there = dict.fromkeys([*self.lock.platforms, *(one.platform for one in self.lock.conda)])
        there.pop("", None)
        if self.options.platforms:
            missing = [p for p in self.options.platforms if there and p not in there]
            if missing:
                raise InputError(
                    f"the file has no packages for {missing[0]}",
                    at=f"platforms: {', '.join(there)}",
                    do=f"envforge import -p {next(iter(there))} {shlex.quote(self.source)}",
                )
            return tuple(dict.fromkeys(self.options.platforms))
        if there:
            return tuple(there)
        self.notes.append(
            f"the file says no platform, and is taken to be for {host}: -p PLATFORM names others"
        )
        return (host,)

    def rows(self, platform: str) -> list[LockedPackage]:
        """All rows of one platform."""
        target = self._target(platform)
        conda = [replace(one, platform=platform) for one in self.lock.conda if one.platform in (platform, "")]
        if target is None:
            if not self.lock.pypi:
                target = default_target("linux-64")
            else:
                raise InputError(
                    f"unknown platform {platform!r}",
                    at="-p",
                    do=f"envforge import -p {PLATFORMS[0]} FILE   # or: {', '.join(PLATFORMS[1:])}",
                )
        whole = completed_conda(conda, self.options.channels or self.lock.channels, target, self.ports)
        rows = [self._conda(one, group) for one in whole for group in one.groups]
        return rows + self._pip(target, whole)

    def _target(self, platform: str) -> Target | None:
        for target in self.options.targets:
            if target.platform == platform:
                self.assumed[platform] = str(target)
                return target
        if platform not in PLATFORMS:
            return None
        text = self.lock.targets.get(platform)
        if text is None:
            return default_target(platform)
        self.assumed[platform] = text
        return Target.parse(platform, text)

    def _pip(self, target: Target, conda: Sequence[ForeignConda]) -> list[LockedPackage]:
        if not self.lock.pypi:
            return []
        python = self._python(target, conda)
        chosen = []
        for one in members(self.lock, target, python or "3"):
            if one.package.source is None:
                chosen.append(one)
            else:
                self.skipped.setdefault(one.package.source, []).append(one.package.name)
        if any(one.package.platforms is None for one in chosen):
            self.assumed.setdefault(target.platform, str(target))
        found, unknown = located_files(chosen, target, python or "3", self.indexes, self.ports)
        if unknown:
            self.skipped.setdefault("no index that was asked", []).extend(unknown)
        return [self._wheel(one, file, target.platform) for one, file in found]

    def _python(self, target: Target, conda: Iterable[ForeignConda]) -> str | None:
        """The Python that wheels are chosen for; ``None`` where there is nothing to choose."""
        lock = self.lock
        python = said_python(lock, self.options.python, conda)
        open_ones = [one for one in lock.pypi if one.source is None and not is_settled(one)]
        if python is not None:
            return python
        if lock.requires_python is not None:
            python = lowest_python(lock.requires_python)
            self.notes.append(
                f"Python {python} is assumed, the lowest of {lock.requires_python}: "
                "--python X.Y names another"
            )
            return python
        if not open_ones:
            return None
        python = python_of_wheels([one for one in lock.pypi if one.source is None], target)
        if python is None:
            raise InputError(
                "nothing says which Python the packages are for",
                at=open_ones[0].at or self.source,
                do=f"envforge import --python 3.12 {shlex.quote(self.source)}   # the version in use",
            )
        return python

    def _conda(self, one: ForeignConda, group: str) -> LockedPackage:
        url = self._without_secrets(one.url or "", tokens=True)
        return self._row(
            one.at,
            name=one.name,
            version=one.version,
            manager="conda",
            platform=one.platform,
            url=url,
            sha256=one.sha256,
            md5=one.md5,
            dependencies=join_specs(one.depends or ()),
            category=group,
            optional=group != "main",
        )

    def _wheel(self, one: Member, file: ForeignFile, platform: str) -> LockedPackage:
        url = self._without_secrets((file.url or "").partition("#")[0], tokens=False)
        if not filename_of(file).endswith(".whl"):
            self.sdists.add(one.package.name)
        return self._row(
            one.package.at,
            name=one.package.name,
            version=one.package.version or _version(filename_of(file)),
            manager="pip",
            platform=platform,
            url=url,
            sha256=file.sha256,
            dependencies=_dependencies(one.needs or ()),
            category=one.group,
            optional=one.group != "main",
        )

    def _row(self, at: str, **values: object) -> LockedPackage:
        try:
            for key in ("name", "version", "category"):
                text = str(values[key])
                if not text or not text.isprintable() or any(c.isspace() or c in "/\\" for c in text):
                    raise InputError(f"{redacted(text)!r} cannot be a {key}")
            if not _GROUP.fullmatch(str(values["category"])) or not _GROUP.fullmatch(str(values["name"])):
                raise InputError(f"{redacted(str(values['name']))!r} cannot be a name")
            check_url(str(values["url"]), conda=values["manager"] == "conda")
            if not PLATFORM.fullmatch(str(values["platform"])):
                raise InputError(f"{redacted(str(values['platform']))!r} cannot be a platform")
            row = LockedPackage(**values)  # type: ignore[arg-type]
            row.filename  # noqa: B018 - refuses a URL that ends in no file name
            check_file_name(row)
        except InputError as error:
            error.do = error.do or "take the file as its tool wrote it"
            raise error.inside(at) from None
        return row

    def _without_secrets(self, url: str, *, tokens: bool) -> str:
        clean = without_secrets(url, tokens=tokens)
        self.stripped += clean != url
        return clean

    def told(self) -> list[str]:
        """What the user should know of what was left out or changed."""
        notes = list(self.notes)
        if self.stripped:
            notes.append(f"credentials were removed from {self.stripped} URLs: put them into ~/.netrc")
        if self.sdists:
            listed = redacted(", ".join(sorted(self.sdists)))
            notes.append(f"no wheel fits, so the sdist is locked, which must be built: {listed}")
        return notes + self.left_out()

    def left_out(self) -> list[str]:
        """What was not imported, and why."""
        return [
            f"{NOT_IMPORTED}, for it comes from {source}: {redacted(', '.join(sorted(set(names))))}"
            for source, names in sorted(self.skipped.items())
        ]


def _version(filename: str) -> str:
    """The version in the name of a wheel or sdist, or of an archive of a repository (``v6.1.tar.gz``)."""
    parts = re.sub(r"\.(whl|zip|tar\.\w+|tgz)$", "", filename).split("-")
    if filename.endswith(".whl") and len(parts) > 1:
        return parts[1]
    for start in range(len(parts)):
        with suppress(InvalidVersion):
            return str(Version("-".join(parts[start:])))
    return "0"


def _dependencies(needs: Iterable[Edge]) -> dict[str, str]:
    found: dict[str, str] = {}
    for edge in needs:
        text = edge.specifier.strip() or "*"
        known = found.get(edge.name)
        if known is None or known == "*":
            found[edge.name] = text
        elif text not in ("*", known):
            found[edge.name] = f"{known},{text}"
    return found
