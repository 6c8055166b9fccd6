"""Properties: any lockfile survives each format, up to what is said to be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from envforge.diff import diff
from envforge.edges.fetch import Fetcher
from envforge.errors import InputError
from envforge.export import FORMATS, ExportOptions, export
from envforge.formats import conda_lock, pixi_lock
from envforge.formats._halves import (
    CONDA,
    HASH,
    HASHES,
    NAMES,
    NEEDED,
    NEEDS,
    ORIGIN,
    PROJECTS,
    PYPI,
    UNHASHED,
)
from envforge.importing import ImportOptions, import_lock, read_lock
from envforge.importing.completing import ImportPorts
from envforge.model.foreign import ForeignLock, Written
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, canonical_name
from envforge.model.platforms import default_target
from envforge.reporting import Reporter
from tests.answers.world import pip
from tests.foreign.support import PLAIN
from tests.formats.support import FORGE, conda_row, hexes, lockfiles

quick = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=set(Phase) - {Phase.explain},
)
FILES = "https://files.pythonhosted.org/packages/ab/cd"
PLATFORM = "linux-64"


def lockfile_from(text: str, tmp: object = None) -> Lockfile:
    """What import makes of a text that needs nothing from outside."""
    from pathlib import Path

    ports = ImportPorts(
        fetcher=Fetcher(offline=True), cache=Path("/nonexistent"), reporter=Reporter(), offline=True
    )
    found = import_lock(
        read_lock(text, source="x"),
        source="x",
        digest="0" * 64,
        host=PLATFORM,
        options=ImportOptions(platforms=(), python="3.12"),
        ports=ports,
    )
    return found.lockfile


def lost_names(written: Written) -> set[str]:
    kinds = {CONDA, PYPI, UNHASHED, PROJECTS, NAMES}
    return {name for loss in written.losses if loss.what in kinds for name in loss.packages}


def kinds(written: Written) -> set[str]:
    return {loss.what for loss in written.losses}


# -- what a solver writes: sensible names, wheels with tags, conda packages whose URL says their name


names = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)
versions = st.from_regex(r"[1-9][0-9]?\.[0-9]{1,2}(\.[0-9]{1,2})?", fullmatch=True)
specifiers = st.sampled_from(("*", ">=1.0", "<3,>=1.2", "==2.0"))


@st.composite
def sensible_rows(draw: st.DrawFn, platform: str, group: str) -> list[LockedPackage]:
    rows = []
    for name in draw(st.lists(names, max_size=4, unique_by=canonical_name)):
        version, manager = draw(versions), draw(st.sampled_from(("conda", "pip")))
        needs = draw(st.dictionaries(names, specifiers, max_size=2))
        subdir = draw(st.sampled_from((platform, "noarch")))
        conda = f"{FORGE}/{subdir}/{name}-{version}-h{draw(versions)[0]}_0.conda"
        host = draw(st.sampled_from((FILES, "https://example.org/files")))
        wheel = f"{host}/{name.replace('-', '_')}-{version}-py3-none-any.whl"
        sdist = f"{host}/{name.replace('-', '_')}-{version}.tar.gz"
        rows.append(
            LockedPackage(
                name=name,
                version=version,
                manager=manager,
                platform=platform,
                url=conda if manager == "conda" else draw(st.sampled_from((wheel, wheel, sdist))),
                sha256=draw(hexes),
                md5=draw(hexes)[:32] if manager == "conda" else None,
                dependencies=needs,
                category=group,
                optional=group != "main",
            )
        )
    return rows


@st.composite
def sensible(draw: st.DrawFn) -> Lockfile:
    platforms = sorted(draw(st.sets(st.sampled_from((PLATFORM, "osx-arm64", "win-64")), min_size=1)))
    rows = [row for platform in platforms for row in draw(sensible_rows(platform, "main"))]
    taken = {(row.manager, row.name) for row in rows}
    extra = [row for platform in platforms for row in draw(sensible_rows(platform, "dev"))]
    rows += [row for row in extra if (row.manager, row.name) not in taken]
    # Two platforms share a noarch package or a wheel, and then its hash.
    by_url: dict[str, LockedPackage] = {}
    for index, row in enumerate(rows):
        same = by_url.setdefault(row.url, row)
        rows[index] = replace(row, sha256=same.sha256, md5=same.md5)
        if row.manager == "conda":
            rows[index] = replace(rows[index], dependencies=same.dependencies)
    return Lockfile(
        packages=tuple(rows),
        channels=(LockedChannel(url=FORGE),),
        platforms=tuple(platforms),
        sources=("environment.yml",),
        custom={
            "envforge.format": "1",
            "envforge.name": "demo",
            **{
                f"envforge.target.{p}": str(default_target(p))
                for p in draw(st.sets(st.sampled_from(platforms)))
            },
        },
    )


def facts(rows: Iterable[LockedPackage], *keys: str) -> set[tuple[object, ...]]:
    values = []
    for row in rows:
        plain = row.to_dict() | {
            "sha256": row.sha256,
            "md5": row.md5,
            "needs": tuple(sorted(row.dependencies.items())),
        }
        plain["name"] = canonical_name(row.name) if row.manager == "pip" else row.name
        values.append(tuple(plain[key] for key in keys))
    return set(values)


ALL = ("name", "version", "manager", "platform", "url", "sha256", "md5", "needs", "category", "optional")
WHERE = ("name", "platform", "url", "sha256")


@quick
@given(lockfile=sensible())
def test_pixi_holds_everything(lockfile: Lockfile) -> None:
    for version in pixi_lock.VERSIONS:
        written = export(lockfile, "pixi", ExportOptions(version=version))[0]
        if not lockfile.packages:
            continue
        back = lockfile_from(written.text)
        assert facts(back.packages, *ALL) == facts(lockfile.packages, *ALL)
        if version == 7:
            assert set(back.platforms) == set(lockfile.platforms)
            for platform in lockfile.platforms:
                assert back.target(platform) == lockfile.target(platform)


@pytest.mark.parametrize("name", ["pixi", "explicit"])
def test_conda_packages_that_differ_in_a_hyphen_are_two(name: str) -> None:
    """conda-forge has importlib-metadata and importlib_metadata; to PyPI they would be one."""
    rows = [conda_row(name) for name in ("importlib-metadata", "importlib_metadata")]
    lockfile = Lockfile(
        packages=tuple(rows), channels=(LockedChannel(url=FORGE),), platforms=(rows[0].platform,)
    )
    (written,) = export(lockfile, name, ExportOptions())
    assert all(row.filename in written.text for row in rows)
    if name == "pixi":
        assert facts(lockfile_from(written.text).packages, *WHERE) == facts(rows, *WHERE)


def test_what_no_standard_writes_is_said_to_be_lost() -> None:
    """Early versions of conda-lock wrote alternatives as Poetry does."""
    rows = [*pip("one 1.0", "two <4 || >5"), *pip("two 1.0", "one >=1,<2")]
    lockfile = Lockfile(packages=tuple(rows), channels=(LockedChannel(url=FORGE),), platforms=("linux-64",))
    (written,) = export(lockfile, "pixi", ExportOptions())
    assert [loss.packages for loss in written.losses if loss.what == NEEDED] == [("one",)]
    back = lockfile_from(written.text)
    assert not any(change.name == "two" for change in diff(lockfile, back).changes)
    assert {row.name: dict(row.dependencies) for row in back.packages}["one"] == {"two": "*"}


@quick
@given(lockfile=sensible(), groups=st.sampled_from((("main",), ("main", "dev"))))
def test_pylock_holds_all_of_the_pip_half(lockfile: Lockfile, groups: tuple[str, ...]) -> None:
    assume(set(groups) <= {"main", *(row.category for row in lockfile.packages)})
    for written in export(lockfile, "pylock", ExportOptions(groups=groups)):
        platform = written.platform or ""
        there = [row for row in lockfile.rows(platform, groups) if row.manager == "pip"]
        conda = {row.name for row in lockfile.rows(platform, groups) if row.manager == "conda"}
        assert (CONDA in kinds(written)) == bool(conda)
        if there:
            back = lockfile_from(written.text)
            assert facts(back.packages, *ALL) == facts(there, *ALL)
            assert back.name == "demo"
            if lockfile.target(platform):
                assert back.target(platform) == lockfile.target(platform)


@quick
@given(lockfile=sensible())
def test_requirements_hold_the_files_of_the_pip_half(lockfile: Lockfile) -> None:
    for written in export(lockfile, "requirements", ExportOptions()):
        there = [row for row in lockfile.rows(written.platform or "") if row.manager == "pip"]
        if there:
            back = lockfile_from(written.text)
            assert facts(back.packages, "version", *WHERE) == facts(there, "version", *WHERE)
            assert NEEDS in kinds(written)
            assert all(not row.dependencies for row in back.packages)


@quick
@given(lockfile=sensible(), md5=st.booleans())
def test_explicit_holds_urls_and_one_hash(lockfile: Lockfile, md5: bool) -> None:
    for written in export(lockfile, "explicit", ExportOptions(md5=md5)):
        platform = written.platform or ""
        rows = lockfile.rows(platform)
        conda = [row for row in rows if row.manager == "conda"]
        lock = read_lock(written.text, source="x")
        assert {(o.name, o.version, o.url, o.platform) for o in lock.conda} == facts(
            conda, "name", "version", "url", "platform"
        )
        assert {(o.name, o.md5 if md5 else o.sha256) for o in lock.conda} == facts(
            conda, "name", "md5" if md5 else "sha256"
        )
        assert {HASH, NEEDS} <= kinds(written) or not conda
        pip = [row for row in rows if row.manager == "pip"]
        assert (PYPI in kinds(written)) == bool(pip)
        assert {(o.name, o.files[0].url, o.files[0].sha256) for o in lock.pypi} == facts(
            pip, "name", "url", "sha256"
        )


@quick
@given(lockfile=sensible())
def test_explicit_comes_after_what_it_needs(lockfile: Lockfile) -> None:
    for written in export(lockfile, "explicit", ExportOptions()):
        rows = {row.name: row for row in lockfile.rows(written.platform or "") if row.manager == "conda"}
        order = [one.name for one in read_lock(written.text, source="x").conda]
        assert sorted(order) == sorted(rows)
        for row in rows.values():
            for name in row.dependencies.keys() & rows.keys() - {row.name}:
                assert order.index(name) < order.index(row.name) or needs(rows, name, row.name)


def needs(rows: dict[str, LockedPackage], name: str, other: str) -> bool:
    seen, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += rows[current].dependencies.keys() & rows.keys()
    return other in seen


@quick
@given(lockfile=sensible())
def test_an_environment_pins_versions_and_builds(lockfile: Lockfile) -> None:
    for written in export(lockfile, "environment", ExportOptions()):
        rows = lockfile.rows(written.platform or "")
        if not rows:
            continue
        lock = read_lock(written.text, source="x")
        assert {(o.name, o.version, o.build) for o in lock.conda} == {
            (row.name, row.version, row.build_string) for row in rows if row.manager == "conda"
        }
        assert {(o.name, o.version) for o in lock.pypi if not o.files} == {
            (row.name, row.version) for row in rows if row.manager == "pip" and row.url.startswith(FILES)
        }
        assert {HASHES, ORIGIN, NEEDS} <= kinds(written)
        assert lock.platforms == (written.platform,)


@quick
@given(lockfile=sensible(), groups=st.sampled_from((("main",), ("main", "dev"))))
def test_a_pipfile_lock_holds_versions_hashes_and_groups(lockfile: Lockfile, groups: tuple[str, ...]) -> None:
    assume(set(groups) <= {"main", *(row.category for row in lockfile.packages)})
    for written in export(lockfile, "pipfile", ExportOptions(groups=groups)):
        rows = [row for row in lockfile.rows(written.platform or "", groups) if row.manager == "pip"]
        lock = read_lock(written.text, source="x")
        assert {(o.name, o.files[0].sha256, o.groups) for o in lock.pypi} == {
            (row.name, row.sha256, (row.category,)) for row in rows
        }


# -- what the schema allows: any name, any version, rows without a hash --------------------------------------


@quick
@given(lockfile=lockfiles())
@example(lockfile=conda_lock.read(PLAIN.read_text(), source="plain"))
def test_any_lockfile_is_written_and_what_is_written_is_read(lockfile: Lockfile) -> None:
    groups = tuple({row.category: None for row in lockfile.packages} | {"main": None})
    for name in FORMATS:
        try:
            files = export(lockfile, name, ExportOptions(groups=groups))
        except InputError as error:  # which is an answer, too: one file cannot hold both
            if "locked differently in the groups" not in error.what:
                raise
            continue
        for written in files:
            _check(lockfile, written, groups, name)


def _check(lockfile: Lockfile, written: Written, groups: tuple[str, ...], name: str) -> None:
    rows = [
        row
        for row in lockfile.packages
        if row.category in groups and written.platform in (None, row.platform)
    ]
    lock = read_lock(written.text, source="x") if rows else ForeignLock(kind="none")
    found = {canonical_name(one.name) for one in lock.conda}
    found |= {canonical_name(one.name) for one in lock.pypi}
    missing = {canonical_name(row.name) for row in rows} - found
    named = {canonical_name(each) for each in lost_names(written)}
    assert missing <= named, f"{name} loses {missing - named} without a word"


@pytest.mark.parametrize("name", FORMATS)
def test_equal_lockfiles_give_equal_files(name: str) -> None:
    lockfile = conda_lock.read(PLAIN.read_text(), source="plain")
    shuffled = replace(lockfile, packages=tuple(reversed(lockfile.packages)))
    once: Callable[[Lockfile], list[str]] = lambda one: [w.text for w in export(one, name, ExportOptions())]  # noqa: E731
    assert once(lockfile) == once(shuffled)
