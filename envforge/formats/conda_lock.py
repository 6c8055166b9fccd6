"""``conda-lock.yml``: conda-lock's lockfile, schema version 1 (``LockfileV1`` of conda-lock 1.0 to 4).

Goals, in their order:

* *shared*: conda-lock, micromamba and rattler read what is written here, and collaborators need no envforge.
  conda-lock refuses unknown keys, so what envforge adds stands in ``metadata.custom_metadata`` alone;
* *small diffs*: one canonical order, one line a value, nothing that changes by itself (no time, no tool
  version), so that the diff of two locks is the change and nothing else;
* *strict*: what is read is what the schema allows.  Whatever conda-lock wrote since its version 1.0 is read:
  bare channel names, sorted keys, missing categories, git and path rows;
* *no secrets*: logins and tokens in URLs are dropped; placeholders such as ``${TOKEN}`` stay.

Dropped, because no verb needs it: ``source`` of a row; time, git and input metadata.  A git row has no sha256
here, whatever stands in its place; it is written as conda-lock does, with the commit.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import yaml

from envforge import __version__
from envforge.errors import InputError
from envforge.formats import _rows
from envforge.formats._collector import collector_paused
from envforge.formats._fields import Fields, describe, needed_release
from envforge.formats._yaml import compose, line_of_place, plain, render
from envforge.model.built import has_built, row_to_share, rows_as_built
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["CUSTOM_FORMAT", "VERSION", "custom_format", "read", "write"]

VERSION = 1
"""The version of conda-lock's schema."""
CUSTOM_FORMAT = 2
"""The newest version of the keys that envforge puts into ``custom_metadata``, under ``envforge.format``.

2 is written where wheels were built, else 1: an older envforge would leave
out a project in silence.
"""

_PIXI = (2, 3)
"""Versions of the format that only pixi's first releases wrote; conda-lock's own second was never written."""
_LIMIT = 100_000_000
_REMEDY = "lock again: envforge lock   # or take the file from version control as it was"
_TOP = frozenset(("version", "metadata", "package"))
_METADATA = frozenset(
    ("content_hash", "channels", "platforms", "sources")
    + ("time_metadata", "git_metadata", "inputs_metadata", "custom_metadata")
)
_SOURCE = frozenset(("type", "url"))
_TIME = frozenset(("created_at",))
_GIT = frozenset(("git_user_name", "git_user_email", "git_sha"))
_INPUT = frozenset(("md5", "sha256"))

_HEADER = """\
# This is a lockfile: every package of an environment, by URL and hash.  Written by envforge; do not edit.
#
# Install it with any of these (the two last need no envforge):
#     envforge install conda-lock.yml --prefix PREFIX
#     conda-lock install --prefix PREFIX conda-lock.yml
#     micromamba create --prefix PREFIX --file conda-lock.yml
# Renew it with:
#     envforge lock --upgrade
"""


@collector_paused()
def read(text: str, *, source: str) -> Lockfile:
    """The lockfile in ``text``.

    :param source: the file's name, for errors.
    :raises InputError: if it is no lockfile, one of a newer version, or one that contradicts itself.
    """
    node = _composed(text, source)
    value = plain(node, source=source)
    try:
        return _lockfile(value)
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error.inside(f"{source}:{line_of_place(node, error.at)}" if error.at else source) from None


def _composed(text: str, source: str) -> yaml.Node:
    try:
        return compose(text, source=source, limit=_LIMIT)
    except InputError as error:
        if error.what.startswith("a conflict"):
            error.do = f"git checkout --ours {shlex.quote(source)} && envforge lock   # keeps what still fits"
        raise


def _lockfile(value: object) -> Lockfile:
    _check_version(value)
    top = Fields(value, _TOP)
    metadata = top.nested("metadata", _METADATA)
    _check_dropped(metadata)
    custom = metadata.mapping("custom_metadata", free=True) if "custom_metadata" in metadata else {}
    _check_custom(custom)
    return Lockfile(
        packages=rows_as_built(_without_copies(top.each("package", _package)), custom),
        channels=metadata.each("channels", _rows.read_channel),
        platforms=metadata.each("platforms", _rows.read_platform),
        sources=metadata.texts("sources"),
        content_hash=metadata.mapping("content_hash"),
        custom=custom,
    )


def _check_version(value: object) -> None:
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a lockfile is needed", do="name the right file")
    if "version" not in value or "environments" in value:
        raise _another_file(value)
    version = value["version"]
    if type(version) is not int:
        raise InputError(f"{describe(version)} where the version number is needed", at="version")
    if version in _PIXI:
        raise InputError(
            f"the lockfile has version {version}, which pixi wrote; "
            f"envforge {__version__} reads version {VERSION}",
            at="version",
            do="lock the specification: envforge lock pixi.toml",
        )
    if version != VERSION:
        newer = version > VERSION
        raise InputError(
            f"the lockfile has version {version}, and envforge {__version__} reads version {VERSION}",
            at="version",
            do="use a newer envforge" if newer else _REMEDY,
        )


