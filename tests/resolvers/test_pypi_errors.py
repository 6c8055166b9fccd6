from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from envforge.errors import CouldNotError, EnvforgeError, InputError, UnsatisfiableError
from envforge.resolvers.pypi import compiler

from ._index import Index, Wheel
from ._resolving import Ask, brings, target

INSTEAD = "take alpha from conda: write it outside pip:; or build it: envforge lock --no-binary alpha"


def failure(ask: Ask, *texts: str, **request: Any) -> EnvforgeError:
    with pytest.raises(EnvforgeError) as caught:
        ask(*texts, **request)
    error = caught.value
    assert "\n" not in f"{error.what}{error.at}{error.do}"
    assert "Traceback" not in (error.story or "")
    return error


def test_a_direct_clash_with_conda_names_both(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="numpy", version="2.2"))
    error = failure(
        ask,
        "six",
        "numpy>=2",
        indexes=[index.file_url],
        provided=(brings("numpy", "1.26.4"), brings("six", "1")),
    )
    assert isinstance(error, UnsatisfiableError)
    assert error.what == "numpy>=2 is required, but conda's package numpy brings 1.26.4"
    assert error.at == "numpy>=2 (environment.yml:2)"
    assert error.do == "ask conda for a numpy that fits, take both from conda, or relax the requirement"
    assert error.story is not None
    assert "No solution found" in error.story


def test_a_transitive_clash_names_who_requires_it(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("mid",)),
        Wheel(name="mid", version="1.0", requires=("numpy>=2,<3",)),
    )
    error = failure(
        ask, "alpha", indexes=[index.file_url], provided=(brings("numpy", "1.26.4", conda="numpy-base"),)
    )
    assert error.what == "mid needs numpy>=2,<3, but conda's package numpy-base brings numpy 1.26.4"
    assert error.at == "alpha (environment.yml:1) → mid → numpy>=2,<3"
    assert isinstance(error, UnsatisfiableError)


def test_a_clash_of_every_version(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("numpy>=2,<3",)),
        Wheel(name="alpha", version="1.1", requires=("numpy>=2.5,<3",)),
    )
    error = failure(ask, "alpha", indexes=[index.file_url], provided=(brings("numpy", "1.26.4"),))
    assert re.fullmatch(r"alpha needs numpy>=2\S*, but conda's package numpy brings 1\.26\.4", error.what)
    assert error.at == "alpha (environment.yml:1) → numpy>=2,<3"


def test_of_several_that_have_no_wheel_that_of_the_newest_version_is_named(index: Index, ask: Ask) -> None:
    for version, needed in (("1.0", "old"), ("2.0", "old"), ("3.0", "new")):
        index.add(Wheel(name="alpha", version=version, requires=(needed,)))
    index.add_sdist("old", "1.0")
    index.add_sdist("new", "1.0")
    error = failure(ask, "alpha", indexes=[index.file_url])
    assert error.what.startswith("no wheel of new, which alpha needs, fits")


def test_a_clash_with_a_version_that_is_left_out(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("numpy>=1,!=1.26.4,!=1.27,<3",)))
    error = failure(ask, "alpha", indexes=[index.file_url], provided=(brings("numpy", "1.26.4"),))
    assert error.what == "alpha needs numpy>=1,!=1.26.4,!=1.27,<3, but conda's package numpy brings 1.26.4"


@pytest.mark.parametrize(
    ("texts", "what", "do"),
    [
        (("alpha==9",), "no version of alpha==9 is in INDEX", "ask for another version of alpha"),
        (("alpha>=2,<1",), "no version can be alpha>=2,<1", "correct it: it contradicts itself"),
        (("alpha==1", "alpha==2"), "no version can be alpha==1 and alpha==2", "leave all but one out"),
    ],
)
def test_versions_that_are_not_there(
    index: Index, ask: Ask, texts: tuple[str, ...], what: str, do: str
) -> None:
    index.add(Wheel(name="alpha", version="1"), Wheel(name="alpha", version="2"))
    error = failure(ask, *texts, indexes=[index.file_url])
    assert (error.what, error.do) == (what.replace("INDEX", index.file_url), do)


def test_a_wheel_by_url_of_what_conda_brings(index: Index, ask: Ask) -> None:
    error = failure(
        ask,
        "numpy @ https://me:pw@example.org/numpy-2.0-py3-none-any.whl",
        indexes=[index.root.as_uri().removesuffix("index")],
        provided=(brings("numpy", "2.0"),),
    )
    assert isinstance(error, UnsatisfiableError)
    assert "conda's package numpy brings 2.0" in error.what
    assert "pw" not in error.what


@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_an_unknown_package(index: Index, ask: Ask, *, served: bool) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    if served:
        with index.served() as url:
            error = failure(ask, "alpha", "nowhere>=1", indexes=[url])
    else:
        url = index.file_url
        error = failure(ask, "alpha", "nowhere>=1", indexes=[url])
    assert isinstance(error, UnsatisfiableError)
    assert error.what == f"no package nowhere in {url}"
    assert error.at == "environment.yml:2"


