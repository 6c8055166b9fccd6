from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.edges.fetch import Fetcher
from envforge.errors import CouldNotError, EnvforgeError, UnsatisfiableError
from envforge.resolvers.pypi.metadata import wheel_metadata
from envforge.resolvers.pypi.request import ProvidedDistribution

from ._index import Index, Wheel
from ._resolving import Ask, brings, target, versions

MANY = "cp311-cp311-manylinux_2_{}_{}"


@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_a_row_names_one_wheel_its_hash_and_what_it_needs(index: Index, ask: Ask, *, served: bool) -> None:
    index.add(
        Wheel(
            name="alpha",
            version="1.0",
            requires=("Beta_Lib>=2,<3", "gamma", 'winonly; sys_platform == "win32"'),
        ),
        Wheel(name="beta-lib", version="2.5"),
        Wheel(name="beta-lib", version="3.0"),
        gamma := Wheel(name="gamma", version="0.1"),
    )
    if served:
        with index.served() as url:
            rows = ask("alpha", indexes=[url])
        root = url.removesuffix("/simple")
    else:
        rows = ask("alpha", indexes=[index.file_url])
        root = index.root.as_uri()
    assert versions(rows) == {"alpha": "1.0", "beta-lib": "2.5", "gamma": "0.1"}
    assert rows[0].dependencies == {"beta-lib": "<3,>=2", "gamma": "*"}
    assert rows[2].url == f"{root}/files/{gamma.filename}"
    assert rows[2].sha256 == gamma.sha256
    assert {row.manager for row in rows} == {"pip"}
    assert {row.platform for row in rows} == {"linux-64"}


def test_the_wheel_is_for_the_target_and_not_for_the_host(index: Index, ask: Ask) -> None:
    index.add(*(Wheel(name="alpha", version="1.0", tag=tag) for tag in (
        MANY.format(17, "x86_64"), MANY.format(17, "aarch64"), "cp311-cp311-macosx_11_0_arm64",
        "cp311-cp311-macosx_14_0_arm64", "cp311-cp311-win_amd64", "cp312-cp312-manylinux_2_17_aarch64",
    )))  # fmt: skip
    found = {
        platform: ask("alpha", indexes=[index.file_url], where=target(platform))[0].filename
        for platform in ("linux-64", "linux-aarch64", "osx-arm64", "win-64")
    }
    assert found == {
        "linux-64": "alpha-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
        "linux-aarch64": "alpha-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "osx-arm64": "alpha-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        "win-64": "alpha-1.0-cp311-cp311-win_amd64.whl",
    }
    newer = ask("alpha", indexes=[index.file_url], where=target("osx-arm64", "__osx=14.0"))
    assert newer[0].filename == "alpha-1.0-cp311-cp311-macosx_14_0_arm64.whl"


def test_an_older_version_where_the_newer_needs_a_newer_glibc(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", tag=MANY.format(17, "x86_64")),
        Wheel(name="alpha", version="2.0", tag=MANY.format(28, "x86_64")),
    )
    chosen = {
        glibc: ask("alpha", indexes=[index.file_url], where=target("linux-64", f"__glibc={glibc}"))[0].version
        for glibc in ("2.17", "2.27", "2.28", "2.30", "2.39")
    }
    assert chosen == {"2.17": "1.0", "2.27": "1.0", "2.28": "2.0", "2.30": "2.0", "2.39": "2.0"}


def test_the_most_specific_wheel_of_several(index: Index, ask: Ask) -> None:
    tags = [
        "py3-none-any",
        "cp37-abi3-manylinux_2_17_x86_64",
        MANY.format(17, "x86_64"),
        "cp311-cp311-linux_x86_64",
    ]
    for count in range(len(tags)):
        index.add(*(Wheel(name=f"alpha{count}", version="1.0", tag=tag) for tag in tags[: count + 1]))
    rows = ask("alpha0", "alpha1", "alpha2", "alpha3", indexes=[index.file_url])
    assert [row.filename.partition("-1.0-")[2] for row in rows] == [
        "py3-none-any.whl",
        "cp37-abi3-manylinux_2_17_x86_64.whl",
        "cp311-cp311-manylinux_2_17_x86_64.whl",
        "cp311-cp311-manylinux_2_17_x86_64.whl",
    ]


