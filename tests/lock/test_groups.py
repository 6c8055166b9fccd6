"""Groups: which lines reach a package, across conda and PyPI, and what conda-lock makes of the rows."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.demo.index import Wheel
from envforge.errors import InputError
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile
from tests.conftest import Shell
from tests.lock.world import World, brings, groups, package


@pytest.fixture
def grouped(world: World) -> World:
    """``main``, ``dev`` and ``docs``, which share some of what they need."""
    world.add_python()
    world.add(
        package("app", "1.0", "base"),
        package("base"),
        package("lint", "1.0", "base", "shared"),
        package("site", "1.0", "shared"),
        package("shared"),
    )
    world.ask("python", "app")
    world.ask("lint", group="dev")
    world.ask("site", group="docs")
    return world


def test_a_package_is_in_main_or_in_every_group_that_reaches_it(grouped: World) -> None:
    lockfile = grouped.lock()
    assert groups(lockfile) == {
        "app": "main",
        "base": "main",
        "python": "main",
        "lint": "dev",
        "site": "docs",
        "shared": "dev docs",
    }
    assert all(row.optional == (row.category != "main") for row in lockfile.packages)
    assert lockfile.groups == ("main", "dev", "docs")
    assert grouped.unmet(lockfile) is None


def test_the_rows_of_groups_are_those_of_each_once(grouped: World) -> None:
    lockfile = grouped.lock()

    def names(*wanted: str) -> list[str]:
        return sorted(row.name for row in lockfile.rows("linux-64", wanted))

    assert names("main") == ["app", "base", "python"]
    assert names("main", "docs") == ["app", "base", "python", "shared", "site"]
    assert names("main", "dev", "docs") == ["app", "base", "lint", "python", "shared", "site"]
    with pytest.raises(InputError, match="no group test"):
        names("main", "test")


def test_a_group_that_needs_nothing_beside_main_is_a_group(grouped: World) -> None:
    grouped.ask("base", group="tiny")
    lockfile = grouped.lock()
    assert groups(lockfile)["base"] == "main"
    assert len(lockfile.rows("linux-64", ("main", "tiny"))) == 3


def test_all_groups_are_solved_at_once(grouped: World) -> None:
    grouped.add(package("base", "2.0"), package("lint", "2.0", "base <2", "shared"))
    lockfile = grouped.lock()
    assert {row.name: row.version for row in lockfile.packages}["base"] == "1.0"


def test_wheels_pull_conda_packages_into_their_groups_and_python_into_them(world: World) -> None:
    world.add_python()
    world.add(brings("arrays-base", "1.5", "arrays", "libarrays"), package("libarrays"))
    world.add_wheels(
        Wheel(name="plots", version="1.0", requires=("arrays>=1", "colours")),
        Wheel(name="colours", version="1.0"),
        Wheel(name="other", version="1.0", requires=("colours",)),
    )
    world.ask("python", group="test")
    world.ask("arrays-base", group="numbers")
    world.ask_pip("plots", group="docs")
    world.ask_pip("other")
    lockfile = world.lock()
    assert groups(lockfile) == {
        "python": "main",  # a wheel of main lies in it
        "arrays-base": "docs numbers",
        "libarrays": "docs numbers",
        "plots": "docs",
        "colours": "main",
        "other": "main",
    }
    assert world.unmet(lockfile) is None


def test_a_requirement_that_conda_meets_is_in_the_group_of_its_line(world: World) -> None:
    world.add_python()
    world.add(brings("arrays-base", "1.5", "arrays"))
    world.add_wheels()
    world.ask("python")
    world.ask("arrays-base", group="dev")
    world.ask_pip("arrays>=1")
    lockfile = world.lock()
    assert groups(lockfile) == {"python": "main", "arrays-base": "main"}
    assert world.unmet(lockfile) is None


def test_a_line_whose_marker_does_not_hold_reaches_nothing(world: World) -> None:
    world.add_python()
    world.add_wheels(Wheel(name="a", version="1.0"))
    world.ask("python")
    world.ask_pip("a; sys_platform == 'win32'")
    world.ask_pip("a", group="dev")
    lockfile = world.lock()
    assert groups(lockfile) == {"python": "main", "a": "dev"}
    assert world.unmet(lockfile) is None


def test_what_an_extra_of_a_conda_package_needs_is_there_with_any_group(world: World) -> None:
    world.add_python()
    world.add(brings("arrays", "1.5", "arrays", extras=("cluster",)))
    world.add_wheels(
        Wheel(name="cluster", version="1.0"), Wheel(name="a", version="1.0", requires=("arrays[x]",))
    )
    world.ask("python", "arrays")
    world.ask_pip("a", group="dev")
    lockfile = world.lock()
    assert groups(lockfile)["cluster"] == "main"
    assert world.unmet(lockfile) is None


def test_platforms_have_groups_of_their_own(grouped: World) -> None:
    grouped.platforms = ("linux-64", "osx-arm64")
    grouped.ask("shared", platforms=("osx-arm64",))
    lockfile = grouped.lock()
    assert groups(lockfile)["shared"] == "dev docs"
    assert groups(lockfile, "osx-arm64")["shared"] == "main"
    assert grouped.unmet(lockfile) is None


def test_a_group_that_is_the_only_one(world: World) -> None:
    world.add(package("a", "1.0", "b"), package("b"))
    world.ask("a", group="dev")
    lockfile = world.lock()
    assert groups(lockfile) == {"a": "dev", "b": "dev"}
    assert lockfile.rows("linux-64") == ()
    assert world.unmet(lockfile) is None


# -- conda-lock --------------------------------------------------------------------------------------------


def rendered(lockfile: Lockfile, directory: Path, *words: str) -> set[str]:
    """The packages that conda-lock would install with ``words``."""
    path = directory / "conda-lock.yml"
    path.write_text(conda_lock.write(lockfile))
    argv = [sys.executable, "-W", "ignore", "-m", "conda_lock", "render", "--kind", "explicit"]
    subprocess.run(
        [*argv, "-p", "linux-64", *words, path.name], cwd=directory, check=True, capture_output=True
    )
    found = (directory / "conda-linux-64.lock").read_text().splitlines()
    urls = (line.removeprefix("# pip ").partition("#")[0].rpartition("/")[2] for line in found if "#" in line)
    return {url.partition("-")[0] for url in urls if "-" in url}


def test_conda_lock_chooses_groups_as_envforge_does(grouped: World, tmp_path: Path) -> None:
    lockfile = grouped.lock()
    main = {"app", "base", "python"}
    assert rendered(lockfile, tmp_path, "--no-dev-dependencies") == main
    assert rendered(lockfile, tmp_path, "--dev-dependencies") == main | {"lint", "shared"}
    assert rendered(lockfile, tmp_path, "--no-dev-dependencies", "--extras", "docs") == main | {
        "site",
        "shared",
    }


def test_conda_lock_writes_back_what_it_read(grouped: World, tmp_path: Path) -> None:
    """Its own model takes the rows of several groups together and apart again without a loss."""
    path = tmp_path / "conda-lock.yml"
    lockfile = grouped.lock()
    path.write_text(conda_lock.write(lockfile))
    program = (
        "import sys, pathlib; from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file;"
        "path = pathlib.Path(sys.argv[1]); write_conda_lock_file(parse_conda_lock_file(path), path, None)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(path)], check=True)
    assert conda_lock.read(path.read_text(), source="") == lockfile


def test_two_versions_of_a_package_in_two_groups_are_never_installed_together(grouped: World) -> None:
    """A merge of two branches can leave that behind."""
    lockfile = grouped.lock()
    packages = tuple(
        replace(row, version="2.0", url=row.url.replace("1.0", "2.0"))
        if (row.name, row.category) == ("shared", "docs")
        else row
        for row in lockfile.packages
    )
    broken = replace(lockfile, packages=packages)
    assert "as 1.0 for dev and as 2.0 for docs" in str(grouped.unmet(broken))


# -- from the mirror to the prefix -------------------------------------------------------------------------


def test_groups_through_mirror_bundle_prefix_and_bill(
    world: World, envforge: Shell, platform: str, tmp_path: Path
) -> None:
    world.platforms = (platform,)
    world.add(package("app"), package("lint", "1.0", "shared"), package("site", "1.0", "shared"))
    world.add(package("shared"))
    world.ask("app")
    world.ask("lint", group="dev")
    world.ask("site", group="docs")
    world.ask("app", group="tiny")
    path = envforge.cwd / "conda-lock.yml"
    path.write_text(conda_lock.write(world.lock()))
    envforge("mirror", path.name, "mirror")
    prefix = tmp_path / "P"

    def there() -> list[str]:
        return sorted(file.name for file in (prefix / "share").iterdir())

    envforge("install", "mirror", "--prefix", prefix)
    assert there() == ["app"]
    envforge("install", "mirror", "--prefix", prefix, "--group", "dev", "--group", "tiny")
    assert there() == ["app", "lint", "shared"]
    envforge("verify", prefix, "--against", "mirror")
    assert "main+dev+tiny" in envforge("id", prefix).out
    envforge("install", "mirror", "--prefix", prefix, "--group", "dev", "--group", "docs")
    assert there() == ["app", "lint", "shared", "site"]
    envforge("bundle", "mirror", "-o", "b.sh", "--group", "docs", "--no-runtime")
    assert {row["name"] for row in envforge("list", "b.sh", "--json").json["packages"]} == {
        "app",
        "site",
        "shared",
    }
    bill = envforge("sbom", path.name, "--group", "dev", "--group", "docs").json
    assert sorted(part["name"] for part in bill["components"]) == ["app", "lint", "shared", "site"]
    envforge("install", "mirror", "--prefix", prefix, "--group", "test", status=None).assert_error(
        2, "no group test", "groups: main, dev, docs, tiny"
    )
