"""``--check``: the first requirement that does not hold, wherever it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from envforge.demo.index import Wheel
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.platforms import VirtualPackage
from envforge.model.spec import Line
from tests.lock.world import World, brings, package


@pytest.fixture
def full(world: World) -> World:
    """Both halves, groups, and every kind of dependency."""
    world.add_python()
    world.add(
        package("app", "1.0", "lib 1.* x_*", "lib >=1,<2", "__glibc >=2.17,<3.0.a0"),
        package("lib", "1.5", build="x_0"),
        brings("arrays-base", "1.5", "arrays"),
        package("lint", "1.0"),
    )
    world.add_wheels(
        Wheel(name="plots", version="1.0", requires=("arrays>=1", "colours>=2")),
        Wheel(name="colours", version="2.1", requires=("deep; extra == 'x'",), extras=("x",)),
        Wheel(name="deep", version="1.0"),
    )
    world.ask("python", "app", "arrays-base")
    world.ask("lint", group="dev")
    world.ask_pip("plots")
    return world


def without(lockfile: Lockfile, name: str) -> Lockfile:
    return replace(lockfile, packages=tuple(row for row in lockfile.packages if row.name != name))


def changed(lockfile: Lockfile, name: str, **values: Any) -> Lockfile:
    def one(row: LockedPackage) -> LockedPackage:
        return replace(row, **values) if row.name == name else row

    return replace(lockfile, packages=tuple(map(one, lockfile.packages)))


def test_what_was_just_locked_is_satisfied(full: World) -> None:
    full.platforms = ("linux-64", "osx-arm64")
    full.conda[1] = replace(full.conda[1], platforms=("linux-64",))
    lockfile = full.lock()
    assert full.unmet(lockfile) is None
    full.conda.reverse()
    assert full.unmet(lockfile) is None


@pytest.mark.parametrize(
    ("name", "at", "what"),
    [
        ("lib", "package app (conda, linux-64)", "app needs lib 1.* x_*,>=1,<2, which is not locked"),
        ("colours", "package plots (pip, linux-64)", "plots needs colours, which is not locked"),
        ("app", "environment.yml:2", "app: app is not locked for linux-64"),
        ("lint", "environment.yml:4", "lint: lint is not locked for linux-64"),
        ("plots", "environment.yml:101", "plots: plots is not locked for linux-64"),
    ],
)
def test_a_row_that_was_removed_by_hand(full: World, name: str, at: str, what: str) -> None:
    assert str(full.unmet(without(full.lock(), name))).startswith(f"{at}: {what}")


@pytest.mark.parametrize(
    ("name", "build", "version", "what"),
    [
        ("lib", "x_0", "2.0", "app needs lib 1.* x_*,>=1,<2, and 2.0 x_0 is locked"),
        ("lib", "y_0", "1.5", "app needs lib 1.* x_*,>=1,<2, and 1.5 y_0 is locked"),
    ],
)
def test_a_conda_row_that_was_changed_by_hand(
    full: World, name: str, build: str, version: str, what: str
) -> None:
    lockfile = full.lock()
    row = next(row for row in lockfile.packages if row.name == name)
    url = row.url.replace("1.5-x_0", f"{version}-{build}")
    assert what in str(full.unmet(changed(lockfile, name, version=version, url=url)))


def test_a_wheel_that_was_changed_by_hand(full: World) -> None:
    lockfile = full.lock()
    url = next(row.url for row in lockfile.packages if row.name == "colours").replace("2.1", "1.0")
    broken = changed(lockfile, "colours", version="1.0", url=url)
    assert "plots needs colours >=2, and 1.0 is locked" in str(full.unmet(broken))


Change = Callable[[World], None]


def _ask(*texts: str, **more: Any) -> Change:
    return lambda world: world.ask(*texts, **more)


def _ask_pip(*texts: str, **more: Any) -> Change:
    return lambda world: world.ask_pip(*texts, **more)


def _set(**more: Any) -> Change:
    return lambda world: world.more.update(more)


def _drop(name: str) -> Change:
    def drop(world: World) -> None:
        world.conda = [line for line in world.conda if line.text != name]
        world.pip = [line for line in world.pip if line.text != name]

    return drop


def _move(name: str, group: str) -> Change:
    def move(world: World) -> None:
        world.conda = [replace(line, group=group) if line.text == name else line for line in world.conda]

    return move


@pytest.mark.parametrize(
    ("change", "unmet"),
    [
        (_ask("lib>=1,<2"), None),
        (_ask("lib=1.5=x_*"), None),
        (_ask("lib[build_number=0]"), None),
        (_ask("lib[license=MIT]"), None),
        (_ask("__glibc>=2.17"), None),
        (_ask_pip("colours[]>=2; python_version >= '3'"), None),
        (_ask_pip("missing; sys_platform == 'win32'"), None),
        (_ask("lib>=2"), "environment.yml:5: lib>=2: lib 1.5 x_0 is locked"),
        (_ask("lib=1.5=y_*"), "environment.yml:5: lib=1.5=y_*: lib 1.5 x_0"),
        (_ask("lib[build_number=1]"), "environment.yml:5: lib[build_number=1]: lib"),
        (_ask("other::lib"), "without the channel https://conda.anaconda.org/other"),
        (_ask("__cuda>=12"), "environment.yml:5: __cuda>=12: not assumed"),
        (_ask("new"), "environment.yml:5: new: new is not locked"),
        (_ask_pip("colours>=3"), "environment.yml:102: colours>=3: colours 2.1 is locked"),
        (_ask_pip("arrays>=2"), "environment.yml:102: arrays>=2: arrays 1.5 is locked"),
        (_ask_pip("colours[x]"), "environment.yml:102: colours[x]: locked without the extra x"),
        (_ask_pip("colours", hashes=("sha256:" + "0" * 64,)), "of another hash is locked"),
        (_ask_pip("colours @ https://example.org/colours-2.1-py3-none-any.whl"), "is locked"),
        (_drop("lint"), "package lint (conda, linux-64): lint is locked for linux-64, and nothing needs"),
        (_drop("plots"), "package colours (pip, linux-64): colours is locked for linux-64, and nothing"),
        (_move("lint", "main"), "lint: lint is locked for the group dev and not for main"),
        (_move("app", "dev"), "app is locked for the group main and needed by dev"),
        (_set(channels=()), "was made with the channel"),
        (_set(channels=("conda-forge",)), "made without the channel https://conda.anaconda.org/conda-forge"),
        (_set(indexes=("https://pypi.example.org/simple",)), "now it is https://pypi.example.org/simple"),
        (_set(index_of=(("plots", "https://x.example/simple"),)), "made with an index for as usual"),
        (_set(find_links=("wheels",)), "made with --find-links as usual, now it is wheels"),
        (_set(prerelease=True), "made with --pre as usual"),
        (_set(no_binary=("plots",)), "plots is to be built from its sdist"),
        (_set(constraints=(Line(text="colours<2", at="limits.txt:3"),)), "limits.txt:3: colours<2: the con"),
        (_set(constraints=(Line(text="arrays<2", at="limits.txt:3"),)), None),
        (_set(platforms=("linux-64", "osx-arm64")), "no packages for osx-arm64"),
    ],
)  # fmt: skip
def test_a_specification_that_was_changed(full: World, change: Change, unmet: str | None) -> None:
    lockfile = full.lock()
    change(full)
    found = full.unmet(lockfile)
    assert found is None if unmet is None else unmet in str(found)


def test_a_platform_that_is_asked_for_no_more(full: World) -> None:
    full.platforms = ("linux-64", "osx-arm64")
    full.conda[1] = replace(full.conda[1], platforms=("linux-64",))
    lockfile = full.lock()
    full.platforms = ("linux-64",)
    assert "osx-arm64 is locked, and not asked for any more" in str(full.unmet(lockfile))
    assert full.unmet(lockfile, platforms=("linux-64",)) is None


def test_channels_in_another_order(full: World) -> None:
    other = full.root / "channel"
    full.more["channels"] = (full.channel.url, f"{other.as_uri()}/.")
    lockfile = full.lock()
    full.more["channels"] = full.more["channels"][::-1]
    assert "in another order" in str(full.unmet(lockfile))


def test_settings_and_targets_of_the_command_line(full: World) -> None:
    full.pip.clear()
    lockfile = full.lock(exclude_newer="2099-01-01")
    assert "made with --exclude-newer 2099-01-01, now it is as usual" in str(full.unmet(lockfile))
    assert full.unmet(lockfile, exclude_newer="2099-01-01") is None
    cuda = (VirtualPackage(name="__cuda", version="12.4"),)
    found = str(full.unmet(lockfile, exclude_newer="2099-01-01", assumed=cuda))
    assert "linux-64 was locked for __archspec=1=x86_64 __glibc=2.28" in found


def test_a_virtual_package_that_a_row_needs_and_the_target_has_not(full: World) -> None:
    lockfile = full.lock()
    custom = {key: text.replace("__glibc=2.28", "__glibc=2.12") for key, text in lockfile.custom.items()}
    broken = replace(lockfile, custom=custom)
    assert "app needs __glibc >=2.17,<3.0.a0, and 2.12 is assumed" in str(full.unmet(broken))


def test_a_lockfile_of_conda_lock_says_less_and_is_looked_at_all_the_same(full: World) -> None:
    lockfile = replace(full.lock(), custom={})
    assert full.unmet(lockfile) is None
    assert "lib, which is not locked" in str(full.unmet(without(lockfile, "lib"))).replace(
        " 1.* x_*,>=1,<2", ""
    )
    full.ask("lib>=2")
    assert "lib>=2: lib 1.5 x_0 is locked" in str(full.unmet(lockfile))
