"""``pyproject.toml``: with `packaging`, conda-lock and pixi's own rules as peers."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import tomli
from packaging.dependency_groups import resolve_dependency_groups

from envforge.errors import InputError
from envforge.formats._poetry_ranges import poetry_range
from envforge.formats.pyproject_toml import has_dependencies
from envforge.formats.specification import read_specification
from envforge.model.spec import EnvironmentSpec

from .support import refused


def read(
    text: str, *, notes: list[str] | None = None, environment: str | None = None, **files: str
) -> EnvironmentSpec:
    texts = {"pyproject.toml": text} | {name.replace("_txt", ".txt"): inner for name, inner in files.items()}
    heard = notes if notes is not None else []
    return read_specification(
        ["pyproject.toml"], read=texts.__getitem__, note=heard.append, environment=environment
    )


def grouped(spec: EnvironmentSpec) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in spec.pip:
        found.setdefault(line.group, []).append(line.text)
    return found


GROUPS = """\
[project]
name = "My.Project"
dependencies = ["numpy>=2", "six ; sys_platform == 'linux'"]
[project.optional-dependencies]
docs = ["sphinx"]
plot = ["matplotlib", "my_project[docs]"]
all = ["my-project[plot,docs]"]
[dependency-groups]
Test = ["pytest", {include-group = "lint"}]
lint = ["ruff>=1"]
dev = [{include-group = "test"}, "ipython", "my-project[docs]"]
"""


def test_extras_and_groups_are_groups() -> None:
    spec = read(GROUPS)
    assert grouped(spec) == {
        "main": ["numpy>=2", "six ; sys_platform == 'linux'"],
        "docs": ["sphinx"],
        "plot": ["matplotlib", "sphinx"],
        "all": ["sphinx", "matplotlib"],
        "Test": ["pytest", "ruff>=1"],
        "lint": ["ruff>=1"],
        "dev": ["pytest", "ruff>=1", "ipython", "sphinx"],
    }
    assert [line.at for line in spec.pip if line.text == "ruff>=1"] == ["pyproject.toml:10"] * 3
    assert (spec.name, spec.channels, spec.conda) == ("My.Project", (), ())


@pytest.mark.parametrize("group", ["Test", "lint"])
def test_packaging_resolves_the_groups_alike(group: str) -> None:
    groups = tomli.loads(GROUPS)["dependency-groups"]
    assert tuple(grouped(read(GROUPS))[group]) == tuple(map(str, resolve_dependency_groups(groups, group)))


@pytest.mark.parametrize(
    ("groups", "what", "line"),
    [
        (
            'a = [{include-group = "b"}]\nb = [{include-group = "a"}]',
            "the dependency group a includes itself",
            3,
        ),
        ('a = [{include-group = "b"}]', "there is no dependency group 'b'", 2),
        ("a = [1]", "dependency-groups.a[0]: the number 1 where a table is needed", 2),
        ('a = [{include = "b"}]', "unknown key 'include' in dependency-groups.a[0]", 2),
        ('a = "six"', "dependency-groups.a: the text 'six' where a list is needed", 2),
        (
            'a = ["six", "=1"]',
            "'=1' is no requirement",
            2,
        ),
    ],
)
def test_groups_that_are_none(groups: str, what: str, line: int) -> None:
    said, at, do = refused(lambda: read(f"[dependency-groups]\n{groups}\n"))
    assert (said.partition(": Expected")[0], at) == (what, f"pyproject.toml:{line}")
    assert do
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever packaging calls it
        resolve_dependency_groups(tomli.loads(groups), "a")


@pytest.mark.parametrize(
    ("specifier", "python"),
    [
        ("==3.11.*", "3.11"),
        ("~=3.11.4", "3.11"),
        (">=3.11,<3.12", "3.11"),
        ("==3.11.4", "3.11.4"),
        (">=3.11", None),
        (">=3.10,<3.13,!=3.11.*", None),
    ],
)
def test_the_python_of_an_environment_without_conda(specifier: str, python: str | None) -> None:
    text = f'[project]\nname = "x"\nrequires-python = "{specifier}"\ndependencies = ["six"]\n'
    assert read(text).python == python


CONDA_LOCK = """\
[project]
name = "x"
requires-python = ">=3.10,==3.12.*"
dependencies = ["requests>=2", "einops"]
[project.optional-dependencies]
docs = ["sphinx"]
[tool.conda-lock]
channels = ["conda-forge", "nodefaults"]
platforms = ["linux-64", "osx-arm64"]
pip-repositories = ["https://h/simple"]
default-non-conda-source = "pip"
[tool.conda-lock.dependencies]
gcc = ">=12"
"bioconda::samtools" = "1.* h*"
einops = {source = "pypi"}
"""


def test_conda_lock_reads_the_same(tmp_path: Path) -> None:
    spec = read(CONDA_LOCK)
    assert [line.text for line in spec.conda] == [
        "gcc >=12",
        "bioconda::samtools 1.* h*",
        "python >=3.10,3.12.*",
    ]
    assert grouped(spec) == {"main": ["requests>=2", "einops"], "docs": ["sphinx"]}
    assert spec.indexes == ("https://pypi.org/simple", "https://h/simple")
    assert spec.python is None

    path = tmp_path / "pyproject.toml"
    path.write_text(CONDA_LOCK + '[build-system]\nbuild-backend = "x"\n')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from conda_lock.src_parser.pyproject_toml import parse_pyproject_toml

        theirs = parse_pyproject_toml(path, platforms=["linux-64", "osx-arm64"], mapping_url="")
    found = {(one.name, one.manager, one.category) for one in theirs.dependencies["linux-64"]}
    ours = {(line.text.partition(" ")[0].rpartition("::")[2], "conda", "main") for line in spec.conda[:2]}
    ours |= {(line.text.partition(">")[0], "pip", line.group) for line in spec.pip}
    assert found == ours
    assert [channel.url for channel in theirs.channels] == list(spec.channels)


def test_conda_lock_alone() -> None:
    text = CONDA_LOCK.replace('default-non-conda-source = "pip"', "skip-non-conda-lock = true")
    assert read(text).pip == ()
    notes: list[str] = []
    read(CONDA_LOCK.replace('default-non-conda-source = "pip"\n', ""), notes=notes)
    assert "conda-lock takes them from conda" in notes[0]


UV = """\
[project]
name = "x"
dependencies = ["torch[opt]>=2 ; sys_platform == 'linux'", "a[b]", "c", "d", "e"]
[tool.uv]
constraint-dependencies = ["numpy<3"]
no-binary-package = ["mpi4py"]
prerelease = "allow"
[tool.uv.sources]
torch = [
  {index = "cpu", marker = "sys_platform != 'linux'"},
  {index = "gpu", marker = "sys_platform == 'linux'"},
]
a = {git = "https://h/a", rev = "v1", subdirectory = "s"}
c = {path = "../c", editable = true}
d = {url = "https://h/d-1-py3-none-any.whl"}
[[tool.uv.index]]
name = "cpu"
url = "https://h/cpu"
explicit = true
[[tool.uv.index]]
name = "gpu"
url = "https://h/gpu"
explicit = true
[[tool.uv.index]]
url = "https://h/more"
"""


def test_uv_names_the_sources() -> None:
    notes: list[str] = []
    spec = read(UV, notes=notes)
    assert [line.text for line in spec.pip] == [
        "torch[opt]>=2 ; sys_platform == 'linux'",
        "a[b] @ git+https://h/a@v1#subdirectory=s",
        "../c",
        "d @ https://h/d-1-py3-none-any.whl",
        "e",
    ]
    assert spec.index_of == (("torch", "https://h/gpu"),)
    assert spec.indexes == ("https://pypi.org/simple", "https://h/more")
    assert [line.text for line in spec.constraints] == ["numpy<3"]
    assert (spec.no_binary, spec.prerelease) == (("mpi4py",), True)
    assert notes == ["pyproject.toml:11: of several sources of torch, the one for Linux counts"]
    with pytest.raises(InputError, match="there is no index 'gpu'"):
        read(UV.replace('name = "gpu"\n', ""))
    with pytest.raises(InputError, match="is a member of a workspace"):
        read(UV.replace('path = "../c", editable = true', "workspace = true"))


PIXI = """\
[project]
name = "x"
requires-python = ">=3.11"
dependencies = ["six"]
[project.optional-dependencies]
docs = ["sphinx"]
[dependency-groups]
test = ["pytest"]
[tool.pixi.workspace]
channels = ["conda-forge"]
platforms = ["linux-64"]
[tool.pixi.dependencies]
gcc = "*"
[tool.pixi.environments]
test = ["test", "docs"]
bare = {features = ["test"], no-default-feature = true}
"""


def test_pixi_says_which_groups_are_in_the_environment() -> None:
    assert grouped(read(PIXI)) == {"main": ["six"]}
    assert [line.text for line in read(PIXI).conda] == ["gcc", "python >=3.11"]
    assert grouped(read(PIXI, environment="test")) == {"main": ["six", "sphinx", "pytest"]}
    assert grouped(read(PIXI, environment="bare")) == {"main": ["pytest"]}
    said, at, do = refused(lambda: read(PIXI, environment="other"))
    assert (said, at) == ("there is no environment 'other'", "pyproject.toml:14")
    assert do == "name one of: --environment default, test, bare"


def test_what_setuptools_reads_from_files() -> None:
    text = """\
