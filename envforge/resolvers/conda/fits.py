"""Whether a locked row is what a MatchSpec asks for, as the solver sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.platforms import Target
from envforge.model.spec import Line
from envforge.model.urls import public_url
from envforge.resolvers.conda.request import parse_match_spec

if TYPE_CHECKING:
    from rattler import PackageRecord

__all__ = ["CondaRows"]

_LICENSE = re.compile(r"(?<=[\[,])\s*license(_family)?\s*=\s*('[^']*'|\"[^\"]*\"|[^,\]]*)\s*,?")
_WITH_BUILD = re.compile(r"(?P<version>[^ ]+) (?P<build>[^ ,]+)(?:,|$)")


class CondaRows:
    """The conda rows of one platform, and what its target offers, to be asked many times."""

    def __init__(self, rows: Iterable[LockedPackage], target: Target | None, channels: Sequence[str]) -> None:
        """``target`` is ``None`` where nothing is known of it: then every virtual package is there.

        ``channels`` are the URLs that ``CHANNEL::`` may mean.
        """
        self.channels = tuple(channels)
        self.rows = {row.name: row for row in rows if row.manager == "conda"}
        self.target = target
        self._records: dict[str, PackageRecord] = {}
        self._known: dict[tuple[str, str], bool] = {}

    def row_fits(self, line: Line, row: LockedPackage) -> bool:
        """Whether ``row`` is what ``line`` asks for; a licence is not looked at, the lockfile has none.

        :raises InputError: for a line that is no MatchSpec.
        """
        text = line.text.strip()
        if "://" in text and "::" not in text and "[" not in text:
            return text.partition("#")[0] == row.url
        text = _LICENSE.sub("", text).replace("[]", "")
        spec = parse_match_spec(Line(text=text, at=line.at), self.channels)
        if spec.channel is not None and _public(str(spec.channel.base_url)) != _public(row.channel):
            return False
        if spec.subdir is not None and spec.subdir != row.subdir:
            return False
        if spec.file_name is not None and spec.file_name != row.filename:
            return False
        return spec.matches(self._record(row.name))

    def meets(self, name: str, rest: str) -> bool | None:
        """Whether the dependency ``name rest`` is met; ``None`` if nothing of that name is locked.

        ``rest`` is as a row holds it: several specs may be joined in it.
        """
        known = (name, rest)
        if known not in self._known:
            if not self._has(name):
                return None
            self._known[known] = self._meets(name, rest)
        return self._known[known]

    def offers(self, line: Line) -> bool:
        """Whether the target has the virtual package that ``line`` asks for."""
        spec = parse_match_spec(line)
        name = spec.name.normalized
        return self.target is None or (self._has(name) and spec.matches(self._record(name)))

    def version(self, name: str) -> str:
        """The version and the build of what is locked, or assumed."""
        row = self.rows.get(name)
        if row is not None:
            return f"{row.version} {row.build_string}"
        return (self.target.version(name) if self.target else None) or "none"

    def _has(self, name: str) -> bool:
        return name in self.rows or (name.startswith("__") and name in self._virtual)

    @cached_property
    def _virtual(self) -> set[str]:
        return {package.name for package in self.target.virtual_packages} if self.target else set()

    def _meets(self, name: str, rest: str) -> bool:
        from rattler import MatchSpec
        from rattler.exceptions import InvalidMatchSpecError

        record = self._record(name)
        try:
            if rest == "*" or MatchSpec(f"{name} {rest}", strict=False).matches(record):
                return True
        except (InvalidMatchSpecError, ValueError):
            pass
        try:
            return all(MatchSpec(f"{name} {one}", strict=False).matches(record) for one in _apart(rest))
        except (InvalidMatchSpecError, ValueError):
            return True  # another tool's way to write it

    def _record(self, name: str) -> PackageRecord:
        if name not in self._records:
            self._records[name] = self._made(name)
        return self._records[name]

    def _made(self, name: str) -> PackageRecord:
        from rattler import PackageRecord
        from rattler.exceptions import InvalidVersionError
        from rattler.package.build_string import BuildString

        row = self.rows.get(name)
        if row is None:
            assert self.target is not None  # noqa: S101 - only its virtual packages come here
            one = next(p for p in self.target.virtual_packages if p.name == name)
            return PackageRecord(
                name=name, version=one.version, build=BuildString(one.build), build_number=0, subdir="noarch"
            )
        digits = row.build_string.rpartition("_")[2]
        try:
            return PackageRecord(
                name=name,
                version=row.version,
                build=BuildString(row.build_string),
                build_number=int(digits) if digits.isdecimal() and digits.isascii() else 0,
                subdir=row.subdir,
                md5=None if row.md5 is None else bytes.fromhex(row.md5),
                sha256=None if row.sha256 is None else bytes.fromhex(row.sha256),
            )
        except (InvalidVersionError, ValueError) as error:
            raise InputError(
                f"{row.version!r} of {name} is no version", at=f"package {name} ({row.platform})"
            ) from error


def _apart(rest: str) -> Iterable[str]:
    """What was joined by ``,``: version and build, or a version."""
    while rest:
        match = _WITH_BUILD.match(rest)
        if match is None:
            yield from rest.split(",")
            return
        yield match[0].rstrip(",")
        rest = rest[match.end() :]


def _public(channel: str) -> str:
    return public_url(channel, conda=True).rstrip("/")
