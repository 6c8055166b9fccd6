"""Which format a file is in, and what several files say together."""

from __future__ import annotations

import pytest

from envforge.errors import InputError
from envforge.formats.specification import read, read_specification, tied_to_a_platform
from envforge.model.spec import EnvironmentSpec

from .support import refused

YML = "name: {name}\nchannels: {channels}\nplatforms: {platforms}\ndependencies: [{dependencies}]\n"


def yml(
    name: str = "x", channels: str = "[a]", platforms: str = "[linux-64]", dependencies: str = "zlib"
) -> str:
    return YML.format(name=name, channels=channels, platforms=platforms, dependencies=dependencies)


def together(
    files: dict[str, str], notes: list[str] | None = None, python: str | None = None
) -> EnvironmentSpec:
    heard = notes if notes is not None else []
    return read_specification(list(files), read=files.__getitem__, note=heard.append, python=python)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("environment.yml", "dependencies: [six]"),
        ("ci/env-3.11.yaml", "dependencies: [six]"),
        ("env", "channels: []\ndependencies: [six]"),
        ("requirements-dev.txt", "six"),
        ("requirements/base.in", "six"),
        ("what", "six"),
        ("Pipfile", "[packages]\nsix='*'"),
        ("tests.Pipfile", "[packages]\nsix='*'"),
        ("pipfile.toml", "[packages]\nsix='*'"),
        ("pyproject.toml", "[project]\ndependencies=['six']"),
        ("old-pyproject.toml", "[project]\ndependencies=['six']"),
        ("x.toml", "[project]\ndependencies=['six']"),
        ("pixi.toml", "[workspace]\nchannels=[]\n[dependencies]\nsix='*'"),
        ("gpu.toml", "[workspace]\nchannels=[]\n[dependencies]\nsix='*'"),
    ],
)
def test_a_format_is_known_by_name_or_content(name: str, text: str) -> None:
    spec = read(text, source=name)
    (line,) = (*spec.conda, *spec.pip)
    assert line.text == "six"
    assert line.at.startswith(f"{name}:")


@pytest.mark.parametrize(
    "name",
    ["conda-lock.yml", "x.conda-lock.yml", "pixi.lock", "uv.lock", "pylock.toml", "setup.py", "meta.yaml"],
)
def test_what_is_something_else(name: str) -> None:
    said, at, do = refused(lambda: read("", source=name))
    assert said.endswith("and no specification")
    assert at == name
    assert do


def test_every_line_of_every_file_counts() -> None:
    spec = together(
        {
            "a/environment.yml": yml(name="first", dependencies="numpy>=1, {pip: [./here, einops]}"),
            "b/dev.yml": yml(name="second", dependencies="numpy<3, {pip: [./there]}") + "category: dev\n",
            "b/pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.11"\ndependencies = ["six"]\n',
        }
    )
    assert [(line.text, line.group) for line in spec.conda] == [
        ("numpy>=1", "main"),
        ("numpy<3", "dev"),
        ("python >=3.11", "main"),
    ]
    assert [line.text for line in spec.pip] == ["./here", "einops", "../b/there", "six"]
    assert (spec.name, spec.python) == ("first", None)
    assert spec.sources == ("a/environment.yml", "b/dev.yml", "b/pyproject.toml")


@pytest.mark.parametrize(
    ("orders", "channels"),
    [
        ((["a", "b"], ["b", "c"]), ("a", "b", "c")),
        ((["a", "c"], ["b", "c"]), ("a", "b", "c")),
        ((["c"], ["a", "b", "c"]), ("a", "b", "c")),
        ((["a"], []), ("a",)),
        ((["./x"], ["../q/x", "https://h/x"]), ("./x", "https://h/x")),
        ((["a", "b"], ["b", "a"]), None),
        ((["a", "b"], ["b", "c"], ["c", "a"]), None),
    ],
)
def test_channels_are_in_an_order_that_all_agree_with(
    orders: tuple[list[str], ...], channels: tuple[str, ...] | None
) -> None:
    files = {f"{'p' if n else 'q'}/{n}.yml": yml(channels=str(order)) for n, order in enumerate(orders)}
    if channels is None:
        said, _, do = refused(lambda: together(files))
        assert said.startswith("the files do not agree which of")
        assert do
    else:
        assert together(files).channels == channels