[project]
name = "x"
dynamic = ["version", "dependencies", "optional-dependencies"]
[tool.setuptools.dynamic]
dependencies = {file = ["r.txt"]}
optional-dependencies.dev = {file = "d.txt"}
"""
    assert grouped(read(text, r_txt="six\n", d_txt="pytest\n")) == {"main": ["six"], "dev": ["pytest"]}
    notes: list[str] = []
    read('[project]\nname = "x"\ndynamic = ["dependencies"]\n', notes=notes)
    assert notes == ["pyproject.toml:3: dependencies that a build computes are not read"]


POETRY = """\
[tool.poetry]
name = "x"

[tool.poetry.dependencies]
python = "^3.9"
numpy = "^1.26"
torch = {version = "~2.5", source = "own"}
six = {version = "*", optional = true}
mpi4py = {version = "^4", optional = true}
tomli = {version = ">=2", python = "<3.11", markers = "os_name == 'posix'"}
git-one = {git = "https://host/one.git", tag = "v1"}
local = {path = "../local", develop = true}
two = [{version = "1.0", python = "<3.10"}, {version = "^2", python = ">=3.10"}]

[tool.poetry.extras]
mpi = ["mpi4py"]

[tool.poetry.group.docs.dependencies]
sphinx = "7.*"