def test_the_python_version_is_the_full_one(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires_python=">=3.8"),
        Wheel(name="alpha", version="2.0", requires_python=">=3.11.5"),
    )
    found = [ask("alpha", indexes=[index.file_url], python=p)[0].version for p in ("3.11.4", "3.11.14")]
    assert found == ["1.0", "2.0"]


def test_markers_are_those_of_the_target(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(
            name="alpha",
            version="1.0",
            requires=(
                'arm; platform_machine == "aarch64"',
                'intel; platform_machine == "x86_64"',
                'patch; python_full_version >= "3.11.10"',
                'release; platform_release >= "9"',
            ),
        ),
        *(Wheel(name=name, version="1") for name in ("arm", "intel", "patch", "release", "windows")),
    )
    texts = ("alpha", 'windows; sys_platform == "win32"', 'nothing; extra == "x"')
    rows = ask(*texts, indexes=[index.file_url], where=target("linux-aarch64"))
    assert versions(rows) == {"alpha": "1.0", "arm": "1", "patch": "1"}
    assert rows[0].dependencies == {"arm": "*", "patch": "*"}
    assert versions(ask(*texts, indexes=[index.file_url], where=target("win-64"), python="3.11.1")) == {
        "alpha": "1.0",
        "windows": "1",
    }


def test_nothing_asked_is_nothing_locked(ask: Ask) -> None:
    assert ask('alpha; sys_platform == "win32"', indexes=["http://127.0.0.1:9/simple"]) == ()


def test_extras_bring_what_they_need_and_the_rows_say_so(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(
            name="alpha",
            version="1.0",
            extras=("all", "fast-io", "slow"),
            requires=(
                'alpha[Fast_IO]; extra == "all"',
                'beta>=1; extra == "fast-io"',
                'beta<9; extra == "fast-io"',
                'gamma; extra == "slow"',
            ),
        ),
        Wheel(name="beta", version="1.0"),
        Wheel(name="gamma", version="1.0"),
        Wheel(name="delta", version="1.0", requires=("alpha[slow]",)),
    )
    rows = ask("alpha[all]", indexes=[index.file_url])
    assert versions(rows) == {"alpha": "1.0", "beta": "1.0"}
    assert rows[0].dependencies == {"beta": "<9,>=1"}
    rows = ask("delta", indexes=[index.file_url])
    assert rows[0].dependencies == {"gamma": "*"}


def test_what_conda_brings_is_neither_resolved_nor_locked(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("numpy>=1.20", "Typing_Extensions")),
        Wheel(name="numpy", version="2.2", requires=("leak",)),
        Wheel(name="leak", version="1.0"),
    )
    rows = ask(
        "alpha",
        "numpy<2",
        "pytz",
        indexes=[index.file_url],
        provided=(
            brings("numpy", "1.26.4", conda="numpy-base"),
            brings("typing_extensions", "4.12.2"),
            brings("pytz", "2024.99"),
            brings("unused", "0+unknown"),
            brings("not-python", "2024abc"),
        ),
    )
    assert versions(rows) == {"alpha": "1.0"}
    assert rows[0].dependencies == {"numpy": ">=1.20", "typing-extensions": "*"}


@pytest.mark.parametrize(
    "version", ["2.9.0", "1.0.post1", "2.1.0+cu118", "1!3", "3.0rc1", "2024c", "1.0.dev3"]
)
def test_versions_as_conda_writes_them(index: Index, ask: Ask, version: str) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta",)))
    rows = ask("alpha", "beta", indexes=[index.file_url], provided=(brings("beta", version),))
    assert versions(rows) == {"alpha": "1.0"}


def test_two_conda_packages_that_bring_the_same(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("dask==2.0",)))
    provided = (brings("dask", "1.0", conda="dask-core"), brings("dask", "2.0", conda="dask"))
    for order in (provided, provided[::-1]):
        assert versions(ask("alpha", indexes=[index.file_url], provided=order)) == {"alpha": "1.0"}


def test_an_older_version_where_the_newer_clashes_with_conda(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("numpy<2",)),
        Wheel(name="alpha", version="2.0", requires=("numpy>=2",)),
    )
    rows = ask("alpha", indexes=[index.file_url], provided=(brings("numpy", "1.26.4"),))
    assert versions(rows) == {"alpha": "1.0"}


DASK = """\
Metadata-Version: 2.1
Name: dask
Version: 2.0
Provides-Extra: Distributed
Requires-Dist: cloudpickle
Requires-Dist: distributed<3; extra == "distributed"
Requires-Dist: winthing; extra == "distributed" and sys_platform == "win32"

Requires-Dist: not-a-header
"""


