"""Rows, channels and platforms of a lockfile, as YAML and JSON hold them alike.

Follows ``LockedDependency`` of conda-lock's schema, version 1.  Goals: what conda-lock ever wrote is read,
its oldest files included; nothing is taken for a sha256 that is none; no URL brings a secret in.
"""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats._fields import Fields, check_url, describe, located, printable
from envforge.model.built import BUILT
from envforge.model.lockfile import LockedChannel, LockedPackage, canonical_name
from envforge.model.urls import without_secrets

__all__ = [
    "KEYS",
    "PLATFORM",
    "check_file_name",
    "commit_of",
    "read_channel",
    "read_package",
    "read_platform",
]

KEYS = frozenset(
    ("name", "version", "manager", "platform", "dependencies", "url", "hash", "build", "category", "optional")
)
PLATFORM = re.compile(r"[a-z0-9]+-[a-z0-9_]+")
"""A platform that can be read is any that can be a directory's name: other tools lock for more than we do."""

_CHANNEL = frozenset(("url", "used_env_vars"))
_HASHES = frozenset(("md5", "sha256"))
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_WORD = re.compile(r"[^\s/\\]+")
_HEX = re.compile(r"[0-9A-Fa-f]{7,64}")
_REPOSITORY = re.compile(r"(git|hg|svn|bzr)\+")
_COMMIT = re.compile(r"@([0-9a-f]{40}|[0-9a-f]{64})(?:#.*)?$")


def read_package(value: object, known: frozenset[str] = KEYS) -> LockedPackage:
    """One row.

    :raises InputError: if it is none; the place is relative to the row.
    """
    row = Fields(value, known)
    manager = row.text("manager")
    url = _url(row, manager)
    md5, sha256 = _hashes(row, url)
    category = row.matching("category", _NAME, "the name of a category") if "category" in row else "main"
    made = LockedPackage(
        name=row.matching("name", _NAME, "the name of a package"),
        version=row.matching("version", _WORD, "a version"),
        manager=manager,
        platform=row.matching("platform", PLATFORM, "a platform"),
        url=url,
        sha256=sha256,
        md5=md5,
        dependencies=_dependencies(row),
        build=row.matching("build", _WORD, "a build string") if "build" in row else None,
        category=category,
        optional=row.boolean("optional") if "optional" in row else category != "main",
    )
    check_file_name(made)
    return made


def check_file_name(row: LockedPackage) -> None:
    """Refuse a row whose URL is of another package: a merge of two branches can leave such a one.

    :raises InputError: for it.
    """
    if row.manager == "conda":
        name, _, version = row.filename.rpartition("-")[0].rpartition("-")
    elif row.is_wheel and not row.url.startswith(BUILT):
        name, version = row.filename.split("-")[0], row.version
    else:
        return
    if canonical_name(name) != canonical_name(row.name) or version != row.version:
        raise InputError(
            f"the row is of {row.name} {row.version}, and its URL of {row.filename}",
            at="url",
        )


def _url(row: Fields, manager: str) -> str:
    conda = manager == "conda"
    url = without_secrets(row.text("url"), tokens=conda)
    try:
        return check_url(url, conda=conda)
    except InputError as error:
        raise located(error, "url") from None


def _hashes(row: Fields, url: str) -> tuple[str | None, str | None]:
    hashes = row.nested("hash", _HASHES)
    # Of what it did not know, an early conda-lock wrote an empty text.
    known = [kind for kind in _HASHES if kind in hashes and hashes.raw(kind)]
    found = {kind: hashes.matching(kind, _HEX, "a hash in hex") for kind in known}
    if _REPOSITORY.match(url):
        # conda-lock puts the commit where the sha256 belongs.  It is in the URL as well, and proves
        # nothing about a file.
        return None, None
    md5, sha256 = found.get("md5"), found.get("sha256")
    return md5 and md5.lower(), sha256 and sha256.lower()


def _dependencies(row: Fields) -> dict[str, str]:
    if "dependencies" not in row:
        return {}
    found = row.mapping("dependencies")
    return {
        name: without_secrets(rest, tokens=False) if "://" in rest else rest for name, rest in found.items()
    }


def commit_of(url: str) -> str | None:
    """The commit that a repository's URL is pinned to; ``None`` for the URL of a file."""
    match = _COMMIT.search(url) if _REPOSITORY.match(url) else None
    return match[1] if match else None


def read_channel(value: object) -> LockedChannel:
    """One channel: a mapping, or the bare name or URL that conda-lock's first releases wrote.

    :raises InputError: if it is neither.
    """
    if isinstance(value, str):
        return LockedChannel(url=without_secrets(printable(value), tokens=True))
    channel = Fields(value, _CHANNEL)
    return LockedChannel(
        url=without_secrets(channel.text("url"), tokens=True),
        used_env_vars=channel.texts("used_env_vars") if "used_env_vars" in channel else (),
    )


def read_platform(value: object) -> str:
    """One platform.

    :raises InputError: if it cannot be one.
    """
    name = printable(value)
    if not PLATFORM.fullmatch(name):
        raise InputError(f"{describe(value)} where a platform is needed")
    return name