[tool.poetry.dev-dependencies]
pytest = "*"

[[tool.poetry.source]]
name = "own"
url = "https://own/simple"
priority = "explicit"
"""


def test_the_tables_of_poetry() -> None:
    notes: list[str] = []
    spec = read(POETRY, notes=notes)
    assert grouped(spec) == {
        "main": [
            "numpy<2,>=1.26",
            "torch<2.6,>=2.5",
            "tomli>=2 ; (os_name == 'posix') and (python_version < '3.11')",
            "git-one @ git+https://host/one.git@v1",
            "../local",
            "two==1.0 ; python_version < '3.10'",
            "two<3,>=2 ; python_version >= '3.10'",
        ],
        "mpi": ["mpi4py<5,>=4"],
        "docs": ["sphinx==7.*"],
        "dev": ["pytest"],
    }
    assert spec.index_of == (("torch", "https://own/simple"),)
    assert (spec.name, spec.indexes) == ("x", ())
    assert notes == ["pyproject.toml:12: what is editable is locked as it is now: local"]
    with pytest.raises(InputError, match=r"Python 3\.8 was asked for, and the project needs"):
        read_specification(["pyproject.toml"], read=lambda _: POETRY, python="3.8")


def test_where_projects_come_from_in_words_of_poetry() -> None:
    project = '[project]\nname = "x"\ndependencies = ["torch>=2"]\n'
    spec = read(f"{project}{POETRY}")
    assert grouped(spec)["main"] == ["torch>=2"]
    assert spec.index_of == (("torch", "https://own/simple"),)
    sources = '[[tool.poetry.source]]\nname = "a"\nurl = "https://a"\n'
    sources += '[[tool.poetry.source]]\nname = "b"\nurl = "https://b"\npriority = "supplemental"\n'
    assert read(f"{project}{sources}").indexes == ("https://a", "https://b")
    assert read(f'{project}{sources}[[tool.poetry.source]]\nname = "PyPI"\n').indexes == (
        "https://a", "https://b", "https://pypi.org/simple",
    )  # fmt: skip
    skipped = read(f'{POETRY}[tool.conda-lock]\nskip-non-conda-lock = true\ndependencies.a = "*"\n')
    assert (skipped.pip, [line.text for line in skipped.conda]) == ((), ["a"])


@pytest.mark.parametrize(
    ("words", "specifiers"),
    [
        ("^1.2.3", "<2,>=1.2.3"),
        ("^0.2.3", "<0.3,>=0.2.3"),
        ("^0.0.3", "<0.0.4,>=0.0.3"),
        ("^0", "<1,>=0"),
        ("~1", "<2,>=1"),
        ("~1.2.3", "<1.3,>=1.2.3"),
        ("~=1.2", "~=1.2"),
        ("^0.8.0-alpha.2", "<0.9,>=0.8.0-alpha.2"),
        (">= 1.7 <2", "<2,>=1.7"),
        ("1.*", "==1.*"),
        ("=1.2", "==1.2"),
        ("*", ""),
        ("^8 || ^9 || ^11 || ^10", ">=8,<12"),
        (">=1.6,<1.8|>=1.9,<3", ">=1.6,!=1.8.*,<3"),
        ("^1 || ^5", None),
        ("==1 || ==2", None),
        ("latest", None),
    ],
)
def test_ranges_in_words_of_poetry(words: str, specifiers: str | None) -> None:
    assert poetry_range(words) == specifiers


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("[tool.black]\nline-length = 1\n", "there are no dependencies", 0),
        ('[tool.poetry.dependencies]\na = "^1 || ^5"\n', "'^1 || ^5' of a is no single range of versions", 2),
        ('[tool.poetry.dependencies]\na = {source = "x"}\n', "there is no source 'x'", 2),
        ('[tool.poetry.dependencies]\na = {vers = "1"}\n',
         "unknown key 'vers' in tool.poetry.dependencies.a", 2),
        ('[[tool.poetry.source]]\nname = "x"\n', "a source without a URL", 1),
        ('[project]\nrequires-python = "3"\n', "'3' is no version of Python", 2),
        ("[project]\ndependencies = 'a'\n", "project.dependencies: the text 'a' where a list is needed", 2),
        ("project = 1\n", "project: the number 1 where a table is needed", 1),
        ('[project]\nname = "x"\ndependencies = ["x[y]"]\n', "the project has no extra 'y'", 3),
        ('[tool.conda-lock]\nchanels = ["a"]\n', "unknown key 'chanels'", 2),
        ('[tool.conda-lock.dependencies]\na = {vers = "1"}\n',
         "unknown key 'vers' in tool.conda-lock.dependencies.a", 2),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, what: str, line: int) -> None:
    said, at, do = refused(lambda: read(text))
    assert (said, at) == (what, f"pyproject.toml:{line}" if line else "pyproject.toml")
    assert do


def test_settings_of_tools_are_no_specification() -> None:
    assert not has_dependencies("[build-system]\nrequires = ['x']\n[tool.ruff]\nline-length = 1\n")
    assert has_dependencies(GROUPS)
    assert has_dependencies("not toml")
