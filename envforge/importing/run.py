"""``import``: from what another tool's file says to a lockfile, and to the specification behind it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from envforge.errors import InputError
from envforge.formats import (
    environment_pins,
    explicit_txt,
    hashed_requirements,
    pipfile_lock,
    pixi_lock,
    poetry_lock,
    pylock_toml,
    uv_lock,
)
from envforge.formats._draft import PYPI
from envforge.formats._fields import check_url, redacted
from envforge.formats.conda_lock import custom_format
from envforge.formats.recognise import recognise
from envforge.importing.completing import ImportPorts, completed_conda, located_files
from envforge.importing.selecting import Member, filename_of, members
from envforge.importing.specifying import specification
from envforge.model.foreign import Edge, ForeignConda, ForeignFile, ForeignLock
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, join_specs
from envforge.model.platforms import PLATFORMS, Target, default_target
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import without_secrets

__all__ = ["ImportOptions", "Imported", "import_lock", "read_lock"]

_READERS: Mapping[str, Callable[..., ForeignLock]] = {
    "environment": environment_pins.read,
    "explicit": explicit_txt.read,
    "pipfile": pipfile_lock.read,
    "pixi": pixi_lock.read,
    "poetry": poetry_lock.read,
    "pylock": pylock_toml.read,
    "requirements": hashed_requirements.read,
    "uv": uv_lock.read,
}
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_FORMER_PYPI = ("https://pypi.python.org/simple", "http://pypi.python.org/simple")
_NEWEST_MINOR, _LAST_PATCH = 30, 40


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


def read_lock(text: str, *, source: str, environment: str | None = None) -> ForeignLock:
    """What a file says, of whatever kind its content shows it to be.

    :param source: the file's name, for errors.
    :param environment: which environment of a ``pixi.lock``.
    :raises InputError: for a file of another kind, or one that contradicts itself.
    """
    kind = recognise(text, source=source)
    if environment is not None:
        if kind != "pixi":
            raise InputError(
                f"this is no pixi.lock, and has no environments: {kind}",
                at="--environment",
                do="leave it out",
            )
        return pixi_lock.read(text, source=source, environment=environment)
    reader = _READERS.get(kind)
    if reader is None:
        raise InputError(
            "this is a conda-lock.yml already" if kind == "conda-lock" else f"a file of kind {kind}",
            at=source,
            do=f"use it as it is: envforge install {source} --prefix PREFIX",
        )
    return reader(text, source=source)


def import_lock(
    lock: ForeignLock, *, source: str, digest: str, host: str, options: ImportOptions, ports: ImportPorts
) -> Imported:
    """The lockfile of what ``lock`` says.

    :param source: the file's name, as the lockfile should name it.
    :param digest: sha256 in hex of the file's content.
    :param host: this machine's platform, which is taken where nothing else says one.
    :raises InputError: if something in it cannot be locked.
    :raises CouldNotError: if a channel, an index or an artifact that must be asked cannot be read.
    """
    lock = replace(lock, python=options.python or lock.python)
    job = _Job(lock, options, ports)
    platforms = job.platforms(host)
    rows = [row for platform in platforms for row in job.rows(platform)]
    if not rows:
        why = "; ".join([*lock.notes, *job.told()])
        raise InputError(
            "there is nothing in it that can be locked" + (f": {why}" if why else ""),
            at=source,
            do="name another file",
        )
    lockfile = _lockfile(job, rows, platforms, source, digest)
    return Imported(
        lockfile=lockfile,
        spec=specification(lock, lockfile, source),
        kind=lock.kind,
        notes=tuple(dict.fromkeys([*lock.notes, *job.told()])),
    )


def _lockfile(
    job: _Job, rows: Sequence[LockedPackage], platforms: Sequence[str], source: str, digest: str
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
            sources=(source,),
            content_hash={
                platform: hashlib.sha256(f"{platform}\n{digest}".encode()).hexdigest()
                for platform in sorted(platforms)
            },
            custom=dict(sorted(custom.items())),
        )
    except InputError as error:
        error.do = error.do or "keep one of the two, or take the file as its tool wrote it"
        raise error.inside(source) from None


def _channel(url: str) -> LockedChannel:
    return LockedChannel(url=url, used_env_vars=tuple(sorted(set(re.findall(r"\$\{?(\w+)", url)))))


@dataclass
class _Job:
    lock: ForeignLock
    options: ImportOptions
    ports: ImportPorts
    assumed: dict[str, str] = field(default_factory=dict)
    stripped: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
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
                    do=f"envforge import -p {next(iter(there))} FILE",
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
        python = self._python(conda)
        chosen = []
        for one in members(self.lock, target, python or "3"):
            if one.package.source is None:
                chosen.append(one)
            else:
                self.skipped.setdefault(one.package.source, []).append(one.package.name)
        if python is None and any(one.package.platforms is None for one in chosen):
            python = self._lowest_python()
        if any(one.package.platforms is None for one in chosen):
            self.assumed.setdefault(target.platform, str(target))
        found, unknown = located_files(chosen, target, python or "3", self.indexes, self.ports)
        if unknown:
            self.skipped.setdefault("no index that was asked", []).extend(unknown)
        return [self._wheel(one, file, target.platform) for one, file in found]

    def _python(self, conda: Iterable[ForeignConda]) -> str | None:
        """The Python that wheels are chosen for; ``None`` where only a range is known."""
        own = next((one.version for one in conda if one.name == "python"), None)
        python = self.options.python or own or self.lock.python
        if python is not None and not re.fullmatch(r"\d{1,2}\.\d{1,3}(\.\d{1,3})?\w{0,8}", python):
            raise InputError(f"{redacted(python)!r} is no version of Python", at="--python", do="write 3.12")
        if self.options.python is not None and not self._allows(self.options.python):
            raise InputError(
                f"the file is for Python {self.lock.requires_python}",
                at=f"--python {self.options.python}",
                do="name a version in that range, in full: --python X.Y.Z",
            )
        return python or (self._lowest_python() if self.lock.requires_python else None)

    def _allows(self, python: str) -> bool:
        try:
            return SpecifierSet(self.lock.requires_python or "").contains(python, prereleases=True)
        except InvalidSpecifier:
            return True

    def _lowest_python(self) -> str:
        text = self.lock.requires_python
        if text is None:
            raise InputError(
                "nothing says which Python the packages are for",
                at=self.lock.kind,
                do="envforge import --python 3.12 FILE   # the version that they are used with",
            )
        try:
            allowed = SpecifierSet(text)
        except InvalidSpecifier:
            raise InputError(
                f"{redacted(text)!r} is no range of versions", at="requires-python", do="--python X.Y"
            ) from None
        for minor in range(_NEWEST_MINOR):
            for patch in range(_LAST_PATCH):
                if allowed.contains(f"3.{minor}.{patch}"):
                    python = f"3.{minor}.{patch}" if patch else f"3.{minor}"
                    self.notes.append(
                        f"Python {python} is assumed, the lowest of {text}: --python X.Y names another"
                    )
                    return python
        raise InputError(f"no Python 3 is in {redacted(text)!r}", at="requires-python", do="--python X.Y")

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
            self.skipped.setdefault("sdist", []).append(one.package.name)
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
            row = LockedPackage(**values)  # type: ignore[arg-type]
            row.filename  # noqa: B018 - refuses a URL that ends in no file name
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
        for source, names in sorted(self.skipped.items()):
            listed = redacted(", ".join(sorted(set(names))))
            if source == "sdist":
                notes.append(f"no wheel fits, so the sdist is locked, which must be built: {listed}")
            else:
                notes.append(f"not imported, for it comes from {source}: {listed}")
        return notes


def _version(filename: str) -> str:
    """The version in the name of a wheel or sdist."""
    stem = re.sub(r"\.(whl|zip|tar\.\w+|tgz)$", "", filename)
    parts = stem.split("-")
    if filename.endswith(".whl") and len(parts) > 1:
        return parts[1]
    return parts[-1] if len(parts) > 1 else "0"


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
