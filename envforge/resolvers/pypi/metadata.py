"""The METADATA of wheels: getting it, reading it, and what it makes of extras."""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envforge.edges.fetch import Fetcher
from envforge.edges.ranged import opened_in_parts
from envforge.errors import CouldNotError
from envforge.model.lockfile import canonical_name
from envforge.model.urls import redacted

__all__ = ["Asked", "Metadata", "asked_for", "parse_metadata", "wheel_metadata"]

_LIMIT = 16 << 20
"""No METADATA is longer; the longest on PyPI are some 100 kB."""
_HEADERS_END = re.compile(r"\r?\n\r?\n")
_OR = re.compile(r"\bor\b")
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']|["']([^"']+)["']\s*==\s*extra""")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a distribution needs and which extras it has, by canonical name.

    ``of_extra`` are the lines that count with one extra alone.  They are most of all lines, of extras that
    nobody asks for, and are read where somebody does.
    """

    requires: tuple[Requirement, ...] = ()
    extras: frozenset[str] = frozenset()
    of_extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def only_for_extras(self) -> tuple[Requirement, ...]:
        """What is needed by an extra and not by the distribution itself."""
        mixed = [r for r in self.requires if r.marker is not None and _EXTRA.search(str(r.marker))]
        return (*mixed, *(r for extra in sorted(self.of_extra) for r in _read(self.of_extra[extra])))

    def needs(self, extra: str, environment: Mapping[str, str]) -> tuple[Requirement, ...]:
        """What is needed on a target with ``extra``; with the empty extra, what is needed without one."""
        there = (*self.requires, *_read(self.of_extra.get(extra, ())))
        return tuple(r for r in there if _counts(r, extra, environment))


def _read(lines: Iterable[str]) -> Iterator[Requirement]:
    for line in lines:
        with suppress(InvalidRequirement):
            yield Requirement(line)


def _counts(requirement: Requirement, extra: str, environment: Mapping[str, str]) -> bool:
    if requirement.marker is None:
        return True
    try:
        return requirement.marker.evaluate({**environment, "extra": extra})
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False


def parse_metadata(text: str) -> Metadata:
    """Read METADATA; what is not of the standard's form is passed over, as uv has chosen already."""
    fields = _fields(text)
    extras = {canonical_name(extra) for extra in fields.get_all("Provides-Extra", [])}
    general, of_extra = [], defaultdict[str, list[str]](list)
    for line in fields.get_all("Requires-Dist", []):
        marker = line.partition(";")[2]
        named = [canonical_name(one or other) for one, other in _EXTRA.findall(marker)]
        extras.update(named)
        if len(named) == 1 and not _OR.search(marker):
            of_extra[named[0]].append(line)
        else:
            general.append(line)
    return Metadata(
        requires=tuple(_read(general)),
        extras=frozenset(extras),
        of_extra={extra: tuple(lines) for extra, lines in of_extra.items()},
    )


def _fields(text: str) -> Message:
    """The fields, whose form is that of the headers of a letter; the description below may be long."""
    return HeaderParser().parsestr(_HEADERS_END.split(text, maxsplit=1)[0])


@dataclass
class Asked:
    """The extras that are asked for: by distribution and extra, who asks."""

    extras: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, name: str) -> Sequence[str]:
        """The extras of one distribution, sorted; never the empty one."""
        return sorted(extra for extra in self.extras.get(name, ()) if extra)


def asked_for(
    direct: Iterable[tuple[Requirement, str]],
    locked: Mapping[str, Metadata],
    provided: Mapping[str, Metadata],
    environment: Mapping[str, str],
) -> Asked:
    """Follow every requirement from the direct ones on.

    What conda provides brings its own dependencies; of it only the extras are followed.

    :param direct: requirements that count, and the words for who asks.
    """
    asked = Asked()
    queue = [(requirement, who) for requirement, who in direct]
    while queue:
        requirement, who = queue.pop(0)
        name = canonical_name(requirement.name)
        seen = asked.extras.setdefault(name, {})
        for extra in ["", *sorted(map(canonical_name, requirement.extras))]:
            if extra in seen:
                continue
            seen[extra] = who
            if name in locked:
                queue += [(needed, name) for needed in locked[name].needs(extra, environment)]
            elif name in provided and extra:
                without = provided[name].needs("", environment)
                needs = provided[name].needs(extra, environment)
                queue += [(needed, name) for needed in needs if needed not in without]
    return asked


def wheel_metadata(fetcher: Fetcher, url: str, sha256: str) -> str:
    """The METADATA of a wheel: from beside it (PEP 658), or from the wheel itself, in part or whole.

    What lies beside it, and the part, are believed only if they are metadata of that very distribution and
    version; they decide nothing but which rows a row is said to depend on.

    :param url: ``https:``, ``http:`` or ``file:``.
    :param sha256: what the wheel must hash to where it has to be downloaded.
    :raises CouldNotError: if neither can be had, or the wheel is not what it should be.
    """
    url = url.partition("#")[0]
    parts = urlsplit(url)
    try:
        beside = parts._replace(path=f"{parts.path}.metadata").geturl()
        text = fetcher.read(beside, limit=_LIMIT).decode("utf-8", "replace")
    except CouldNotError:  # also 403: what a bucket answers for a file that it does not have
        text = ""
    if _describes(text, url):
        return text
    with suppress(CouldNotError):  # of a wheel of a gigabyte, METADATA is some kilobytes
        part = opened_in_parts(fetcher, url)
        if part is not None and _describes(text := _inside(part, url), url):
            return text
    with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
        path = Path(directory) / "wheel"
        fetcher.download(url, path, sha256=sha256)
        with path.open("rb") as wheel:
            return _inside(wheel, url)


def _name_and_version(url: str) -> tuple[str, str]:
    filename = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename as error:
        raise CouldNotError(f"{filename!r} is not the name of a wheel", at=redacted(url)) from error
    return canonical_name(name), str(version)


def _describes(text: str, url: str) -> bool:
    fields = _fields(text)
    name, version = _name_and_version(url)
    try:
        same_version = str(Version(fields.get("Version", ""))) == version
    except InvalidVersion:
        return False
    return same_version and canonical_name(fields.get("Name", "")) == name


def _inside(wheel: BinaryIO, url: str) -> str:
    name, _ = _name_and_version(url)
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                folder, slash, file = member.partition("/")
                stem, suffix, rest = folder.partition(".dist-info")
                ours = canonical_name(stem.partition("-")[0]) == name
                if slash and suffix and not rest and ours and file == "METADATA":
                    with archive.open(member) as content:
                        data = content.read(_LIMIT + 1)
                    if len(data) > _LIMIT:
                        raise CouldNotError(f"METADATA of more than {_LIMIT} bytes", at=redacted(url))
                    return data.decode("utf-8", "replace")
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CouldNotError(
            f"the wheel cannot be read: {error}",
            at=redacted(url),
            do="the file is broken where it lies; take another version",
        ) from error
    raise CouldNotError("the wheel has no METADATA", at=redacted(url), do="take another version")
