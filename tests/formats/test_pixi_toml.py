"""``pixi.toml``: one environment of a manifest, with py-rattler as the peer for what a dependency is."""

from __future__ import annotations

import pytest
from rattler import MatchSpec

from envforge.formats.specification import read_specification
from envforge.model.platforms import PLATFORMS
from envforge.model.spec import EnvironmentSpec

from .support import refused

HEAD = '[workspace]\nname = "My work"\nchannels = ["conda-forge"]\nplatforms = ["linux-64", "osx-arm64"]\n'


def read(text: str, environment: str | None = None, notes: list[str] | None = None) -> EnvironmentSpec:
    heard = notes if notes is not None else []
    return read_specification(
        ["pixi.toml"], read={"pixi.toml": text}.__getitem__, note=heard.append, environment=environment
    )


def error(text: str) -> tuple[str, str | None, str | None]:
    return refused(lambda: read(text))


def test_a_whole_manifest() -> None:
    text = """\
[workspace]
name = "My work"
channels = ["conda-forge", {channel = "nvidia", priority = 1}]
platforms = ["linux-64", "osx-arm64", "linux-riscv64"]
pypi-options = {index-url = "https://a/simple"}

[tasks]
run = "python x.py"

[dependencies]
python = ">=3.11,<3.13"
numpy = "2.*"

[host-dependencies]
zlib = "*"

[target.linux.dependencies]
numpy = {
  version = ">=2",
  build = "py*",  # TOML 1.1
}
[target.osx-arm64.dependencies]
mlx = "*"

[pypi-dependencies]
einops = "*"
torch = {version = ">=2", extras = ["opt"], index = "https://h/cu"}
mine = {path = ".", editable = true}
other = {git = "git@h:x/other.git", branch = "main", subdirectory = "py"}
wheel-of = {url = "https://h/wheel_of-1-py3-none-any.whl"}
[target.win.pypi-dependencies]
pywin32 = "*"

[pypi-options]
extra-index-urls = ["https://b/simple"]
find-links = [{path = "./wheels"}, {url = "https://h/links"}]
no-binary = ["mpi4py"]
prerelease-mode = "allow"

[activation.env]
A = "1"
"""
    notes: list[str] = []
    spec = read(text, notes=notes)
    linux = tuple(one for one in PLATFORMS if one.startswith("linux"))
    others = tuple(one for one in PLATFORMS if not one.startswith("linux"))
    assert [(line.text, line.platforms) for line in spec.conda] == [
        ("python >=3.11,<3.13", None),
        ("numpy >=2 py*", linux),
        ("zlib", None),
        ("numpy 2.*", others),
        ("mlx", ("osx-arm64",)),
    ]
    assert [(line.text, line.platforms) for line in spec.pip] == [
        ("einops", None),
        ("torch[opt]>=2", None),
        (".", None),
        ("other @ git+ssh://git@h/x/other.git@main#subdirectory=py", None),
        ("wheel-of @ https://h/wheel_of-1-py3-none-any.whl", None),
        ("pywin32", ("win-64", "win-arm64")),
    ]
    assert spec.pip[1].at == "pixi.toml:27"
    assert (spec.name, spec.channels, spec.platforms) == (
        "My-work",
        ("nvidia", "conda-forge"),
        ("linux-64", "osx-arm64"),
    )
    assert spec.indexes == ("https://a/simple", "https://b/simple")
    assert spec.find_links == ("./wheels", "https://h/links")
    assert spec.index_of == (("torch", "https://h/cu"),)
    assert (spec.no_binary, spec.prerelease) == (("mpi4py",), True)
    assert [note.partition(" ")[0] for note in notes] == ["pixi.toml:40:", "pixi.toml:4:", "pixi.toml:28:"]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('"*"', "a"),
        ('""', "a"),
        ('"3.11.*"', "a 3.11.*"),
        ('"~=1.2, !=1.3"', "a ~=1.2,!=1.3"),
        ('">=1 | <0.5"', "a >=1|<0.5"),
        ('{version = "*", build = "cuda*"}', "a * cuda*"),
        ('{version = "1.*", channel = "nvidia"}', "nvidia::a 1.*"),
        ('{channel = "https://h/c"}', "https://h/c::a"),
        ('{version = ">=1", build-number = ">=2"}', "a[version='>=1',build_number='>=2']"),
        ('{version = "1.0", file-name = "a-1.0-0.conda", md5 = "ab"}', None),
    ],
)
def test_a_dependency_is_a_matchspec(written: str, text: str | None) -> None:
    (line,) = read(f"{HEAD}[dependencies]\na = {written}\n").conda
    if text is not None:
        assert line.text == text
        assert MatchSpec(line.text, strict=False).name.normalized == "a"


FEATURES = """\
[workspace]
channels = ["conda-forge"]
platforms = [
  "osx-arm64",
  {platform = "linux-64", cuda = "12.0", glibc = "2.28"},
  {name = "big", platform = "linux-64", cuda = {driver = "13", arch = "9.0"}},
]
[dependencies]
python = "*"
[feature.gpu]
platforms = ["linux-64-cuda-12-0-glibc-2-28"]
channels = ["nvidia"]
dependencies = {cuda = "12.*"}
system-requirements = {cuda = "12.4", libc = {family = "glibc", version = "2.17"}, archspec = "x86_64_v3"}
[feature.big]
platforms = ["big"]
[feature.test.dependencies]
pytest = "*"
[target."linux-*".dependencies]
gcc = "*"
[environments]
gpu = {features = ["gpu", "test"], solve-group = "all"}
big = ["big"]
lint = {features = ["test"], no-default-feature = true}
none = ["gpu", "big"]
[environments.one]
features = ["test"]
dependencies = {ruff = "*"}
"""


