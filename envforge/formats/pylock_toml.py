"""``pylock.toml``: the lockfile of PEP 751, as pip, uv and pdm read it, through ``packaging.pylock``.

Goals: what is written is for one platform and says so (``environments``), so that no tool takes it for
another; every file has its URL and sha256; what the standard has no key for stands below ``tool.envforge``,
where it allows that, and comes back on import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.pylock import Package, Pylock, PylockUnsupportedVersionError, PylockValidationError
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from envforge.errors import InputError
from envforge.formats._fields import Fields, describe, redacted
from envforge.formats._halves import (
    CONDA,
    NAMES,
    group_losses,
    losses,
    own_losses,
    pip_half,
    python_of,
    shown_name,
)
from envforge.formats._toml import parse, render
from envforge.model.foreign import Choice, Edge, ForeignFile, ForeignLock, ForeignPypi, Written
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.markers import platform_marker

__all__ = ["read", "write"]

_OWN = "envforge"
_REMEDY = "take the file as its tool wrote it"
_RELEASE = re.compile(r"\d+\.\d+")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def write(lockfile: Lockfile, platform: str, groups: Sequence[str] = ("main",)) -> Written:
    """The PyPI packages of one platform and of ``groups``.

    :raises InputError: for a platform or a group that is not locked.
    """
    half = pip_half(lockfile, platform, groups)
    conda = [row for row in lockfile.rows(platform, groups) if row.manager == "conda"]
    named = [row for row in half.rows if _NAME.fullmatch(canonical_name(row.name))]
    lost = [row for row in half.rows if row not in named]
    document: dict[str, Any] = {"lock-version": "1.0"}
    marker = platform_marker(platform)
    if marker is not None:
        document["environments"] = [marker]
    python = python_of(conda)
    release = _RELEASE.match(python or "")
    if release is not None:
        document["requires-python"] = f"=={release[0]}.*"
    names = {canonical_name(row.name) for row in named}
    document |= {
        "created-by": "envforge",
        "packages": [_package(row, names) for row in named],
        "tool": {_OWN: _whole(lockfile, platform, python)},
    }
    return Written(
        filename=f"pylock.{platform}.toml",
        text=render(document),
        platform=platform,
        losses=losses((CONDA, conda), (NAMES, lost))
        + half.losses
        + group_losses(lockfile, platform, groups, told_apart=True)
        + own_losses(lockfile, name=True, target=True),
    )


def _whole(lockfile: Lockfile, platform: str, python: str | None) -> dict[str, str]:
    values = {
        "name": shown_name(lockfile) if "envforge.name" in lockfile.custom else None,
        "platform": platform,
        "python": python,
        "target": lockfile.custom.get(f"envforge.target.{platform}"),
    }
    return {key: value for key, value in values.items() if value is not None}


def _package(row: LockedPackage, names: set[str]) -> dict[str, Any]:
    name = canonical_name(row.name)
    package: dict[str, Any] = {"name": name}
    version = _version(row.version)
    if version is not None:
        package["version"] = row.version
    needs = sorted({canonical_name(other) for other in row.dependencies} & names - {name})
    if needs:
        package["dependencies"] = [{"name": other} for other in needs]
    package |= _file(row, name, version)
    own: dict[str, Any] = {}
    if str(version) != row.version:
        own["version"] = row.version
    if row.name != name:
        own["name"] = row.name
    if row.category != "main":
        own["group"] = row.category
    if row.dependencies:
        own["needs"] = dict(sorted(row.dependencies.items()))
    if own:
        package["tool"] = {_OWN: own}
    return package


def _file(row: LockedPackage, name: str, version: Version | None) -> dict[str, Any]:
    """A wheel or an sdist if the file is named as one of that version; else an archive."""
    entry = {"url": row.url, "hashes": {"sha256": row.sha256}}
    if version is not None:
        try:
            if parse_wheel_filename(row.filename)[:2] == (name, version):
                return {"wheels": [{"name": row.filename, **entry}]}
        except (InvalidWheelFilename, InputError):
            pass
        try:
            if parse_sdist_filename(row.filename) == (name, version):
                return {"sdist": {"name": row.filename, **entry}}
        except (InvalidSdistFilename, InputError):
            pass
    return {"archive": entry}


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def read(text: str, *, source: str) -> ForeignLock:
    """What a ``pylock.toml`` of any tool says; what is below other tools' ``tool`` keys is passed over.

    :raises InputError: if it does not follow the standard, or is of a newer version of it.
    """
    document = parse(text, source=source)
    try:
        lock = Pylock.from_dict(document)
    except PylockUnsupportedVersionError as error:
        raise InputError(
            str(error), at=f"{source}: lock-version", do="use a newer envforge, or an older file"
        ) from None
    except PylockValidationError as error:
        at = f"{source}: {error.context}" if error.context else source
        raise InputError(_plain(error.message), at=at, do=_REMEDY) from None
    except (TypeError, ValueError, AttributeError) as error:  # what the library did not expect
        raise InputError(f"not a pylock.toml: {_plain(str(error))}", at=source, do=_REMEDY) from None
    own = _own(lock.tool, f"{source}: tool.{_OWN}")
    platform = own.get("platform")
    return ForeignLock(
        kind=f"pylock.toml {lock.lock_version}",
        pypi=tuple(
            _read_package(package, platform, f"{source}: packages[{index}]")
            for index, package in enumerate(lock.packages)
        ),
        name=own.get("name"),
        platforms=(platform,) if platform else (),
        targets={platform: own["target"]} if platform and "target" in own else {},
        python=own.get("python"),
        requires_python=None if lock.requires_python is None else str(lock.requires_python),
        choices=_choices(lock),
    )


def _choices(lock: Pylock) -> tuple[Choice, ...]:
    default = tuple(lock.default_groups or ())
    found = [Choice(name="main", groups=default)]
    found += [
        Choice(name=group, groups=(*default, group))
        for group in lock.dependency_groups or ()
        if group not in default
    ]
    found += [Choice(name=extra, groups=default, extras=(extra,)) for extra in lock.extras or ()]
    return tuple({choice.name: choice for choice in reversed(found)}.values())[::-1]


def _own(tool: Mapping[str, Any] | None, at: str) -> dict[str, str]:
    """The texts of our own table; whoever edits it by hand is told what is wrong with it."""
    value = (tool or {}).get(_OWN, {})
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a table is needed", at=at, do=_REMEDY)
    try:
        fields = Fields(value, frozenset(value))
        return {key: fields.text(key) for key in value if key != "needs"}
    except InputError as error:
        error.do = _REMEDY
        raise error.inside(at) from None


def _read_package(package: Package, platform: str | None, at: str) -> ForeignPypi:
    """One package; in a file of ours, which names its platform, the file of each is chosen already."""
    own = _own(package.tool, f"{at}.tool.{_OWN}")
    version = own.get("version") or ("" if package.version is None else str(package.version))
    source = "a directory" if package.directory is not None else None
    source = "a repository" if package.vcs is not None else source
    files = _files(package, at)
    if source is None and files and not any(file.url for file in files):
        source = "a directory"  # by a path of the machine where it was locked
    group = own.get("group")
    return ForeignPypi(
        name=own.get("name", package.name),
        version=version,
        files=files,
        platforms=(platform,) if platform else None,
        marker=None if package.marker is None else str(package.marker),
        groups=None if group is None else (group,),
        needs=_needs(package, at),
        source=source,
        index=package.index,
        at=at,
    )


def _needs(package: Package, at: str) -> tuple[Edge, ...] | None:
    written = (package.tool or {}).get(_OWN, {}).get("needs")
    if isinstance(written, dict):
        try:
            needs = Fields({"needs": written}, frozenset(("needs",))).mapping("needs")
        except InputError as error:
            error.do = _REMEDY
            raise error.inside(f"{at}.tool.{_OWN}") from None
        return tuple(Edge(name=name, specifier=text) for name, text in needs.items())
    if package.dependencies is None:
        return None
    names = (entry.get("name") for entry in package.dependencies)
    return tuple(Edge(name=name) for name in names if isinstance(name, str))


def _files(package: Package, at: str) -> tuple[ForeignFile, ...]:
    entries: list[Any] = list(package.wheels or ())
    entries += [entry for entry in (package.sdist, package.archive) if entry is not None]
    found = tuple(
        ForeignFile(
            filename=getattr(entry, "name", None),
            url=entry.url,
            sha256=(entry.hashes.get("sha256") or "").lower() or None,
        )
        for entry in entries
    )
    named: dict[str, ForeignFile] = {}
    for file in found:
        if file.filename and named.setdefault(file.filename, file).sha256 != file.sha256:
            # pipenv makes the names and URLs of files up, where it has nothing but hashes.
            raise InputError(
                f"two files are called {redacted(file.filename)}, and their hashes differ",
                at=at,
                do="import the lockfile that it was made from: envforge import Pipfile.lock",
            )
    return found


def _plain(text: str) -> str:
    text = redacted(" ".join(text.split()))
    return text if text.isprintable() else ascii(text)[1:-1]
