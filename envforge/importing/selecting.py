"""What of a file that is for many machines counts on one target, and which file of each package.

Follows PEP 508 for markers, PEP 425 and 600 for tags, PEP 751 for groups and extras; the host never enters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.tags import Tag

from envforge.errors import InputError
from envforge.formats._fields import redacted
from envforge.model.foreign import Choice, Edge, ForeignFile, ForeignLock, ForeignPypi
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import Target
from envforge.resolvers.pypi.target import marker_environment, wheel_rank, wheel_tags

__all__ = ["Member", "best_file", "filename_of", "members"]

_EXTRA = re.compile(r"""\bextra\s*(?P<sign>==|!=)\s*(?P<text>'[^']*'|"[^"]*")""")
_REVERSED = re.compile(r"""(?P<text>'[^']*'|"[^"]*")\s*(?P<sign>==|!=)\s*extra\b""")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A package that counts on a target, in a group; ``needs`` are its edges that count there, too."""

    package: ForeignPypi
    group: str
    needs: tuple[Edge, ...] | None


@dataclass
class _Markers:
    """Evaluates markers on one target; each text once."""

    environment: Mapping[str, str]
    seen: dict[tuple[str, frozenset[str], frozenset[str]], bool] = field(default_factory=dict)

    def hold(
        self,
        text: str | None,
        at: str,
        extras: frozenset[str] = frozenset(),
        groups: frozenset[str] = frozenset(),
    ) -> bool:
        if text is None:
            return True
        key = (text, extras, groups)
        if key not in self.seen:
            self.seen[key] = self._evaluate(text, at, extras, groups)
        return self.seen[key]

    def _evaluate(self, text: str, at: str, extras: frozenset[str], groups: frozenset[str]) -> bool:
        # `extra` is one name, and several extras may be asked for at once: PEP 751 has a set of them.
        as_set = _EXTRA.sub(lambda m: f"{m['text']} {_IN[m['sign']]} extras", text)
        as_set = _REVERSED.sub(lambda m: f"{m['text']} {_IN[m['sign']]} extras", as_set)
        environment: dict[str, str | AbstractSet[str]] = {**self.environment}
        environment |= {"extras": extras, "dependency_groups": groups}
        try:
            return Marker(as_set).evaluate(environment, context="lock_file")
        except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, KeyError) as error:
            reason = redacted(" ".join(str(error).split()))
            raise InputError(
                f"{redacted(text)!r} is no marker: {reason if reason.isprintable() else 'it cannot be read'}",
                at=at,
                do="take the file as its tool wrote it",
            ) from None


_IN = {"==": "in", "!=": "not in"}


def members(lock: ForeignLock, target: Target, python: str) -> tuple[Member, ...]:
    """The PyPI packages of ``lock`` that count on ``target``, sorted by group and name.

    One in ``main`` is in no other group.

    :param python: the full version of the Python.
    :raises InputError: for a marker that is none, and for a package that a group has twice.
    """
    markers = _Markers(marker_environment(target, python))
    find = _by_graph if lock.graph else _by_marker
    found: dict[tuple[str, _Key], Member] = {}
    for group, package, needs in find(lock, target, markers):
        found.setdefault((group, _key(package)), Member(package=package, group=group, needs=needs))
    main = {key for group, key in found if group == "main"}
    kept = [one for (group, key), one in found.items() if group == "main" or key not in main]
    _check_unique(kept)
    return tuple(sorted(kept, key=lambda one: (one.group, canonical_name(one.package.name))))


_Key = tuple[str, str, frozenset["str | None"]]


def _key(package: ForeignPypi) -> _Key:
    """What is the same package, however often a file lists it."""
    urls = frozenset(file.url for file in package.files)
    return canonical_name(package.name), package.version, urls


def _check_unique(kept: Sequence[Member]) -> None:
    seen: dict[tuple[str, str], Member] = {}
    for one in kept:
        other = seen.setdefault((one.group, canonical_name(one.package.name)), one)
        if other is not one:
            versions = " and ".join(m.package.version or "a file" for m in (other, one))
            raise InputError(
                f"{one.package.name} is there twice: {versions}",
                at=one.package.at,
                do="keep one of the two, or take the file as its tool wrote it",
            )


_Found = tuple[str, ForeignPypi, "tuple[Edge, ...] | None"]


def _by_marker(lock: ForeignLock, target: Target, markers: _Markers) -> Iterable[_Found]:
    """Each package says by itself where it counts."""
    for package in lock.pypi:
        if package.platforms is not None and target.platform not in package.platforms:
            continue
        needs = package.needs
        if needs is not None:
            needs = tuple(edge for edge in needs if _counts(edge, package, markers))
        for choice in lock.choices if package.groups is None else map(_plain_choice, package.groups):
            extras, groups = frozenset(choice.extras), frozenset(choice.groups)
            if markers.hold(package.marker, package.at, extras, groups):
                yield choice.name, package, needs


def _plain_choice(name: str) -> Choice:
    return Choice(name=name)


def _counts(edge: Edge, package: ForeignPypi, markers: _Markers) -> bool:
    try:
        return markers.hold(edge.marker, package.at)
    except InputError:  # it decides only what a row is said to need
        return True


def _by_graph(lock: ForeignLock, target: Target, markers: _Markers) -> Iterable[_Found]:  # noqa: ARG001
    """What can be reached from the roots over edges whose marker holds."""
    by_name: dict[str, list[ForeignPypi]] = {}
    for locked in lock.pypi:
        by_name.setdefault(canonical_name(locked.name), []).append(locked)
    for choice in lock.choices:
        active = frozenset(choice.extras)
        todo = [(edge, lock.kind) for edge in choice.roots]
        taken: dict[int, tuple[ForeignPypi, set[str], list[Edge]]] = {}
        while todo:
            edge, at = todo.pop()
            if not markers.hold(edge.marker, at, active):
                continue
            package = _the_one(by_name.get(edge.name, ()), edge, markers, active)
            if package is None:
                raise InputError(
                    f"{redacted(edge.name)} is needed, and the file does not lock it",
                    at=at,
                    do="take the file as its tool wrote it",
                )
            if not markers.hold(package.marker, package.at, active):
                continue
            known = taken.setdefault(id(package), (package, set(), []))
            for extra in {"", *edge.extras} - known[1]:
                known[1].add(extra)
                more = (package.needs or ()) if not extra else package.extras.get(extra, ())
                held = [one for one in more if markers.hold(one.marker, package.at, active | {extra})]
                known[2].extend(held)
                todo += [(one, package.at) for one in held]
        for reached, _, needs in taken.values():
            yield choice.name, reached, tuple(dict.fromkeys(needs))


def _the_one(
    candidates: Sequence[ForeignPypi], edge: Edge, markers: _Markers, active: frozenset[str]
) -> ForeignPypi | None:
    """Of several locked versions the one that the edge names, else the one whose own marker holds."""
    if edge.version is not None:
        candidates = [one for one in candidates if one.version == edge.version] or candidates
    if len(candidates) > 1:
        held = [one for one in candidates if markers.hold(one.marker, one.at, active)]
        candidates = [one for one in held if _satisfies(one.version, edge.specifier)] or held
    return candidates[0] if candidates else None


def _satisfies(version: str, specifier: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return True


def filename_of(file: ForeignFile) -> str:
    """The name of a file, from its URL if it is not said; empty if neither is there."""
    return file.filename or unquote(urlsplit(file.url or "").path.rsplit("/", 1)[-1])


def best_file(
    files: Sequence[ForeignFile],
    target: Target,
    python: str,
    *,
    tags: Callable[[], Sequence[Tag]] | None = None,
) -> ForeignFile | None:
    """The wheel that an installer would take on ``target``, else an sdist; ``None`` if nothing fits.

    :param tags: those of the target, where they are known already.
    :raises InputError: if wheels are there, and the target says too little to choose among them.
    """
    wheels = [file for file in files if filename_of(file).endswith(".whl")]
    ranks: dict[Tag, int] = {}
    if wheels:
        ordered = tags() if tags is not None else wheel_tags(target, python)
        ranks = {tag: rank for rank, tag in enumerate(ordered)}
    ranked = [(rank, file) for file in wheels if (rank := wheel_rank(filename_of(file), ranks)) is not None]
    if ranked:
        return min(ranked, key=lambda pair: (pair[0], filename_of(pair[1])))[1]
    return next((file for file in files if file not in wheels), None)
