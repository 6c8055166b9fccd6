"""Where artifacts come from, what limits their versions, and which of them a person allows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from envforge.errors import EnvforgeError, InputError, UnsatisfiableError
from envforge.model.spec import Line

from ._index import Index, Wheel
from ._resolving import Ask, brings, versions


def failure(ask: Ask, *texts: str | Line, **request: object) -> EnvforgeError:
    with pytest.raises(EnvforgeError) as caught:
        ask(*texts, **request)  # type: ignore[arg-type]
    return caught.value


def limits(*texts: str) -> tuple[Line, ...]:
    return tuple(Line(text=text, at=f"limits.txt:{number}") for number, text in enumerate(texts, 1))


@pytest.fixture
def other(tmp_path: Path) -> Index:
    return Index(tmp_path / "other")


def test_a_constraint_limits_what_is_needed_and_asks_for_nothing(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("beta",)),
        *(Wheel(name="beta", version=version) for version in ("1.0", "2.0", "3.0")),
        Wheel(name="gamma", version="1.0"),
    )
    constraints = limits("Beta<3", "gamma==1.0", "beta<2; sys_platform == 'win32'")
    rows = ask("alpha", indexes=[index.file_url], constraints=constraints)
    assert versions(rows) == {"alpha": "1.0", "beta": "2.0"}
    assert rows[0].dependencies == {"beta": "*"}


def test_a_constraint_that_cannot_be_met_is_named_by_its_line(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta>=2",)), Wheel(name="beta", version="2.0"))
    error = failure(ask, "alpha", indexes=[index.file_url], constraints=limits("beta<2"))
    assert isinstance(error, UnsatisfiableError)
    assert "beta<2" in error.what
    assert error.at is not None
    assert "limits.txt:1" in error.at
    error = failure(
        ask, "beta", indexes=[index.file_url], constraints=limits("beta<2"), provided=(brings("beta", "2.0"),)
    )
    assert (error.what, error.at) == (
        "the constraint beta<2 is not met: conda's package beta brings 2.0",
        "beta<2 (limits.txt:1)",
    )


def test_a_constraint_on_what_conda_brings_and_nothing_needs(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    constraints = limits("beta<2")
    rows = ask("alpha", indexes=[index.file_url], constraints=constraints, provided=(brings("beta", "2.0"),))
    assert versions(rows) == {"alpha": "1.0"}


@pytest.mark.parametrize("kind", ["folder", "page", "server"])
def test_artifacts_of_a_folder_or_a_page_beside_the_index(
    index: Index, other: Index, ask: Ask, kind: str
) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta",)), Wheel(name="beta", version="1.0"))
    other.add(beta := Wheel(name="beta", version="2.0"))
    page = other.root / "simple" / "beta" / "index.html"
    if kind == "server":
        with other.served() as url:
            rows = ask("alpha", indexes=[index.file_url], find_links=[f"{url}/beta/"])
    else:
        place = other.root / "files" if kind == "folder" else page
        rows = ask("alpha", indexes=[index.file_url], find_links=[place.as_uri()])
    assert versions(rows) == {"alpha": "1.0", "beta": "2.0"}
    assert rows[1].filename == beta.filename
    assert rows[1].sha256 == beta.sha256


def test_a_folder_of_artifacts_that_is_not_there(index: Index, ask: Ask, tmp_path: Path) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    error = failure(ask, "alpha", indexes=[index.file_url], find_links=[(tmp_path / "no").as_uri()])
    assert isinstance(error, InputError)
    assert error.at == str(tmp_path / "no")


@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_a_project_is_taken_from_its_own_index_and_others_are_not(
    index: Index, other: Index, ask: Ask, *, served: bool
) -> None:
    index.add(
        *(Wheel(name=name, version="9.0") for name in ("own", "common")),
        Wheel(name="alpha", version="1.0", requires=("own", "common")),
    )
    other.add(*(Wheel(name=name, version="1.0") for name in ("own", "common", "alpha-two")))
    if served:
        with other.served() as url:
            rows = ask("alpha", "own>=1", indexes=[index.file_url], index_of={"own": url})
    else:
        rows = ask("alpha", "own>=1", indexes=[index.file_url], index_of={"own": other.file_url})
    assert versions(rows) == {"alpha": "1.0", "common": "9.0", "own": "1.0"}


def test_a_project_that_only_others_need_is_taken_from_its_own_index(
    index: Index, other: Index, ask: Ask
) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("public[x]", "private>=1")),
        Wheel(name="public", version="9.0", extras=("x",)),
        Wheel(name="unneeded", version="9.0"),
    )
    other.add(
        Wheel(name="public", version="1.0", extras=("x",), requires=('deep; extra == "x"',)),
        Wheel(name="private", version="1.0"),
        Wheel(name="deep", version="1.0"),
        Wheel(name="unneeded", version="1.0"),
    )
    pins = dict.fromkeys(("public", "private", "deep", "unneeded"), other.file_url)
    found = ask("alpha", indexes=[index.file_url], index_of=pins)
    assert versions(found) == {"alpha": "1.0", "deep": "1.0", "private": "1.0", "public": "1.0"}
    # What the lock that is renewed has may be needed no longer.
    kept = (("unneeded", "1.0"), *((row.name, row.version) for row in found))
    assert ask("alpha", indexes=[index.file_url], index_of=pins, preferred=kept) == found


def test_an_index_of_its_own_where_the_other_is_a_folder(index: Index, other: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("beta",)), Wheel(name="beta", version="9.0"))
    other.add(Wheel(name="beta", version="1.0"))
    folder = (index.root / "files").as_uri()
    for place in (other.file_url, (other.root / "files").as_uri()):
        rows = ask("alpha", "beta<9", indexes=[folder], index_of={"beta": place})
        assert versions(rows) == {"alpha": "1.0", "beta": "1.0"}


def test_what_conda_brings_is_asked_of_no_index(index: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires=("torch>=2",)))
    nowhere = {"torch": "http://127.0.0.1:9/simple"}
    rows = ask(
        "alpha", "torch", indexes=[index.file_url], index_of=nowhere, provided=(brings("torch", "2.1"),)
    )
    assert versions(rows) == {"alpha": "1.0"}


def test_the_login_of_an_index_of_its_own_is_used_and_not_locked(
    index: Index, other: Index, ask: Ask
) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    other.add(Wheel(name="own", version="1.0"))
    other.login = "user:secret"
    with other.served() as url:
        rows = ask("alpha", "own", indexes=[index.file_url], index_of={"own": url})
    assert "secret" not in repr(rows)
    assert versions(rows) == {"alpha": "1.0", "own": "1.0"}


def test_an_index_of_its_own_that_lacks_the_project(index: Index, other: Index, ask: Ask) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    other.add(Wheel(name="beta", version="1.0"))
    error = failure(ask, "alpha", indexes=[index.file_url], index_of={"alpha": other.file_url})
    assert error.what == f"no package alpha in {other.file_url}"
    assert error.at == "environment.yml:1"


def test_only_artifacts_with_a_hash_that_was_written(index: Index, ask: Ask) -> None:
    pure = Wheel(name="alpha", version="1.0")
    best = Wheel(name="alpha", version="1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    index.add(pure, best)
    for allowed, chosen in (((pure,), pure), ((pure, best), best)):
        hashes = tuple(f"sha256:{wheel.sha256}" for wheel in allowed)
        line = Line(text="alpha==1.0", at="requirements.txt:3", hashes=(*hashes, f"sha256:{'0' * 64}"))
        assert ask(line, indexes=[index.file_url])[0].filename == chosen.filename
    sha512 = hashlib.sha512(pure.content).hexdigest()
    line = Line(text="alpha==1.0", at="requirements.txt:3", hashes=(f"SHA512:{sha512.upper()}",))
    assert ask(line, indexes=[index.file_url])[0].filename == pure.filename


def test_no_artifact_with_a_hash_that_was_written(index: Index, ask: Ask) -> None:
    index.add(wheel := Wheel(name="alpha", version="1.0"))
    line = Line(text="alpha", at="requirements.txt:3", hashes=(f"sha256:{'0' * 64}",))
    error = failure(ask, line, indexes=[index.file_url])
    assert error.what.startswith("no artifact of alpha 1.0 that fits linux-64")
    assert error.at == "requirements.txt:3"
    assert f"--hash=sha256:{wheel.sha256}" in str(error.do)
    # A constraint counts, too, and so does what the URL itself says.
    limit = Line(text="alpha", at="limits.txt:1", hashes=(f"sha256:{'0' * 64}",))
    assert failure(ask, "alpha", indexes=[index.file_url], constraints=(limit,)).at == "limits.txt:1"
    url = (index.root / "files" / wheel.filename).as_uri()
    assert ask(f"alpha @ {url}#sha256={wheel.sha256}", indexes=[index.file_url])[0].sha256 == wheel.sha256
    error = failure(ask, f"alpha @ {url}#sha256={'0' * 64}", indexes=[index.file_url])
    assert error.at == "environment.yml:1"


@pytest.mark.parametrize("text", ["md5:" + "0" * 32, "sha256:12", "sha256:" + "x" * 64, "", "sha1:00"])
def test_what_is_no_hash_is_refused(index: Index, ask: Ask, text: str) -> None:
    index.add(Wheel(name="alpha", version="1.0"))
    error = failure(ask, Line(text="alpha", at="r.txt:3", hashes=(text,)), indexes=[index.file_url])
    assert isinstance(error, InputError)
    assert error.at == "r.txt:3"


def test_pre_releases_of_every_project(index: Index, ask: Ask) -> None:
    index.add(
        Wheel(name="alpha", version="1.0", requires=("beta",)),
        *(Wheel(name="beta", version=version) for version in ("1.0", "2.0rc1")),
    )
    assert versions(ask("alpha", indexes=[index.file_url]))["beta"] == "1.0"
    assert versions(ask("alpha", indexes=[index.file_url], prerelease=True))["beta"] == "2.0rc1"
