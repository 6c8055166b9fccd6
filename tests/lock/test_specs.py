"""The SPEC of ``envforge lock``: found, joined, of every format."""

from __future__ import annotations

from pathlib import Path

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.demo.index import IndexBuilder, Wheel
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile
from tests.conftest import Shell
from tests.test_lock import small

PIXI = """\
[workspace]
name = "work"
channels = ["{url}"]
platforms = [{{platform = "linux-64", cuda = "12.4"}}]
[dependencies]
a = "*"
[feature.more.dependencies]
b = "*"
gpu = "*"
[environments]
more = ["more"]
"""


@pytest.fixture
def channel(builder: ChannelBuilder) -> ChannelBuilder:
    for name in ("a", "b"):
        builder.add(small(name))
    builder.add(small("gpu", depends=("__cuda >=12",)))
    builder.write_index()
    return builder


@pytest.fixture
def index(tmp_path: Path) -> str:
    index = IndexBuilder(tmp_path / "index")
    for name in ("one", "two", "three"):
        index.add(Wheel(name=name, version="1.0"))
        index.add(Wheel(name=name, version="2.0"))
    index.write_index()
    return index.url


def locked(envforge: Shell, name: str = "conda-lock.yml") -> Lockfile:
    return conda_lock.read((envforge.cwd / name).read_text(), source=name)


def names(lockfile: Lockfile) -> list[tuple[str, str, str]]:
    return sorted((row.name, row.version, row.category) for row in lockfile.packages)


def write(envforge: Shell, **files: str) -> None:
    for name, text in files.items():
        path = envforge.cwd / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)


def test_an_environment_of_a_pixi_manifest_is_chosen_and_remembered(
    envforge: Shell, channel: ChannelBuilder
) -> None:
    write(envforge, pixi_toml=PIXI.format(url=channel.url))
    envforge("lock")
    assert [name for name, _, _ in names(locked(envforge))] == ["a"]
    assert "__cuda=12.4" in str(locked(envforge).target("linux-64"))
    envforge("lock", "--environment", "more")
    assert [name for name, _, _ in names(locked(envforge))] == ["a", "b", "gpu"]
    assert "unchanged" in envforge("lock").out
    envforge("lock", "--check")
    done = envforge("lock", "--environment", "other", status=2)
    done.assert_error(2, "no environment 'other'", "pixi.toml:10", "--environment default, more")
    write(envforge, environment_yml=f"channels: [{channel.url}]\ndependencies: [a]\n")
    envforge("lock", "--environment", "more", status=2).assert_error(2, "only a pixi manifest")
    envforge("lock", "-p", "linux-64")
    assert [name for name, _, _ in names(locked(envforge))] == ["a"]


def test_requirements_with_other_files_and_no_conda_at_all(envforge: Shell, index: str) -> None:
    write(
        envforge,
        requirements_in=f"-i {index}\none\n-r sub/more.txt\n",
        sub__more_txt="two # why\n-c limits.txt\n",
        sub__limits_txt="two<2\nthree<2\n",
    )
    envforge("lock", "-p", "linux-64", "--python", "3.11")
    assert names(locked(envforge)) == [("one", "2.0", "main"), ("two", "1.0", "main")]
    assert locked(envforge).sources == ("requirements.in",)
    envforge("lock", "--check", "--python", "3.11")
    write(envforge, sub__more_txt="two\nthree\n")
    done = envforge("lock", "--check", "--python", "3.11", status=1)
    done.assert_error(1, "three is not locked", "sub/more.txt:2")


def test_groups_of_a_pyproject_and_a_second_file(
    envforge: Shell, channel: ChannelBuilder, index: str
) -> None:
    write(
        envforge,
        pyproject_toml=f"""\
[project]
name = "x"
dependencies = ["one"]
requires-python = "==3.11.*"
[project.optional-dependencies]
docs = ["two<2"]
[dependency-groups]
test = ["three"]
[[tool.uv.index]]
url = "{index}"
default = true
""",
        other__environment_yml=f"channels: [{channel.url}]\nplatforms: [linux-64]\ndependencies: [a]\n",
    )
    envforge("lock", "pyproject.toml", "-p", "linux-64")
    main = [("one", "2.0", "main"), ("three", "2.0", "test"), ("two", "1.0", "docs")]
    assert names(locked(envforge)) == main
    done = envforge("lock", "other", "-o", "o-lock.yml")
    assert "written" in done.out
    assert names(locked(envforge, "o-lock.yml")) == [("a", "1.0", "main")]
    # Conda is to bring the Python now, as the project asks for it, and this channel has none.
    done = envforge("lock", "pyproject.toml", "other", "-o", "b-lock.yml", status=1)
    done.assert_error(1, "python", "pyproject.toml:4")


def test_what_is_looked_for(envforge: Shell) -> None:
    write(envforge, requirements_txt="one\n", pyproject_toml="[tool.black]\nline-length = 1\n")
    done = envforge("lock", status=2)
    done.assert_error(2, "no specification here", "envforge lock requirements.txt")
    envforge("lock", "nothing.yml", status=2).assert_error(2, "no such file", "nothing.yml")


def test_an_export_for_another_platform_is_told(envforge: Shell, channel: ChannelBuilder) -> None:
    lines = "".join(f"  - {name}=1.0=h0123456_0\n" for name in ("a", "b", "c", "d"))
    write(envforge, environment_yml=f"channels: [{channel.url}]\ndependencies:\n{lines}prefix: /x\n")
    done = envforge("lock", "-p", "win-arm64", status=1)
    assert "4 lines name a build that one platform has" in done.err
    assert "environment.yml:3" in done.err
    assert "conda env export --from-history > environment.yml" in done.err