def test_platforms_are_those_of_all() -> None:
    notes: list[str] = []
    files = {
        "a.yml": yml(platforms="[osx-arm64, linux-64]"),
        "b.yml": yml(platforms="[linux-64]"),
        "c.txt": "six",
    }
    assert together(files, notes).platforms == ("linux-64",)
    assert notes == ["not every file is for osx-arm64: left out"]
    files["b.yml"] = yml(platforms="[win-64]")
    assert refused(lambda: together(files))[0] == "the files have no platform in common"


def test_indexes_are_those_of_all() -> None:
    files = {
        "a.txt": "--extra-index-url https://a/s\nsix",
        "b.txt": "-i https://b/s\n--pre\n",
        "c.txt": "einops",
    }
    spec = together(files)
    assert spec.indexes == ("https://b/s", "https://a/s")
    assert spec.prerelease
    files["c.txt"] = "--index-url https://c/s"
    assert refused(lambda: together(files))[:2] == (
        "there are two index URLs; the first is in b.txt:1",
        "c.txt:1",
    )


def test_the_python_that_is_asked_for_must_be_allowed() -> None:
    files = {"pyproject.toml": '[project]\nrequires-python = ">=3.11.4"\ndependencies = ["six"]\n'}
    assert together(files).python is None
    assert together(files, python="3.11").python == "3.11"
    with pytest.raises(InputError, match=r"Python 3\.10 was asked for"):
        together(files, python="3.10")
    with pytest.raises(InputError, match=r"Python 3\.11\.3 was asked for"):
        together(files, python="3.11.3")


EXPORT = """\
name: x
channels: [conda-forge]
dependencies:
  - _libgcc_mutex=0.1=conda_forge
  - libgcc=14.2.0=h767d61c_2
  - python=3.12.9=h9e4cc4f_1_cpython
  - zlib=1.3.1=hb9d3cd8_2
  - numpy=2.2.4=py312h72c5963_0
  - tzdata=2025b=h78e105d_0
  - six=1.17.0=pyhd8ed1ab_0
  - pip=25.0.1=pyh8b19718_0
  - pip:
      - einops==0.8.1
prefix: /home/me/miniforge3/envs/x
"""


def test_an_export_is_known_by_its_builds() -> None:
    tied = tied_to_a_platform(read(EXPORT, source="environment.yml"))
    names = ["_libgcc_mutex", "libgcc", "python", "zlib", "numpy", "tzdata"]
    assert [line.text.partition("=")[0] for line in tied] == names
    by_hand = (
        "dependencies: [h5py=*=mpi_openmpi*, zlib=1.3.1=hb9d3cd8_2, numpy, six, pytorch=2.10.*=cuda12*]\n"
    )
    assert tied_to_a_platform(read(by_hand, source="environment.yml")) == ()


def test_a_key_that_no_tool_knows_is_said() -> None:
    said: list[str] = []
    text = "channels: [a]\nchannel_priority: strict\ndependencies: [b]\n"
    found = read_specification(["e.yml"], read=lambda _: text, note=said.append)
    assert [line.text for line in found.conda] == ["b"]
    assert said == ["e.yml:2: channel_priority is not known and not read"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.yml", "dependencies:\n{}"),
        ("pyproject.toml", "[project]\n{}"),
        ("pixi.toml", "[workspace]\r\n{}"),
        ("Pipfile", "[packages]\n{}"),
        ("r.in", "numpy\n{}"),
    ],
)
def test_a_conflict_that_was_left_in_a_file(name: str, text: str) -> None:
    conflict = "<<<<<<< HEAD\n=======\n>>>>>>> other\n"
    with pytest.raises(
        InputError, match="a conflict of a merge was left in the file: <<<<<<< HEAD"
    ) as raised:
        read(text.format(conflict), source=name)
    assert raised.value.at == f"{name}:2"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("e.yml", "pip-repositories: ['https://u:${{T}}@h/simple']\ndependencies: [pip: [a]]\n"),
        ("pyproject.toml", "[tool.conda-lock]\npip-repositories = ['https://u:${{T}}@h/simple']\n"),
        ("r.in", "--extra-index-url https://u:${{T}}@h/simple\na\n"),
    ],
)
def test_variables_in_the_urls_of_indexes(name: str, text: str) -> None:
    spec = read_specification([name], read=lambda _: text.format(), variables={"T": "word"})
    assert spec.indexes == ("https://pypi.org/simple", "https://u:word@h/simple")
