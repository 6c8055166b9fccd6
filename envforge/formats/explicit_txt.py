"""``@EXPLICIT``: a list of URLs that conda, mamba and micromamba install as it is, without solving (CEP 23).

Goals: one hash a line, the sha256; an order in which each package comes after what it needs; no blank lines,
which some readers refuse.  conda before 24.9 knows no sha256 here: for it the md5 can be had.  PyPI packages
follow as comments, as conda-lock writes them: ``conda-lock install`` and import read those, conda does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from envforge.errors import InputError
from envforge.formats._fields import check_size, check_url, redacted
from envforge.formats._halves import (
    HASH,
    HASHES,
    NEEDS,
    PYPI,
    conda_half,
    group_losses,
    losses,
    own_losses,
    pip_half,
    shown_name,
)
from envforge.model.foreign import ForeignConda, ForeignFile, ForeignLock, ForeignPypi, Loss, Written
from envforge.model.lockfile import Lockfile

__all__ = ["MARK", "from_url", "read", "write"]

MARK = "@EXPLICIT"
_LIMIT = 10_000_000
_PLATFORM = re.compile(r"#\s*platform:\s*([a-z0-9]+-[a-z0-9_]+)\s*")
_PIP = re.compile(r"# pip (?P<name>[A-Za-z0-9._-]+) @ (?P<url>\S+)")
_HASH = re.compile(r"(?P<md5>[0-9a-f]{32})|(?:sha256:)?(?P<sha256>[0-9a-f]{64})", re.IGNORECASE)
_ARCHIVE = re.compile(r"(?P<name>.+)-(?P<version>[^-]+)-(?P<build>[^-]+)\.(?:conda|tar\.bz2)")
_REMEDY = "write it as conda list --explicit --sha256 does"


def write(
    lockfile: Lockfile, platform: str, groups: Sequence[str] = ("main",), *, md5: bool = False
) -> Written:
    """The conda packages of one platform and of ``groups``.

    :param md5: the md5 instead of the sha256, for a conda older than 24.9.
    :raises InputError: for a platform or a group that is not locked.
    """
    conda = conda_half(lockfile, platform, groups)
    pip = pip_half(lockfile, platform, groups)
    lines = [
        f"# Conda packages of {shown_name(lockfile)}, locked for one platform.  Install them with:",
        "#     conda create --prefix PREFIX --file FILE     # or micromamba, mamba",
        f"# platform: {platform}",
        MARK,
    ]
    unhashed = [row for row in conda if row.sha256 is None]
    for row in conda:
        plain = md5 or row.sha256 is None
        url = row.url.partition("#")[0]
        lines.append(f"{url}#{row.md5}" if plain else f"{url}#sha256:{row.sha256}")
    lines += [f"# pip {row.name} @ {row.url}#sha256={row.sha256}" for row in pip.rows]
    whole = [Loss(what=what) for what in (HASH, NEEDS) if conda]
    return Written(
        filename=f"explicit.{platform}.txt",
        text="\n".join(lines) + "\n",
        platform=platform,
        losses=losses((PYPI, pip.rows), (HASHES, [] if md5 else unhashed))
        + pip.losses
        + tuple(whole)
        + group_losses(lockfile, platform, groups, told_apart=False)
        + own_losses(lockfile, name=False, target=False),
    )


def from_url(url: str, platform: str | None, at: str, **known: str | None) -> ForeignConda:
    """What the URL of a conda package says of it: name, version, build, channel.

    :param platform: the row's platform, where the URL says no more than ``noarch``.
    :param known: ``sha256`` and ``md5``.
    :raises InputError: if it is none.
    """
    try:
        check_url(url, conda=True)
    except InputError as error:
        raise InputError(error.what, at=at, do=_REMEDY) from None
    path = urlsplit(url).path
    filename = unquote(path.rsplit("/", 1)[-1])
    match = _ARCHIVE.fullmatch(filename)
    if match is None:
        raise InputError(f"{redacted(filename)!r} is not the name of a conda package", at=at, do=_REMEDY)
    subdir = path.rsplit("/", 2)[-2]
    return ForeignConda(
        name=match["name"].lower(),
        version=match["version"],
        build=match["build"],
        platform=platform if subdir == "noarch" and platform else subdir,
        url=url,
        sha256=known.get("sha256"),
        md5=known.get("md5"),
        at=at,
    )


def read(text: str, *, source: str) -> ForeignLock:
    """The packages that an explicit file names.

    :raises InputError: for a line that is no URL of a conda package, a hash that is none, two platforms.
    """
    check_size(text, _LIMIT, source=source)
    conda: list[ForeignConda] = []
    pypi: list[ForeignPypi] = []
    platform = None
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        at = f"{source}:{number}"
        line = line.strip()
        said, pip = _PLATFORM.fullmatch(line), _PIP.fullmatch(line)
        if said is not None:
            platform = said[1]
        elif pip is not None:
            pypi.append(_pip(pip["name"], pip["url"], at))
        elif line and not line.startswith("#") and line != MARK:
            conda.append(_conda(line, at))
    platform = _platform(conda, platform, source)
    return ForeignLock(
        kind="@EXPLICIT",
        conda=tuple(_settled(conda, platform)),
        pypi=tuple(replace(one, platforms=(platform,)) for one in pypi),
        platforms=(platform,),
    )


def _conda(line: str, at: str) -> ForeignConda:
    if not line.isprintable():
        raise InputError("a control character, which no URL has", at=at, do="name the right file")
    url, _, fragment = line.partition("#")
    found = _HASH.fullmatch(fragment)
    if fragment and found is None:
        raise InputError(f"{redacted(fragment)!r} is no md5 and no sha256", at=at, do=_REMEDY)
    if "://" not in url:
        raise InputError(
            f"{redacted(url)!r} is no URL", at=at, do="write where the file is: https://… or file:///…"
        )
    hashes = (
        {} if found is None else {key: value and value.lower() for key, value in found.groupdict().items()}
    )
    return from_url(url, None, at, **hashes)


def _pip(name: str, url: str, at: str) -> ForeignPypi:
    url, _, fragment = url.partition("#")
    kind, _, digest = fragment.partition("=")
    sha256 = digest.lower() if kind == "sha256" else None
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError(f"{redacted(digest)!r} is no sha256", at=at, do=_REMEDY)
    return ForeignPypi(
        name=name,
        version="",
        files=(ForeignFile(filename=None, url=url, sha256=sha256),),
        at=at,
    )


def _platform(conda: Sequence[ForeignConda], said: str | None, source: str) -> str:
    found = sorted({one.platform for one in conda} - {"noarch"})
    if len(found) > 1 or (said and found and found != [said]):
        raise InputError(
            f"packages for {' and '.join(dict.fromkeys([*found, *([said] if said else [])]))} in one file",
            at=source,
            do="an explicit file is for one platform: divide it",
        )
    if not found and said is None:
        raise InputError(
            "nothing says which platform the file is for",
            at=source,
            do="add a line: # platform: linux-64",
        )
    return said or found[0]


def _settled(conda: Sequence[ForeignConda], platform: str) -> Iterator[ForeignConda]:
    for one in conda:
        yield one if one.platform == platform else replace(one, platform=platform)