def test_an_unknown_package_that_another_needs(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("nowhere>=1",)))
    error = failure(ask, "alpha", indexes=[index.file_url])
    assert error.what == f"no package nowhere in {index.file_url}, which alpha needs"
    assert error.at == "environment.yml:1"


def test_requirements_that_exclude_each_other(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("gamma<2",)),
        Wheel(name="beta", version="1.0", requires=("gamma>=2",)),
        *(Wheel(name="gamma", version=version) for version in ("1.0", "2.0")),
    )
    error = failure(ask, "alpha", "beta", indexes=[index.file_url])
    assert isinstance(error, UnsatisfiableError)
    assert error.what == "alpha needs gamma<2, and beta needs gamma>=2"
    assert error.at == "environment.yml:1, environment.yml:2"
    error = failure(ask, "gamma>3", indexes=[index.file_url])
    assert error.what == f"no version of gamma>3 is in {index.file_url}"
    assert error.do == "ask for one that is there: gamma<=2.0"
    error = failure(ask, "alpha", "gamma>=2", indexes=[index.file_url])
    assert error.what == "alpha needs gamma<2, and gamma>=2 is required"


def test_all_projects_that_no_index_has_are_named_at_once(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    error = failure(ask, "one", "alpha", "two", indexes=[index.file_url])
    assert error.what == f"no package one in {index.file_url}; no package two in {index.file_url}"
    assert error.at == "environment.yml:1, environment.yml:3"


def test_a_wheel_that_wants_another_from_a_url(index: Index, ask: Ask) -> None:
    wanted = "beta @ https://example.org/beta-1-py3-none-any.whl"
    index.add(Wheel(name="alpha", version="1.0", requires=(wanted,)))
    error = failure(ask, "alpha", indexes=[index.file_url])
    assert isinstance(error, InputError)
    assert error.what == "beta is needed from a URL, and you have not said so"
    assert wanted in str(error.do)


@pytest.mark.parametrize(
    "wheels",
    [
        [Wheel(name="alpha", version="1.0", tag="cp311-cp311-manylinux_2_34_x86_64")],
        [Wheel(name="alpha", version="1.0", tag="cp312-cp312-manylinux_2_17_x86_64")],
        [Wheel(name="alpha", version="1.0", tag="cp311-cp311-win_amd64")],
    ],
    ids=["glibc", "python", "system"],
)
def test_no_wheel_fits_the_target(index: Index, ask: Ask, wheels: list[Wheel]) -> None:
    index.add(*wheels)
    error = failure(ask, "alpha>=1", indexes=[index.file_url])
    assert isinstance(error, UnsatisfiableError)
    assert error.what == "no wheel of alpha>=1 fits linux-64 with glibc 2.28 and Python 3.11.14"
    assert (error.at, error.do) == ("environment.yml:1", INSTEAD)


def test_an_sdist_is_not_taken(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="beta", version="1.0", requires=("alpha",)))
    index.add_sdist("alpha", "1.0")
    error = failure(ask, "beta", indexes=[index.file_url])
    assert error.what.startswith("no wheel of alpha, which beta needs, fits linux-64 with glibc 2.28")
    assert error.do == INSTEAD


def test_a_wheel_that_uv_took_for_another_glibc_is_refused(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", tag="cp311-cp311-manylinux_2_28_ppc64le"))
    where = target("linux-ppc64le", "__glibc=2.17")
    error = failure(ask, "alpha", indexes=[index.file_url], where=where)
    assert isinstance(error, UnsatisfiableError)
    assert error.what.startswith("no wheel of alpha")
    assert "glibc 2.17" in error.what


def test_another_python_is_needed(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires_python=">=3.12"))
    error = failure(ask, "alpha", indexes=[index.file_url])
    assert isinstance(error, UnsatisfiableError)
    assert error.what == "alpha needs Python >=3.12, and it is 3.11.14"


def test_an_extra_that_does_not_exist(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", extras=("fast", "slow")))
    error = failure(ask, "alpha[fats]", indexes=[index.file_url])
    assert isinstance(error, UnsatisfiableError)
    assert (error.what, error.at) == ("alpha has no extra 'fats'", "environment.yml:1")
    assert error.do == "leave [fats] out, or ask for another version; it has: fast, …"


def test_an_extra_that_another_package_asks_for_in_vain_is_as_pip_has_it(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta[gone]",)), Wheel(name="beta", version="1.0"))
    assert len(ask("alpha", indexes=[index.file_url])) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("alpha===", "is not a requirement"),
        ("alpha beta", "is not a requirement"),
        ("alpha>=1; pyhton_version > '3'", "is not a requirement"),
        ("alpha\n-r /etc/passwd", "is not a requirement"),
        ("-e .", "is neither a project"),
        ("./alpha-1.0-py3-none-any.whl", "is neither a project"),
        ("git+https://example.org/alpha", "is neither a project"),
        ("alpha @ git+https://u:s3cret@example.org/alpha", "is neither a project"),
        ("alpha @ https://example.org/alpha-1.0.tar.gz", "is neither a project"),
    ],
)
def test_no_requirement(ask: Ask, text: str, what: str) -> None:
    error = failure(ask, "six", text, indexes=["http://127.0.0.1:9/simple"])
    assert isinstance(error, InputError)
    assert what in error.what
    assert error.at == "environment.yml:2"
    assert error.do
    assert "s3cret" not in error.what