def names(spec: EnvironmentSpec, platform: str = "linux-64") -> list[str]:
    return [line.text for line in spec.conda_for(platform)]


def offered(spec: EnvironmentSpec) -> list[str]:
    return sorted(map(str, spec.assumed_for("linux-64")))


def test_environments_are_made_of_features() -> None:
    spec = read(FEATURES)
    assert names(spec) == ["python", "gcc"]
    assert names(spec, "osx-arm64") == ["python"]
    assert spec.platforms == ("osx-arm64", "linux-64")
    assert offered(spec) == ["__cuda=12.0", "__glibc=2.28"]

    gpu = read(FEATURES, "gpu")
    assert names(gpu) == ["cuda 12.*", "pytest", "python", "gcc"]
    assert (gpu.channels, gpu.platforms) == (("nvidia", "conda-forge"), ("linux-64",))
    assert sorted(map(str, gpu.assumed_for("linux-64"))) == [
        "__archspec=1=x86_64_v3",
        "__cuda=12.4",
        "__glibc=2.28",
    ]

    assert [str(one) for one in read(FEATURES, "big").assumed_for("linux-64")] == [
        "__cuda=13",
        "__cuda_arch=9.0",
    ]
    assert names(read(FEATURES, "lint")) == ["pytest"]
    assert names(read(FEATURES, "one")) == ["ruff", "pytest", "python", "gcc"]
    said, at, _ = refused(lambda: read(FEATURES, "none"))
    assert (said, at) == ("no platform is left that all features of the environment have", "pixi.toml:16")


CHOICES = f"""\
{HEAD}exclude-newer = "7d"
channel-priority = "flexible"
[workspace.dependencies]
numpy = "1.*"
lib = {{version = "2", channel = "own"}}
[dependencies]
numpy = {{workspace = true}}
[constraints]
openssl = ">=3"
lib = {{workspace = true}}
[target.osx-arm64.constraints]
openssl = ">=3.1"
[exclude-newer]
numpy = "0d"
[feature.old]
channel-priority = "disabled"
constraints = {{click = "<8"}}
[environments]
old = ["old"]
"""


def test_limits_and_choices() -> None:
    notes: list[str] = []
    spec = read(CHOICES, notes=notes)
    assert names(spec) == ["numpy 1.*"]
    limits = {platform: spec.conda_constraints_for(platform) for platform in ("linux-64", "osx-arm64")}
    assert {platform: [line.text for line in found] for platform, found in limits.items()} == {
        "linux-64": ["openssl >=3", "own::lib 2"],
        "osx-arm64": ["own::lib 2", "openssl >=3.1"],
    }
    assert (spec.channel_priority, spec.exclude_newer) == ("flexible", "7d")
    assert notes == ["pixi.toml:17: exclude-newer: a date for a single package is not followed"]
    old = read(CHOICES, "old")
    assert old.channel_priority == "disabled"
    assert next(line.text for line in old.conda_constraints_for("linux-64")) == "click <8"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ('[package]\nname = "x"\n', "there is no [workspace]: this manifest is a part of another one", 0),
        (f"{HEAD}[dependancies]\na = '*'\n", "unknown key 'dependancies'", 5),
        (f"{HEAD}[dependencies]\na = {{path = '.'}}\n",
         "a is to be built from its source, and only packages of channels are locked", 6),
        (f"{HEAD}[dependencies]\na = {{vers = '1'}}\n", "unknown key 'vers' in dependencies.a", 6),
        (f"{HEAD}[dependencies]\na = 1\n", "dependencies.a: the number 1 where a version is needed", 6),
        (f"{HEAD}[dependencies]\n'a b' = '*'\n", "'a b' is no package's name", 6),
        (f"{HEAD}[dependencies]\na = \"1'\"\n", "\"1'\" is no version", 6),
        (f"{HEAD}[pypi-dependencies]\na = '1.0'\n", "'1.0' is no version of a", 6),
        (f"{HEAD}[pypi-dependencies]\na = {{index = 'x'}}\n", "'x' is not the URL of an index", 6),
        (f"{HEAD}[target.linx.dependencies]\na = '*'\n", "'linx' is no platform", 5),
        (f"{HEAD}[environments]\ndefault = ['x']\n", "there is no feature 'x'", 6),
        (f"{HEAD}[system-requirements]\ncuda = 'x'\n", "'x' is no version of __cuda", 6),
        (f"{HEAD}[system-requirements]\nlibc = {{family = 'musl'}}\n", "only glibc can be assumed", 6),
        (f"{HEAD}[pypi-options]\nno-binary = true\n",
         "no-binary for every package would run the code of whatever is needed", 6),
        (f"{HEAD}[dependencies]\na = {{workspace = true}}\n", "a is not in [workspace.dependencies]", 6),
        (f"{HEAD}channel-priority = 'x'\n", "'x' is no channel priority", 5),
        (f"{HEAD}exclude-newer = 'soon'\n", "'soon' is no date", 5),
        ('[workspace]\nplatforms = [{name = "linux-64", gpu = "1"}]', "unknown key 'gpu' of a platform", 2),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, what: str, line: int) -> None:
    said, at, do = error(text)
    assert (said, at) == (what, f"pixi.toml:{line}" if line else "pixi.toml")
    assert do