def _another_file(value: dict[str, object]) -> InputError:
    if "dependencies" in value:
        return InputError(
            "this is a specification and not a lockfile", do="lock it first: envforge lock environment.yml"
        )
    if "environments" in value:
        return InputError("this is a lockfile of pixi", do="import it first: envforge import pixi.lock")
    return InputError("the lockfile has no version", do=_REMEDY)


def _check_custom(custom: dict[str, str]) -> None:
    written = custom.get("envforge.format")
    if written is None:
        return
    at = "metadata.custom_metadata.envforge.format"
    if not (written.isascii() and written.isdigit() and len(written) < 10):
        raise InputError(f"{describe(written)} where a number is needed", at=at)
    if int(written) > CUSTOM_FORMAT:
        raise InputError(
            f"envforge's part of the lockfile has format {int(written)}, "
            f"and envforge {__version__} reads up to {CUSTOM_FORMAT}",
            at=at,
            do=needed_release(custom.get("envforge.needs")),
        )


def _check_dropped(metadata: Fields) -> None:
    """What is read only to be held against the schema."""
    if "time_metadata" in metadata:
        metadata.nested("time_metadata", _TIME).text("created_at")
    if "git_metadata" in metadata:
        git = metadata.nested("git_metadata", _GIT)
        for key in sorted(_GIT):
            if key in git:
                git.raw(key)
    if "inputs_metadata" in metadata:
        metadata.items("inputs_metadata", _input)


def _input(value: object) -> None:
    hashes = Fields(value, _INPUT)
    for key in sorted(_INPUT):
        if key in hashes:
            hashes.text(key)


def _package(value: object) -> LockedPackage | None:
    """One row; ``None`` for a virtual package, which is no file: early conda-locks wrote them."""
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a mapping is needed")
    if value.get("manager") == "conda" and str(value.get("name")).startswith("__"):
        return None
    if value.get("source") is not None:
        Fields(value["source"], _SOURCE, "source").text("url")
    return _rows.read_package(value, _ROW)


def _without_copies(rows: tuple[LockedPackage | None, ...]) -> tuple[LockedPackage, ...]:
    """Each row once: a merge of two branches, and conda-lock itself, can leave a row there twice.

    :raises InputError: for two rows of one package that differ.
    """
    found: dict[tuple[str, ...], tuple[int, LockedPackage]] = {}
    for number, row in enumerate(rows):
        if row is None:
            continue
        first, other = found.setdefault(row.key, (number, row))
        if other != row:
            versions = f"{other.version} and {row.version}"
            differ = versions if other.version != row.version else f"{row.version}, in two ways"
            raise InputError(
                f"{row.name} is locked twice for {row.platform}: {differ}; the other is package[{first}]",
                at=f"package[{number}]",
            )
    return tuple(row for _, row in found.values())


_ROW = _rows.KEYS | {"source"}


@collector_paused()
def write(lockfile: Lockfile) -> str:
    """The text of ``lockfile``; equal lockfiles give equal texts."""
    shared = (row_to_share(package, lockfile.custom) for package in lockfile.packages)
    document = {
        "version": VERSION,
        "metadata": _metadata(lockfile),
        "package": [_row(row) for row in shared if row is not None],
    }
    return _HEADER + render(document)


def custom_format(custom: Mapping[str, str]) -> str:
    """The version to write of envforge's own part: the oldest that has all that is in it."""
    return str(CUSTOM_FORMAT if has_built(custom) else 1)


def _metadata(lockfile: Lockfile) -> dict[str, object]:
    metadata: dict[str, object] = {
        "content_hash": dict(sorted(lockfile.content_hash.items())),
        "channels": [
            {"url": channel.url, "used_env_vars": list(channel.used_env_vars)}
            for channel in lockfile.channels  # their order is their priority
        ],
        "platforms": sorted(lockfile.platforms),
        "sources": list(lockfile.sources),
    }
    if lockfile.custom:
        metadata["custom_metadata"] = dict(sorted(lockfile.custom.items()))
    return metadata


def _row(package: LockedPackage) -> dict[str, object]:
    """The keys in the order in which conda-lock writes them."""
    sha256 = package.sha256 or _rows.commit_of(package.url)
    row: dict[str, object] = {
        "name": package.name,
        "version": package.version,
        "manager": package.manager,
        "platform": package.platform,
        "dependencies": dict(sorted(package.dependencies.items())),
        "url": package.url,
        "hash": {kind: text for kind, text in (("md5", package.md5), ("sha256", sha256)) if text is not None},
    }
    if package.build is not None:
        row["build"] = package.build
    return row | {"category": package.category, "optional": package.optional}