@pytest.mark.parametrize("url", ["pypi", "/no/such", "ftp://example.org/simple", "http://a b/simple"])
def test_an_index_that_is_no_url(ask: Ask, url: str) -> None:
    error = failure(ask, "alpha", indexes=[url])
    assert isinstance(error, InputError)
    assert "is not the URL of an index" in error.what


def test_an_index_directory_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    error = failure(ask, "alpha", indexes=[(tmp_path / "nowhere").as_uri()])
    assert isinstance(error, InputError)
    assert error.at == str(tmp_path / "nowhere")


def test_nobody_answers(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_RETRIES", 0)
    error = failure(ask, "alpha", indexes=["http://me:s3cret@127.0.0.1:9/simple"])
    assert isinstance(error, CouldNotError)
    assert error.what == "no connection to 127.0.0.1"
    assert error.at is not None
    assert error.at.endswith("127.0.0.1:9/simple/alpha/")
    assert "s3cret" not in f"{error.at}{error.story}"


@pytest.mark.parametrize(
    ("path", "status", "what"),
    [
        ("/simple/", 500, "127.0.0.1 answered 500"),
        ("/simple/", 403, "the index answered 403 Forbidden"),
        ("/simple/", 401, "the index answered 401 Unauthorized"),
        ("/files/", 404, "127.0.0.1 answered 404"),
        ("/files/", 500, "127.0.0.1 answered 500"),
    ],
)
def test_a_server_that_refuses(
    index: Index, ask: Ask, monkeypatch: pytest.MonkeyPatch, path: str, status: int, what: str
) -> None:
    monkeypatch.setattr(compiler, "_RETRIES", 0)
    index.add(Wheel(name="alpha", version="1.0"))
    index.statuses = {path: status}
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url])
    assert isinstance(error, CouldNotError)
    assert error.what == what
    assert error.at is not None
    assert error.at.startswith("http://127.0.0.1:")


def test_a_wrong_password_does_not_leak(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    index.login = "me:right"
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url.replace("right", "s3cret")])
    assert isinstance(error, CouldNotError)
    assert error.what == "the index answered 401 Unauthorized"
    assert "s3cret" not in f"{error.what}{error.at}{error.do}{error.story}"


def test_an_unknown_package_does_not_leak_the_password(index: Index, ask: Ask) -> None:
    index.login = "me:s3cret"
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url])
    assert "s3cret" not in f"{error.what}{error.at}{error.do}{error.story}"


@pytest.mark.parametrize("kind", ["text/html", "application/vnd.pypi.simple.v1+json", "text/plain"])
def test_garbage_for_a_page(index: Index, ask: Ask, kind: str) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    index.bodies = {"/simple/alpha/": (kind, b"\x00{ garbage <a")}
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url])
    assert "garbage" not in error.what
    assert "simple index (PEP 503)" in (error.do or "")


def test_garbage_for_a_wheel(tmp_path: Path, ask: Ask) -> None:
    index = Index(tmp_path / "bare", metadata=False).add(alpha := Wheel(name="alpha", version="1.0"))
    index.bodies = {f"/files/{alpha.filename}": ("application/zip", b"garbage")}
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url])
    assert isinstance(error, CouldNotError)
    assert "alpha" in error.what


def test_offline_and_not_in_the_cache(index: Index, ask: Ask) -> None:
    index.add(alpha := Wheel(name="alpha", version="1.0"))
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url], offline=True)
        assert index.asked == []
    assert isinstance(error, CouldNotError)
    assert "not in the cache, and --offline forbids to fetch it" in error.what
    assert alpha.name in error.what


def test_a_cutoff_before_everything(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", uploaded="2025-01-01T00:00:00Z"))
    with index.served() as url:
        error = failure(ask, "alpha", indexes=[url], exclude_newer="2024-01-01")
    assert error.what == "no version of alpha that fits is known to be older than 2024-01-01"
    error = failure(ask, "alpha", indexes=[index.file_url], exclude_newer="2026-01-01")
    assert error.what.endswith("2026-01-01: the index gives no upload times")


def test_a_cache_that_cannot_be_written(index: Index, ask: Ask, tmp_path: Path) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    (tmp_path / "cache").write_text("a file")
    for provided in ((), (brings("beta", "1.0"),)):
        error = failure(ask, "alpha", indexes=[index.file_url], provided=provided)
        assert isinstance(error, CouldNotError)