@pytest.mark.parametrize("texts", [("dask[distributed]",), ("alpha",)], ids=["direct", "transitive"])
def test_an_extra_of_what_conda_brings(index: Index, ask: Ask, texts: tuple[str, ...]) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("dask[distributed]",)),
        Wheel(name="distributed", version="2.5"),
        Wheel(name="distributed", version="3.0"),
    )
    completed: list[str] = []

    def complete(one: ProvidedDistribution) -> ProvidedDistribution:
        completed.append(one.name)
        return replace(one, metadata=DASK)

    provided = (brings("dask", "2.0", conda="dask-core"), brings("numpy", "1.0"))
    rows = ask(*texts, indexes=[index.file_url], provided=provided, complete=complete)
    assert versions(rows)["distributed"] == "2.5"
    assert "dask" not in versions(rows)
    assert completed == ["dask"]
    known = (brings("dask", "2.0", metadata=DASK),)
    assert rows == ask(*texts, indexes=[index.file_url], provided=known)


@pytest.mark.parametrize(
    ("metadata", "error", "what"),
    [
        (
            DASK,
            UnsatisfiableError,
            "dask 2.0, as conda's dask-core brings it, has no extra 'array', which alpha asks for",
        ),
        (
            None,
            CouldNotError,
            "what dask[array] needs cannot be looked up: the files of conda's dask-core cannot be read",
        ),
    ],
)
def test_an_extra_that_conda_has_not(
    index: Index, ask: Ask, metadata: str | None, error: type[EnvforgeError], what: str
) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("dask[array]",)))
    with pytest.raises(error) as caught:
        ask(
            "alpha",
            indexes=[index.file_url],
            provided=(brings("dask", "2.0", conda="dask-core"),),
            complete=lambda one: replace(one, metadata=metadata),
        )
    assert what in caught.value.what


def test_preferred_versions_are_kept_where_they_fit(index: Index, ask: Ask) -> None:
    for name in ("alpha", "beta", "gamma"):
        index.add(*(Wheel(name=name, version=version) for version in ("1.0", "1.1", "2.0")))
    rows = ask(
        "alpha",
        "beta>=2",
        "gamma",
        indexes=[index.file_url],
        preferred=(("Alpha", "1.1"), ("beta", "1.0"), ("gone", "3.0"), ("gamma", "not a version")),
    )
    assert versions(rows) == {"alpha": "1.1", "beta": "2.0", "gamma": "2.0"}


def test_exclude_newer(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", uploaded="2025-01-01T00:00:00Z"),
        Wheel(name="alpha", version="2.0", uploaded="2025-06-01T23:00:00Z"),
        Wheel(name="alpha", version="3.0", uploaded="2025-06-02T01:00:00Z"),
    )
    with index.served() as url:
        found = [
            ask("alpha", indexes=[url], exclude_newer=moment)[0].version
            for moment in ("2025-05-31", "2025-06-01", "2025-06-02T02:00:00+01:00", "2025-06-03T00:00:00Z")
        ]
    assert found == ["1.0", "2.0", "2.0", "3.0"]


