"""What a solver may choose from: the records of every package that a request can reach, and which match."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from envforge.model.platforms import Target

if TYPE_CHECKING:
    from rattler import MatchSpec, PackageRecord, RepoDataRecord

__all__ = ["Candidate", "Offered", "Universe", "is_newer", "name_of"]

_NAME_ENDS = re.compile(r"[\s=<>!~\[]")


def name_of(dependency: str) -> str:
    """The package that the text of a dependency names."""
    return _NAME_ENDS.split(dependency.strip(), maxsplit=1)[0].lower()


def is_newer(record: RepoDataRecord, cutoff: datetime | None) -> bool:
    """Whether a record was made after ``cutoff``; one without a time was not."""
    return cutoff is not None and record.timestamp is not None and record.timestamp > cutoff


class Candidate:
    """A record, and what it needs by the names of what it needs."""

    def __init__(self, record: RepoDataRecord) -> None:
        self.record = record
        self.version = str(record.version)
        self.build = str(record.build)

    @cached_property
    def depends(self) -> dict[str, tuple[str, ...]]:
        """The dependencies on each package: most name one once, some twice."""
        return _by_name(self.record.depends)

    @cached_property
    def constrains(self) -> dict[str, tuple[str, ...]]:
        """What must hold of other packages if they are there."""
        return _by_name(self.record.constrains)


def _by_name(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name = name_of(text)
        found[name] = (*found.get(name, ()), text)
    return found


class Universe:
    """The records that count for a target, by name.

    :param channels: lists of records, in the channels' order.
    :param strict: whether only the first channel that has a package counts for it.
    :param asked: what the specification says of a package by name: with ``strict``, a channel that has
        nothing of what is asked for is passed over, as the solver does.
    :param cutoff: what is newer does not count; what has no time stamp does.
    """

    def __init__(
        self,
        channels: Sequence[Sequence[RepoDataRecord]],
        target: Target,
        *,
        strict: bool,
        asked: dict[str, MatchSpec],
        cutoff: datetime | None,
    ) -> None:
        self.target = target
        self._offered = Offered(target)
        self.passed_over: dict[str, list[RepoDataRecord]] = {}
        self.too_new: dict[str, list[RepoDataRecord]] = {}
        self._records: dict[str, list[RepoDataRecord]] = {}
        self._candidates: dict[str, list[Candidate]] = {}
        self._matching: dict[str, frozenset[int]] = {}
        by_channel: dict[str | None, list[RepoDataRecord]] = {}
        for records in channels:  # a list each of a channel's noarch and of its platform
            for record in records:
                by_channel.setdefault(record.channel, []).append(record)
        for records in by_channel.values():
            self._add(records, strict=strict, asked=asked, cutoff=cutoff)

    def _add(
        self,
        records: Sequence[RepoDataRecord],
        *,
        strict: bool,
        asked: dict[str, MatchSpec],
        cutoff: datetime | None,
    ) -> None:
        by_name: dict[str, list[RepoDataRecord]] = {}
        for record in records:
            by_name.setdefault(record.name.normalized, []).append(record)
        for name, found in by_name.items():
            if cutoff is not None:
                newer = [record for record in found if is_newer(record, cutoff)]
                if newer:
                    self.too_new.setdefault(name, []).extend(newer)
                    found = [record for record in found if not is_newer(record, cutoff)]
            known = self._records.get(name)
            spec = asked.get(name)
            if known is not None and strict and (spec is None or any(map(spec.matches, known))):
                self.passed_over.setdefault(name, []).extend(found)
            elif known is not None and strict:
                self.passed_over.setdefault(name, []).extend(known)
                self._records[name] = found
            elif found:
                self._records[name] = [*(known or ()), *found]

    def candidates(self, name: str) -> list[Candidate]:
        """The records of a package, newest first; empty if there are none."""
        found = self._candidates.get(name)
        if found is None:
            records = self._records.get(name, [])
            newest_first = sorted(records, key=lambda r: (r.version, r.build_number), reverse=True)
            found = self._candidates[name] = [Candidate(record) for record in newest_first]
        return found

    def matching(self, text: str) -> frozenset[int]:
        """Which candidates of the package that ``text`` names it admits, by their place."""
        found = self._matching.get(text)
        if found is None:
            candidates = self.candidates(name_of(text))
            found = frozenset(range(len(candidates)))
            if not text.strip().isidentifier():
                found = self._matching[text] = self.places(name_of(text), _spec(text))
        return found

    def places(self, name: str, spec: MatchSpec | None) -> frozenset[int]:
        """Which candidates of ``name`` a MatchSpec admits; all, where it cannot be read."""
        candidates = self.candidates(name)
        if spec is None:
            return frozenset(range(len(candidates)))
        return frozenset(i for i, one in enumerate(candidates) if spec.matches(one.record))

    def all_matching(self, texts: Iterable[str]) -> frozenset[int]:
        """Which candidates of one package all of ``texts`` admit."""
        return frozenset.intersection(*map(self.matching, texts))

    def offers(self, text: str) -> bool:
        """Whether the target offers the virtual package that a dependency needs."""
        return self._offered.meets(text)

    def texts_about(self, name: str) -> set[str]:
        """What all records that count say of the virtual package ``name``."""
        return {
            text
            for records in self._records.values()
            for record in records
            for text in (*record.depends, *record.constrains)
            if text.startswith(name) and name_of(text) == name
        }

    def builds_asked(self, name: str) -> list[str]:
        """The builds of the virtual package ``name`` that records ask for by their whole names."""
        found = {text.split()[-1] for text in self.texts_about(name) if len(text.split()) == 3}
        return sorted(found)


class Offered:
    """What a target offers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._met: dict[str, bool] = {}

    def meets(self, text: str) -> bool:
        """Whether the target offers the virtual package that the dependency ``text`` needs."""
        found = self._met.get(text)
        if found is None:
            name, spec = name_of(text), _spec(text)
            found = self._met[text] = any(
                record.name.normalized == name and (spec is None or spec.matches(record))
                for record in self._records
            )
        return found

    def unmet(self, texts: Iterable[str]) -> list[str]:
        """The dependencies on virtual packages that the target does not meet."""
        return [text for text in texts if text.startswith("__") and not self.meets(text)]

    @cached_property
    def _records(self) -> list[PackageRecord]:
        from rattler import PackageRecord
        from rattler.package.build_string import BuildString

        return [
            PackageRecord(
                name=package.name,
                version=package.version,
                build=BuildString(package.build),
                build_number=0,
                subdir=self._target.platform,
            )
            for package in self._target.virtual_packages
        ]


def _spec(text: str) -> MatchSpec | None:
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError, InvalidPackageNameError

    try:
        return MatchSpec(text, strict=False)
    except (
        InvalidMatchSpecError,
        InvalidPackageNameError,
        ValueError,
    ):  # what a channel says need not be right
        return None
