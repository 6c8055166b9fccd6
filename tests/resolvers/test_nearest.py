"""What would make a wheel fit, found among the files of an index."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.edges.fetch import Fetcher
from envforge.formats.simple_index import ListedFile, read_page
from envforge.lock.remedies import Circumstances, remedy, remedy_unknown
from envforge.resolvers.pypi.missing import NoWheelError, UnknownProjectError
from envforge.resolvers.pypi.nearest import Nearest, listed_files, nearest
from envforge.resolvers.pypi.places import Places
from envforge.resolvers.pypi.request import PypiRequest

from ._index import Index, Wheel
from ._resolving import target


def near(*names: str, versions: str = "", platform: str = "linux-64", python: str = "3.11.0") -> Nearest:
    files = []
    for name in names:
        filename, _, requires = name.partition(" ")
        files.append(ListedFile(filename=filename, requires_python=requires or None))
    request = PypiRequest(requirements=(), target=target(platform), python_version=python)
    return nearest(files, versions, request)


def test_a_glibc_a_macos_and_a_python_that_would_do() -> None:
    found = near("a-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", "a-2.0-cp311-cp311-manylinux_2_39_x86_64.whl")
    assert (found.glibc, found.macos) == ("2.34", None)
    found = near("a-1.0-cp311-cp311-macosx_14_0_arm64.whl", platform="osx-arm64")
    assert (found.glibc, found.macos) == (None, "14.0")
    found = near(*(f"a-1.0-cp3{n}-cp3{n}-manylinux_2_17_x86_64.whl" for n in (8, 12, 13)))
    assert (found.glibc, found.pythons) == (None, ("3.8", "3.12", "3.13"))
    assert near("a-1.0-py3-none-any.whl >=3.13").pythons[0] == "3.13"


def test_another_version_a_platform_and_a_source_distribution() -> None:
    old = "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert near(old, "a-2.0-cp311-cp311-manylinux_2_34_x86_64.whl", versions=">=2").version == "1.0"
    found = near("a-1.0-cp311-cp311-win_amd64.whl", "a-1.0.tar.gz")
    assert (found.platforms, found.sdist, found.version) == (("win-64",), True, None)
    assert near("a-1.0.tar.gz", versions=">1").sdist is False
    assert near() == Nearest()
    assert near("nonsense", "a-1.0-x.whl", "a-.tar.gz", versions="!!") == Nearest()


CONDA = "or take it from conda, whose channels have a 1.0: write it outside pip:"


def said(found: Nearest, *, conda: str | None = None, platform: str = "linux-64") -> str:
    error = NoWheelError("x", project="a", versions=">=2", at=None, do="", story="")
    there = Circumstances(
        target=target(platform), python="3.11.0", has_conda=conda is not None, offered=lambda _: conda
    )
    remedy(error, found, there)
    return str(error.do)


@pytest.mark.parametrize(
    ("found", "conda", "do"),
    [
        (Nearest(glibc="2.34"), None, "if the cluster has it: envforge lock --glibc 2.34"),
        (Nearest(macos="14.0"), None, "if the machines have it: envforge lock --virtual-package __osx=14.0"),
        (
            Nearest(pythons=("3.12", "3.13")),
            None,
            "it has wheels for Python 3.12 to 3.13: envforge lock --python 3.12",
        ),
        (
            Nearest(pythons=("3.9",)),
            "1.0",
            f"it has wheels for Python 3.9: write python=3.9 among the conda dependencies; {CONDA}",
        ),
        (
            Nearest(version="1.9", sdist=True),
            None,
            "a 1.9 fits: ask for that; or build it: envforge lock --no-binary a",
        ),
        (
            Nearest(platforms=("win-64",)),
            None,
            "it has wheels for win-64 only: write a ; sys_platform == 'win32'",
        ),
        (Nearest(platforms=("linux-aarch64",)), None, "it has wheels for linux-aarch64 only"),
    ],
)
def test_it_is_said_as_a_line_to_paste(found: Nearest, conda: str | None, do: str) -> None:
    assert said(found, conda=conda) == do


def test_a_name_that_conda_or_an_import_has(index: Index) -> None:
    error = UnknownProjectError("x", projects=("sklearn", "libblas"), at=None, do="", story="")
    versions = {"libblas": "3.9"}
    there = Circumstances(target=target(), python="3.11.0", has_conda=True, offered=versions.get)
    remedy_unknown(error, there)
    assert error.do == (
        "write scikit-learn, as PyPI calls sklearn; "
        "take libblas from conda, whose channels have 3.9: write it outside pip:"
    )


def test_the_files_are_those_of_the_first_index_that_has_the_project(index: Index, tmp_path: Path) -> None:
    index.add(Wheel(name="alpha", version="1.0", requires_python=">=3.8,<4"))
    places = Places(indexes=((tmp_path / "none").as_uri(), index.file_url))
    (file,) = listed_files(Fetcher(offline=True), "alpha", places)
    assert file == ListedFile(filename="alpha-1.0-py3-none-any.whl", requires_python=">=3.8,<4")
    assert listed_files(Fetcher(offline=True), "beta", Places(indexes=("http://127.0.0.1:9/x",))) == ()


@given(st.text())
def test_any_page_is_read(text: str) -> None:
    assert isinstance(read_page(text), tuple)


def test_what_was_yanked_is_not_there() -> None:
    page = (
        '<a href="x/a-1.0.tar.gz#sha256=0" data-yanked="bad">a</a><a href="a%2B1-1.0.tar.gz?x">b</a><a>c</a>'
    )
    assert [file.filename for file in read_page(page)] == ["a+1-1.0.tar.gz"]