def test_prereleases_only_where_allowed(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"), Wheel(name="alpha", version="2.0rc1"))
    assert ask("alpha", indexes=[index.file_url])[0].version == "1.0"
    assert ask("alpha", indexes=[index.file_url], prerelease=True)[0].version == "2.0rc1"


def test_indexes_after_the_first_are_asked_before_it(tmp_path: Path, ask: Ask) -> None:
    main = Index(tmp_path / "main").add(Wheel(name="alpha", version="9.0"), Wheel(name="beta", version="1.0"))
    own = Index(tmp_path / "own").add(Wheel(name="alpha", version="1.0"))
    rows = ask("alpha", "beta", indexes=[main.file_url, own.file_url])
    assert versions(rows) == {"alpha": "1.0", "beta": "1.0"}


def test_a_directory_of_wheels_is_an_index(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    rows = ask("alpha", indexes=[(index.root / "files").as_uri()])
    assert rows[0].sha256 == index.files["alpha"][0].sha256


def test_a_wheel_by_url(index: Index, ask: Ask) -> None:
    index.add(
        alpha := Wheel(name="alpha", version="1.0+x.1", requires=("beta",)), Wheel(name="beta", version="1")
    )
    with index.served() as url:
        wheel = f"{url.removesuffix('/simple')}/files/{alpha.filename}"
        rows = ask(f"alpha @ {wheel}#sha256={alpha.sha256}", indexes=[url])
        assert (rows[0].url, rows[0].sha256, rows[0].version) == (wheel, alpha.sha256, "1.0+x.1")
        assert versions(rows) == {"alpha": "1.0+x.1", "beta": "1"}
    local = (index.root / "files" / alpha.filename).as_uri()
    assert ask(f"alpha @ {local}", indexes=[index.file_url])[0].url == local


@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
@pytest.mark.parametrize("kind", ["none", "md5", "sha512"])
def test_an_index_without_sha256(tmp_path: Path, ask: Ask, kind: str, *, served: bool) -> None:
    index = Index(tmp_path / "bare", hash_kind=kind, metadata=False)
    index.add(
        alpha := Wheel(name="alpha", version="1.0", requires=("beta",)), Wheel(name="beta", version="1")
    )
    if served:
        with index.served() as url:
            rows = ask("alpha", indexes=[url])
    else:
        rows = ask("alpha", indexes=[index.file_url])
    assert rows[0].sha256 == alpha.sha256
    assert rows[0].dependencies == {"beta": "*"}


def test_offline_with_a_filled_cache(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    with index.served() as url:
        first = ask("alpha", indexes=[url])
        index.asked.clear()
        again = ask("alpha", indexes=[url], offline=True)
        assert [path for path in index.asked if path.startswith("/simple")] == []
    assert first == again


def test_credentials_reach_the_index_and_nothing_else(index: Index, ask: Ask, tmp_path: Path) -> None:
    index.login = "user:s3cret"
    index.add(Wheel(name="alpha", version="1.0", requires=("beta",)), Wheel(name="beta", version="1.0"))
    with index.served() as url:
        assert "s3cret" in url
        rows = ask("alpha", indexes=[url])
    assert versions(rows) == {"alpha": "1.0", "beta": "1.0"}
    assert not [row for row in rows if "s3cret" in row.url or "@" in row.url]


def test_stubs_do_not_grow_uvs_cache(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta",)))
    counts = []
    for _ in range(3):
        ask("alpha", indexes=[index.file_url], provided=(brings("beta", "1.0"),))
        counts.append(sum(1 for _ in ask.cache.rglob("*")))
    assert counts[1] == counts[2]


def test_the_same_request_gives_the_same_rows(index: Index, ask: Ask, tmp_path: Path) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("beta", "gamma")),
        Wheel(name="beta", version="1.0", requires=("gamma",)),
        Wheel(name="gamma", version="1.0"),
    )
    other = Ask(tmp_path / "other-cache", Fetcher())
    assert ask("alpha", "beta", indexes=[index.file_url]) == other("beta", "alpha", indexes=[index.file_url])


def test_no_interpreter_on_the_path_is_needed(
    index: Index, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    index.add(Wheel(name="alpha", version="1.0"))
    rows = ask("alpha", indexes=[index.file_url], python=f"3.{sys.version_info[1] + 1}.99")
    assert versions(rows) == {"alpha": "1.0"}


@pytest.mark.internet
def test_the_real_index_for_another_platform(ask: Ask) -> None:
    rows = ask(
        "numpy", "six", where=target("linux-aarch64", "__glibc=2.17"), exclude_newer="2025-06-01T00:00:00Z"
    )
    assert versions(rows) == {"numpy": "2.2.6", "six": "1.17.0"}
    assert rows[0].filename == "numpy-2.2.6-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    assert rows[0].url.startswith("https://files.pythonhosted.org/packages/")


@pytest.mark.internet
def test_the_real_index_beside_conda(ask: Ask) -> None:
    provided = tuple(
        brings(name, version)
        for name, version in (
            ("numpy", "1.26.4"),
            ("pandas", "2.2.3"),
            ("pytz", "2024.99"),
            ("six", "1.16.0"),
        )
    )
    rows = ask("seaborn", exclude_newer="2025-06-01T00:00:00Z", provided=provided)
    assert {"seaborn", "matplotlib"} <= versions(rows).keys()
    assert not {"numpy", "pandas", "pytz", "six"} & versions(rows).keys()


@pytest.mark.internet
def test_metadata_of_a_real_wheel(ask: Ask) -> None:
    row = ask("six==1.16.0")[0]
    assert "Name: six" in wheel_metadata(Fetcher(), row.url, row.sha256 or "")
