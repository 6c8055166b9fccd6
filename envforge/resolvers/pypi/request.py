"""What the PyPI half is asked, checked, and in the words of the standard."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envforge.errors import InputError
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import Target
from envforge.model.spec import Line
from envforge.model.urls import redacted
from envforge.resolvers.pypi.places import PYPI, Places
from envforge.resolvers.pypi.target import marker_environment

__all__ = [
    "PINS",
    "ProvidedDistribution",
    "PypiRequest",
    "Wanted",
    "holds",
    "parse_requirement",
    "requirement_name",
    "wanted",
    "wheel_name",
]

_NOT_ON_AN_INDEX = re.compile(r"-|\.|/|~|[\w+]+:|[A-Za-z]:\\")

PINS = "envforge-pins"
"""The project that uv is told requires what comes from an index of its own."""


@dataclass(frozen=True, kw_only=True)
class ProvidedDistribution:
    """A Python distribution that a chosen conda package brings.

    ``metadata`` is the text of its METADATA where that is known; it says which extras there are and what
    they need.
    """

    name: str
    version: str
    conda_name: str
    metadata: str | None = None


@dataclass(frozen=True, kw_only=True)
class PypiRequest:
    """What to resolve: requirements, the target, the full Python version, and what conda brings already.

    ``constraints`` limit the versions of what is needed anyway.  ``places`` are where to look.
    ``exclude_newer`` is RFC 3339, or a date, whose whole day (UTC) still counts.
    ``preferred`` are names and versions that are kept where they still fit.
    ``no_binary`` are the projects of which an sdist is looked for and no wheel; ``built`` are names of
    projects and the ``file:`` URLs of the wheels that were built of them.
    """

    requirements: tuple[Line, ...]
    target: Target
    python_version: str
    provided: tuple[ProvidedDistribution, ...] = ()
    constraints: tuple[Line, ...] = ()
    places: Places = field(default_factory=Places)
    exclude_newer: str | None = None
    preferred: tuple[tuple[str, str], ...] = ()
    prerelease: bool = False
    no_binary: tuple[str, ...] = ()
    built: tuple[tuple[str, str], ...] = ()

    @property
    def index(self) -> str:
        """The default index, for people: without credentials."""
        return redacted(self.places.indexes[0]) if self.places.indexes else PYPI

    @property
    def assumed(self) -> str:
        """The target in words: ``linux-64 with glibc 2.28 and Python 3.11.14``."""
        for name, word in (("__glibc", "glibc"), ("__osx", "macOS")):
            version = self.target.version(name)
            if version is not None:
                return f"{self.target.platform} with {word} {version} and Python {self.python_version}"
        return f"{self.target.platform} with Python {self.python_version}"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A requirement that counts for the target, and the line that it was written in."""

    line: Line
    requirement: Requirement

    @property
    def name(self) -> str:
        """The canonical name of the project."""
        return canonical_name(self.requirement.name)

    def __str__(self) -> str:
        """As uv is given it: the marker has been decided already."""
        extras = f"[{','.join(sorted(self.requirement.extras))}]" if self.requirement.extras else ""
        if self.requirement.url is not None:
            return f"{self.requirement.name}{extras} @ {self.requirement.url}"
        return f"{self.requirement.name}{extras}{self.requirement.specifier}"


def parse_requirement(line: Line) -> Requirement:
    """Read a requirement as PEP 508 has it.

    :raises InputError: if it is none, or one that cannot be carried as a wheel.
    """
    try:
        requirement = Requirement(line.text)
    except InvalidRequirement as error:
        if _NOT_ON_AN_INDEX.match(line.text.strip()):
            raise _no_wheel(line) from error
        raise InputError(
            f"{redacted(line.text)!r} is not a requirement: {str(error).splitlines()[0]}",
            at=line.at,
            do="write it as NAME, NAME>=1.2,<2, NAME[extra] or NAME @ https://…/NAME-1.2-py3-none-any.whl",
        ) from error
    if requirement.url is not None:
        _check_wheel_url(requirement.url, line)
    return requirement


def _check_wheel_url(url: str, line: Line) -> None:
    parts = urlsplit(url)
    try:
        parse_wheel_filename(parts.path.rsplit("/", 1)[-1].replace("%2B", "+").replace("%2b", "+"))
    except InvalidWheelFilename as error:
        raise _no_wheel(line) from error
    if parts.scheme not in ("http", "https", "file"):
        raise _no_wheel(line)


def _no_wheel(line: Line) -> InputError:
    return InputError(
        f"{redacted(line.text)!r} is neither a project of an index nor the URL of a wheel",
        at=line.at,
        do="build a wheel of it (python -m build --wheel) and write: NAME @ file:///…/NAME-1.2-py3-none-any.whl",
    )


def requirement_name(line: Line) -> str:
    """The canonical name of the project that a requirement is about.

    :raises InputError: as :func:`parse_requirement`.
    """
    return canonical_name(parse_requirement(line).name)


def wanted(request: PypiRequest, lines: Iterable[Line]) -> tuple[Wanted, ...]:
    """Those of the requirements, or constraints, that count for the target: by platforms and by marker."""
    found = []
    for line in lines:
        if not line.applies_to(request.target.platform):
            continue
        requirement = parse_requirement(line)
        if requirement.marker is None or holds(requirement.marker, line, request):
            found.append(Wanted(line=line, requirement=requirement))
    return tuple(found)


def holds(marker: Marker, line: Line, request: PypiRequest) -> bool:
    """Whether the marker of ``line`` holds on the target.

    :raises InputError: if it has no answer.
    """
    environment = marker_environment(request.target, request.python_version) | {"extra": ""}
    try:
        return marker.evaluate(environment)
    except (UndefinedComparison, UndefinedEnvironmentName) as error:
        raise InputError(
            f"the marker of {redacted(line.text)!r} has no answer", at=line.at, do=str(error)
        ) from error


def wheel_name(filename: str, line: Line) -> str:
    """The canonical name of the project of a wheel.

    :raises InputError: if it is no name of a wheel.
    """
    try:
        return canonical_name(parse_wheel_filename(filename)[0])
    except InvalidWheelFilename as error:
        raise _no_wheel(line) from error
