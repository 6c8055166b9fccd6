"""Requirements that say where the thing itself lies: a path, a URL, a repository.

What can travel is a wheel.  A wheel is taken as it is, by its hash; a source distribution, a project's
directory and a commit of a repository are built to one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement

from envforge.edges.fetch import local_path
from envforge.errors import InputError
from envforge.model.lockfile import canonical_name
from envforge.model.spec import Line
from envforge.model.urls import redacted, without_secrets

__all__ = ["Direct", "Kind", "direct_of"]

_PATH = re.compile(r"(?P<path>\.{1,2}(?:/[^\[\]]*)?|/[^\[\]]*)(?P<extras>\[[^\[\]]*\])?")
_REPOSITORY = re.compile(r"(?P<system>git|hg|svn|bzr)\+")
_SDIST = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".tar")


class Kind(Enum):
    """What a requirement points at."""

    WHEEL = "a wheel"
    SDIST = "a source distribution"
    PROJECT = "a project"
    REPOSITORY = "a repository"


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A requirement that points at something: ``place`` is a URL, or a path as it was written.

    ``name`` is canonical, and ``None`` where only a build can tell; ``extras`` are ``[one,two]`` or nothing.
    """

    kind: Kind
    place: str
    name: str | None = None
    extras: str = ""
    marker: Marker | None = None

    @property
    def is_path(self) -> bool:
        """Whether ``place`` is a path."""
        return "://" not in self.place

    @property
    def source(self) -> str:
        """What a lockfile calls a place that is a URL: without secrets, and without a hash."""
        parts = urlsplit(without_secrets(self.place, tokens=False))
        kept = [f"{key}={value}" for key, value in parse_qsl(parts.fragment) if key == "subdirectory"]
        return urlunsplit(parts._replace(fragment="&".join(kept)))

    def named(self, url: str, name: str) -> str:
        """The requirement for ``url``; its marker has been decided."""
        return f"{name}{self.extras} @ {url}"


def direct_of(line: Line) -> Direct | None:
    """What ``line`` points at, or ``None`` for the name of a project that an index has.

    :raises InputError: for what points at something that cannot be used.
    """
    text = line.text.strip()
    match = _PATH.fullmatch(text)
    if match is not None:
        return Direct(kind=_kind_of(match["path"], line), place=match["path"], extras=match["extras"] or "")
    if _REPOSITORY.match(text) is not None:
        return Direct(kind=_kind_of(text, line), place=text)
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    if requirement.url is None:
        return None
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return Direct(
        kind=_kind_of(requirement.url, line),
        place=requirement.url,
        name=canonical_name(requirement.name),
        extras=extras,
        marker=requirement.marker,
    )


def _kind_of(place: str, line: Line) -> Kind:
    system = _REPOSITORY.match(place)
    if system is not None:
        if system["system"] != "git":
            raise InputError(
                f"{redacted(line.text)!r} is a repository of {system['system']}, and only git is known",
                at=line.at,
                do="check it out, and write the path of its directory: ./DIRECTORY",
            )
        return Kind.REPOSITORY
    is_url = "://" in place
    path = unquote(urlsplit(place).path if is_url else place).rstrip("/").lower()
    if path.endswith(".whl"):
        return Kind.WHEEL
    if path.endswith(_SDIST):
        return Kind.SDIST
    if not is_url:
        return Kind.PROJECT
    folder = local_path(place)
    if folder is not None and folder.is_dir():
        return Kind.PROJECT
    raise InputError(
        f"{redacted(line.text)!r} points at neither a wheel, nor a source distribution, nor a project",
        at=line.at,
        do="write NAME @ URL of a file that ends in .whl or .tar.gz, NAME @ git+https://…, or ./DIRECTORY",
    )
