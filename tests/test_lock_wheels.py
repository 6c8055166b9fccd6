"""Environments of wheels alone, for the Python that a cluster has, and what the command line says of PyPI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envforge.demo.index import DemoIndex, IndexBuilder, Wheel
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile
from tests.conftest import GLIBC, Shell

VERSION = ".".join(map(str, sys.version_info[:3]))
SHORT = ".".join(map(str, sys.version_info[:2]))
BODY = {"one_mod.py": b"said = 'hello'\n"}


@pytest.fixture
def wheels(tmp_path: Path) -> IndexBuilder:
    return IndexBuilder(tmp_path / "index")


def write(envforge: Shell, *pip: str, platform: str = "linux-64") -> Path:
    path = envforge.cwd / "environment.yml"
    lines = "".join(f"    - {line}\n" for line in pip)
    path.write_text(f"name: plain\ndependencies:\n  - pip:\n{lines}platforms: [{platform}]\n")
    return path


def locked(envforge: Shell) -> Lockfile:
    path = envforge.cwd / "conda-lock.yml"
    return conda_lock.read(path.read_text(), source=str(path))


def test_from_a_list_of_requirements_to_an_environment_of_the_python_that_is_there(
    envforge: Shell, wheels: IndexBuilder, platform: str
) -> None:
    wheels.add(Wheel(name="one", version="1.0", requires=("two",), files=BODY))
    wheels.add(Wheel(name="two", version="1.0"))
    wheels.write_index()
    write(envforge, f"--index-url {wheels.url}", "one", platform=platform)
    refused = envforge("lock", *GLIBC, status=2)
    refused.assert_error(2, "needs a Python", "envforge lock --python 3.11")
    envforge("lock", *GLIBC, "--python", SHORT)
    lockfile = locked(envforge)
    assert {row.manager for row in lockfile.packages} == {"pip"}
    assert lockfile.custom[f"envforge.python.{platform}"] == SHORT
    assert "unchanged" in envforge("lock", *GLIBC).out
    envforge("mirror", "conda-lock.yml", "mirror")
    envforge("install", "mirror", "--prefix", "p", "--python", sys.executable)
    argv = [str(envforge.cwd / "p/bin/python"), "-c", "import one_mod; print(one_mod.said)"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "hello\n"


@pytest.mark.parametrize("wanted", [f"3.{sys.version_info[1] + 1}", f"{SHORT}.{sys.version_info[2] + 1}"])
def test_another_python_than_the_locked_one_is_refused(
    envforge: Shell, wheels: IndexBuilder, platform: str, wanted: str
) -> None:
    wheels.add(Wheel(name="one", version="1.0"))
    wheels.write_index()
    write(envforge, f"--index-url {wheels.url}", "one", platform=platform)
    envforge("lock", *GLIBC, "--python", wanted)
    envforge("mirror", "conda-lock.yml", "mirror")
    refused = envforge("install", "mirror", "--prefix", "p", "--python", sys.executable, status=2)
    refused.assert_error(2, f"the lock is for Python {wanted}", VERSION, f"envforge lock --python {VERSION}")
    assert not (envforge.cwd / "p").exists()


def test_a_minor_version_stands_for_its_first_patch(envforge: Shell, wheels: IndexBuilder) -> None:
    for version, python in (("1.0", ">=3.8"), ("2.0", ">=3.11.4")):
        wheels.add(Wheel(name="one", version=version, requires_python=python))
    wheels.write_index()
    write(envforge, f"--index-url {wheels.url}", "one")
    for python, chosen in (("3.11", "1.0"), ("3.11.4", "2.0"), ("3.12", "2.0")):
        envforge("lock", "--python", python, "-U")
        assert [row.version for row in locked(envforge).packages] == [chosen]
    envforge("lock", "--python", "2.7", status=2).assert_error(2, "'2.7' is not a version of Python")


def test_an_index_for_one_project_a_directory_of_wheels_and_pre_releases(
    envforge: Shell, wheels: IndexBuilder, index: DemoIndex, tmp_path: Path
) -> None:
    wheels.add(Wheel(name="one", version="1.0", requires=("two", "three")))
    wheels.add(Wheel(name="two", version="9.0"))
    wheels.add(Wheel(name="three", version="1.0"))
    wheels.write_index()
    own = IndexBuilder(tmp_path / "own")
    own.add(Wheel(name="two", version="1.0"))
    own.write_index()
    folder = envforge.cwd / "folder"
    folder.mkdir()
    loose = IndexBuilder(tmp_path / "loose")
    for version in ("2.0", "3.0rc1"):
        made = loose.add(Wheel(name="three", version=version))
        (folder / made.name).write_bytes(made.read_bytes())
    write(envforge, f"--index-url {wheels.url}", "one")
    options = ("--python", "3.11", "--index-of", f"Two={own.url}", "--find-links", "folder")
    envforge("lock", *options)
    assert {r.name: r.version for r in locked(envforge).packages} == {
        "one": "1.0",
        "two": "1.0",
        "three": "2.0",
    }
    envforge("lock", "--pre", "-P", "three")
    assert {r.name: r.version for r in locked(envforge).packages}["three"] == "3.0rc1"
    assert "unchanged" in envforge("lock").out
    envforge("lock", "--index-of", "two", status=2).assert_error(2, "names no index", "--index-of PKG=")
