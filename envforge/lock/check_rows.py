"""One platform of ``lock --check``: the lines, what their packages need, and what nobody needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envforge.lock.asked import Place, asked_for, by_group
from envforge.lock.choices import locked_choices
from envforge.lock.unmet import Unmet, is_ours
from envforge.model.built import BUILT, BuiltWheel, built_wheels
from envforge.model.groups import MAIN, Key, groups_of, key_of, provided_by_conda
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.platforms import Target
from envforge.model.python import locked_python
from envforge.model.spec import EnvironmentSpec, Line
from envforge.resolvers.conda.fits import CondaRows
from envforge.resolvers.conda.request import parse_match_spec

__all__ = ["unmet_on"]


def unmet_on(target: Target, spec: EnvironmentSpec, lockfile: Lockfile, place: Place) -> Iterator[Unmet]:
    """What does not hold on ``target``, whose platform the lockfile has: the lines first, in their order."""
    platform = _Platform(target, spec, lockfile, place)
    yield from platform.unmet_lines()
    yield from platform.unmet_builds()
    yield from platform.unmet_needs()
    yield from platform.unmet_groups()


class _Platform:
    def __init__(self, target: Target, spec: EnvironmentSpec, lockfile: Lockfile, place: Place) -> None:
        self.target = target
        self.spec = spec
        self.ours = is_ours(lockfile)
        self.on = f"for {target.platform}"
        self.all = [row for row in lockfile.packages if row.platform == target.platform]
        self.rows: dict[Key, LockedPackage] = {}
        self.groups: dict[Key, list[str]] = {}
        for row in self.all:
            self.rows.setdefault(key_of(row), row)
            self.groups.setdefault(key_of(row), []).append(row.category)
        self.conda = CondaRows(
            self.rows.values(),
            target if self.ours else None,
            [channel.url for channel in lockfile.channels],
        )
        self.provided = provided_by_conda(lockfile.custom.get(f"envforge.provided.{target.platform}", ""))
        self.built: dict[str, BuiltWheel] = {
            one.name: one for name, one in built_wheels(lockfile) if name == target.platform
        }
        self.by_extra = lockfile.custom.get(f"envforge.by-extra.{target.platform}", "").split()
        self.extras = locked_choices(lockfile).get("extras") if self.ours else None
        self.asked = asked_for(
            spec,
            target,
            self.rows.values(),
            provided=self.provided,
            built=self.built.values(),
            place=place,
            python=locked_python(lockfile, target.platform),
        )

    # -- lines -----------------------------------------------------------------------------------------

    def unmet_lines(self) -> Iterator[Unmet]:
        for line in self.spec.conda_for(self.target.platform):
            if line.text.strip().startswith("__") and not self.conda.offers(line):
                yield Unmet(f"{line.text}: not assumed {self.on}, where it is {self.target}", line.at)
        for line, key in self.asked:
            if key is None:
                yield Unmet(f"{line.text}: no wheel of that project is locked {self.on}", line.at)
                continue
            row = self.rows.get(key)
            if row is None:
                yield Unmet(f"{line.text}: {key[1]} is not locked {self.on}", line.at)
                continue
            if line in self._pip:
                yield from self._unmet_requirement(line, row)
            elif not self.conda.row_fits(line, row):
                found = f"{row.version} {row.build_string}"
                yield Unmet(f"{line.text}: {row.name} {found} is locked {self.on}", line.at)
            yield from self._not_in(line, key)
        yield from self._unmet_constraints()

    def _unmet_constraints(self) -> Iterator[Unmet]:
        for line in self.spec.constraints_for(self.target.platform):
            yield from self._unmet_constraint(line)
        for line in self.spec.conda_constraints_for(self.target.platform):
            row = self.rows.get(("conda", parse_match_spec(line).name.normalized))
            if row is not None and not self.conda.row_fits(line, row):
                found = f"{row.name} {row.version} {row.build_string}"
                yield Unmet(f"{line.text}: the constraint is not kept, {found} is locked {self.on}", line.at)

    @cached_property
    def _pip(self) -> frozenset[Line]:
        return frozenset(self.spec.pip)

    def _not_in(self, line: Line, key: Key) -> Iterator[Unmet]:
        there = self.groups[key]
        if MAIN not in there and line.group not in there:
            yield Unmet(
                f"{line.text}: {key[1]} is locked for the group {', '.join(there)} and not for "
                f"{line.group} {self.on}",
                line.at,
            )

    def _unmet_requirement(self, line: Line, row: LockedPackage) -> Iterator[Unmet]:
        if canonical_name(row.name) in self.built and row.url.startswith(BUILT):
            source = self.built[canonical_name(row.name)].source
        else:
            source = row.url
        try:
            requirement = Requirement(line.text)
        except ValueError:
            return  # a project: its wheel is there
        version = self._version(requirement.name)
        if requirement.url is not None and not _same_source(requirement.url, source):
            yield Unmet(f"{line.text}: {source} is locked {self.on}", line.at)
        elif not _contains(requirement.specifier, version):
            yield Unmet(f"{line.text}: {requirement.name} {version} is locked {self.on}", line.at)
        elif self.extras is not None or self.ours:
            known = self.extras if isinstance(self.extras, dict) else {}
            had = known.get(canonical_name(requirement.name), [])
            for extra in sorted(map(canonical_name, requirement.extras)):
                if extra not in had:
                    yield Unmet(f"{line.text}: locked without the extra {extra} {self.on}", line.at)
        one = self.built.get(canonical_name(row.name)) if row.url.startswith(BUILT) else None
        sha256 = f"sha256:{one.source_sha256 if one else row.sha256}"
        wanted = [text for text in line.hashes if text.startswith("sha256:")]
        if wanted and row.manager == "pip" and sha256 not in wanted:
            yield Unmet(f"{line.text}: an artifact of another hash is locked {self.on}", line.at)

    def _version(self, name: str) -> str:
        """Of a PyPI project, from its own row or from the conda package that brings it."""
        row = self.rows.get(("pip", canonical_name(name)))
        if row is not None:
            return row.version
        return self.provided.get(canonical_name(name), ("", ""))[0]

    def _unmet_constraint(self, line: Line) -> Iterator[Unmet]:
        try:
            requirement = Requirement(line.text)
        except ValueError:
            return
        version = self._version(requirement.name)
        if version and not _contains(requirement.specifier, version):
            yield Unmet(
                f"{line.text}: the constraint is not kept, {requirement.name} {version} is locked {self.on}",
                line.at,
            )

    def unmet_builds(self) -> Iterator[Unmet]:
        """Whether what is to be built was built; not, whether a project has changed since."""
        for row in self.rows.values():
            name = canonical_name(row.name)
            if row.manager == "pip" and name in self.spec.no_binary and name not in self.built:
                yield Unmet(
                    f"{row.name} is to be built from its sdist, and is locked as a wheel {self.on}",
                    "--no-binary",
                )

    # -- what the rows need ----------------------------------------------------------------------------

    def unmet_needs(self) -> Iterator[Unmet]:
        for row in self.rows.values():
            at = f"package {row.name} ({row.manager}, {row.platform})"
            for name, rest in row.dependencies.items():
                if row.manager == "conda":
                    yield from self._unmet_conda(row, name, rest, at)
                else:
                    yield from self._unmet_pip(row, name, rest, at)

    def _unmet_conda(self, row: LockedPackage, name: str, rest: str, at: str) -> Iterator[Unmet]:
        if name.startswith("__") and not self.ours:
            return
        met = self.conda.meets(name, rest)
        if met is None:
            yield Unmet(f"{row.name} needs {name} {rest}, which is not locked {self.on}", at)
        elif not met and self.ours:
            # conda-lock writes what packages say of themselves, which channels correct.
            verb = "assumed" if name.startswith("__") else "locked"
            yield Unmet(
                f"{row.name} needs {name} {rest}, and {self.conda.version(name)} is {verb} {self.on}", at
            )

    def _unmet_pip(self, row: LockedPackage, name: str, rest: str, at: str) -> Iterator[Unmet]:
        version = self._version(name)
        if not version:
            if self.ours:  # another tool knows by other means which conda package that is
                yield Unmet(f"{row.name} needs {name}, which is not locked {self.on}", at)
            return
        try:
            wanted = SpecifierSet("" if rest == "*" else rest)
        except InvalidSpecifier:
            return
        if not _contains(wanted, version):
            yield Unmet(f"{row.name} needs {name} {rest}, and {version} is locked {self.on}", at)

    # -- groups ----------------------------------------------------------------------------------------

    def unmet_groups(self) -> Iterator[Unmet]:
        if not self.ours:
            return
        roots: Mapping[str, list[Key]] = by_group(self.asked)
        wanted = groups_of(tuple(self.rows.values()), roots, self.provided)
        for key, groups in wanted.items():
            row = self.rows[key]
            at = f"package {row.name} ({row.manager}, {row.platform})"
            there = sorted(self.groups[key])
            if not groups and not (row.manager == "pip" and key[1] in self.by_extra):
                yield Unmet(f"{row.name} is locked {self.on}, and nothing needs it any more", at)
            elif groups and there != sorted(groups):
                yield Unmet(
                    f"{row.name} is locked for the group {', '.join(there)} and needed by "
                    f"{', '.join(groups)} {self.on}",
                    at,
                )
        yield from self._unlike()

    def _unlike(self) -> Iterator[Unmet]:
        """A package of several groups is the same file in each."""
        for row in self.all:
            other = self.rows[key_of(row)]
            if (row.url, row.sha256, row.version) != (other.url, other.sha256, other.version):
                yield Unmet(
                    f"{row.name} is locked {self.on} as {other.version} for {other.category} "
                    f"and as {row.version} for {row.category}",
                    f"package {row.name} ({row.manager}, {row.platform})",
                )


def _contains(wanted: SpecifierSet, version: str) -> bool:
    try:
        return wanted.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return not wanted


def _same_source(asked: str, locked: str) -> bool:
    """Whether two URLs are of one file, or of one repository: a repository's commit is what is locked."""
    one, other = (urlsplit(url.partition("#")[0]) for url in (asked, locked))
    if "+" in one.scheme:
        return _repository(one.path) == _repository(other.path) and one.hostname == other.hostname
    return (one.scheme, one.hostname, one.port, one.path) == (
        other.scheme, other.hostname, other.port, other.path,
    )  # fmt: skip


def _repository(path: str) -> str:
    return path.rpartition("@")[0] or path
