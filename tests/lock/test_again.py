"""Locking again: what still fits stays, and what moves is what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.demo.index import Wheel
from envforge.errors import InputError, UnsatisfiableError
from envforge.lock.upgrades import Upgrade
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import VirtualPackage
from tests.conftest import Shell
from tests.lock.world import World, package, versions


def up(*texts: str) -> tuple[Upgrade, ...]:
    return tuple(map(Upgrade.parse, texts))


def rows(lockfile: Lockfile) -> list[object]:
    return [row.to_dict() for row in lockfile.packages]


@pytest.fixture
def old(world: World) -> World:
    """Two conda packages and two wheels at 1.0; 2.0 of each comes later."""
    world.add_python()
    world.add(package("a"), package("b", "1.0", "c"), package("c"))
    world.add_wheels(Wheel(name="w", version="1.0", requires=("x",)), Wheel(name="x", version="1.0"))
    world.ask("python", "a")
    world.ask("b", group="dev")
    world.ask_pip("w", group="dev")
    return world


def come(world: World) -> None:
    """The channel and the index have something newer of everything."""
    world.add(package("a", "2.0"), package("b", "2.0", "c"), package("c", "2.0"))
    world.add_wheels(Wheel(name="w", version="2.0", requires=("x",)), Wheel(name="x", version="2.0"))


ONES = {"python": "3.12.1", "a": "1.0", "b": "1.0", "c": "1.0", "w": "1.0", "x": "1.0"}


def test_nothing_moves_if_nothing_was_asked_for(old: World) -> None:
    lockfile = old.lock()
    come(old)
    assert old.lock(lockfile) == lockfile
    everything = old.lock(lockfile, upgrade_all=True)
    assert set(versions(everything).values()) == {"2.0", "3.12.1"}


@pytest.mark.parametrize(
    ("asked", "moved"),
    [
        (["c"], {"c": "2.0"}),
        (["X"], {"x": "2.0"}),
        (["a", "w"], {"a": "2.0", "w": "2.0"}),
        (["a=1.5"], {"a": "1.5"}),
        (["a<2"], {"a": "1.5"}),
        (["x=1.5"], {"x": "1.5"}),
        (["x < 2"], {"x": "1.5"}),
    ],
)
def test_only_what_is_let_go_moves(old: World, asked: list[str], moved: dict[str, str]) -> None:
    lockfile = old.lock()
    come(old)
    old.add(package("a", "1.5"))
    old.add_wheels(Wheel(name="x", version="1.5"))
    assert versions(old.lock(lockfile, upgrade=up(*asked))) == ONES | moved


def test_a_version_that_is_asked_for_and_does_not_exist(old: World) -> None:
    lockfile = old.lock()
    with pytest.raises(UnsatisfiableError) as caught:
        old.lock(lockfile, upgrade=up("a=9"))
    assert "a" in caught.value.what
    with pytest.raises(UnsatisfiableError):
        old.lock(lockfile, upgrade=up("x=9"))


@pytest.mark.parametrize("text", ["", "=1", "a=", "a;b", "a[x]", "a @ file:///x", "../a", "a>="])
def test_what_names_no_package(text: str) -> None:
    with pytest.raises(InputError):
        Upgrade.parse(text)


def test_a_tighter_line_moves_what_it_must(old: World) -> None:
    lockfile = old.lock()
    come(old)
    old.add(package("b", "3.0", "c >=2"))
    old.ask("b>=3")
    assert versions(old.lock(lockfile)) == ONES | {"b": "3.0", "c": "2.0"}
    old.ask_pip("x>=2")
    assert versions(old.lock(lockfile)) == ONES | {"b": "3.0", "c": "2.0", "x": "2.0"}


def test_a_new_line_brings_what_it_needs_and_moves_nothing_else(old: World) -> None:
    lockfile = old.lock()
    come(old)
    old.add(package("n", "1.0", "a", "m"), package("m"))
    old.ask("n")
    again = old.lock(lockfile)
    assert versions(again) == ONES | {"n": "1.0", "m": "1.0"}
    kept = [row for row in again.packages if row.name not in ("n", "m")]
    assert kept == list(lockfile.packages)


def test_a_line_that_is_gone_takes_with_it_what_only_it_needed(old: World) -> None:
    lockfile = old.lock()
    come(old)
    old.conda = [line for line in old.conda if line.text != "b"]
    assert versions(old.lock(lockfile)) == {k: v for k, v in ONES.items() if k not in ("b", "c")}
    old.pip.clear()
    assert versions(old.lock(lockfile)) == {"python": "3.12.1", "a": "1.0"}


def test_a_line_that_changes_its_group_moves_no_version(old: World) -> None:
    lockfile = old.lock()
    come(old)
    old.conda = [replace(line, group="main") for line in old.conda]
    again = old.lock(lockfile)
    assert versions(again) == ONES
    assert {row.category for row in again.packages if row.manager == "conda"} == {"main"}


def test_a_platform_that_comes_later_has_the_versions_of_the_others(old: World) -> None:
    lockfile = old.lock()
    come(old)
    old.platforms = ("linux-64", "osx-arm64")
    again = old.lock(lockfile)
    assert versions(again, "linux-64") == versions(again, "osx-arm64") == ONES


def test_of_builds_of_the_same_version_a_new_platform_takes_the_one_that_is_most_alike(world: World) -> None:
    for build in ("cpu_h0000000_0", "gpu_h1111111_0"):
        world.add(package("a", "1.0", build=build, subdir="linux-64", noarch=None))
    world.ask("a=1.0=cpu*")
    lockfile = world.lock()
    for platform in ("linux-64", "osx-arm64"):
        for build, number in (("cpu_h2222222_1", 1), ("gpu_h3333333_9", 9), ("cpu_h4444444_0", 0)):
            world.add(
                package("a", "1.0", build=build, build_number=number, subdir=platform, noarch=None),
                package("a", "2.0", build=build, build_number=number, subdir=platform, noarch=None),
            )
    world.conda.clear()
    world.ask("a")
    world.platforms = ("linux-64", "osx-arm64")
    again = {row.platform: row.filename for row in world.lock(lockfile).packages}
    assert again == {"linux-64": "a-1.0-cpu_h0000000_0.conda", "osx-arm64": "a-1.0-cpu_h2222222_1.conda"}


def test_a_version_that_a_new_platform_has_not_is_another_there(old: World) -> None:
    old.add(package("s", subdir="linux-64", noarch=None))
    old.ask("s")
    lockfile = old.lock()
    come(old)
    old.add(
        package("s", "2.0", subdir="osx-arm64", noarch=None),
        package("s", "2.0", subdir="linux-64", noarch=None),
    )
    old.platforms = ("linux-64", "osx-arm64")
    again = old.lock(lockfile)
    assert (versions(again)["s"], versions(again, "osx-arm64")["s"]) == ("1.0", "2.0")


def test_a_target_that_offers_less_moves_only_what_needed_more(old: World) -> None:
    old.add(package("g", "2.0", "__glibc >=2.30"), package("g", "1.0", "__glibc >=2.17"))
    old.ask("g")
    lockfile = old.lock(assumed=(VirtualPackage(name="__glibc", version="2.34"),))
    assert versions(lockfile)["g"] == "2.0"
    come(old)
    again = old.lock(lockfile, assumed=(VirtualPackage(name="__glibc", version="2.17"),))
    assert versions(again) == ONES | {"g": "1.0"}
    # And back, nothing moves that need not: 1.0 fits there as well.
    back = old.lock(again, assumed=(VirtualPackage(name="__glibc", version="2.34"),))
    assert versions(back) == versions(again)


def test_a_channel_that_moved_keeps_the_versions(old: World) -> None:
    import shutil

    lockfile = old.lock()
    come(old)
    moved = old.root / "elsewhere" / "channel"
    shutil.copytree(old.channel.directory, moved)
    old.more["channels"] = (moved.as_uri(),)
    again = old.lock(lockfile)
    assert versions(again) == ONES
    assert all(row.url.startswith(moved.as_uri()) for row in again.packages if row.manager == "conda")


def test_a_channel_that_is_more_important_now_is_heeded(old: World) -> None:
    other = ChannelBuilder(old.root / "other")
    other.add(package("a", "1.0", build="theirs_0"))
    other.write_index()
    old.more["channels"] = (old.channel.url, other.url)
    lockfile = old.lock()
    old.more["channels"] = (other.url, old.channel.url)
    again = old.lock(lockfile)
    assert next(row.build_string for row in again.packages if row.name == "a") == "theirs_0"
    assert versions(again) == ONES


def test_a_version_that_the_channel_lost_is_replaced_and_the_others_stay(old: World) -> None:
    lockfile = old.lock()
    come(old)
    records = old.channel._records["noarch"]
    for name in [name for name in records if name.startswith("a-1.0")]:
        del records[name]
    old.channel.write_index()
    assert versions(old.lock(lockfile)) == ONES | {"a": "2.0"}


def test_a_build_that_was_replaced_by_another_of_the_same_version_keeps_the_version(old: World) -> None:
    lockfile = old.lock()
    come(old)
    records = old.channel._records["noarch"]
    for name in [name for name in records if name.startswith("a-1.0")]:
        del records[name]
    old.add(package("a", "1.0", build="again_1", build_number=1))
    again = old.lock(lockfile)
    assert versions(again) == ONES
    assert next(row.build_string for row in again.packages if row.name == "a") == "again_1"


# -- through the command line ------------------------------------------------------------------------------


@pytest.fixture
def spec(envforge: Shell, builder: ChannelBuilder) -> Path:
    """Locked at 1.0 of ``a`` and ``b``; 2.0 of both came later."""
    for name in ("a", "b"):
        builder.add(package(name, "1.0", "c"))
    builder.add(package("c"))
    builder.write_index()
    path = envforge.cwd / "environment.yml"
    path.write_text(f"channels: [{builder.url}]\nplatforms: [linux-64, osx-arm64]\ndependencies: [a, b]\n")
    envforge("lock")
    for name in ("a", "b", "c"):
        builder.add(package(name, "2.0", "c"))
    builder.write_index()
    return path


def test_what_moved_is_said_in_a_line_a_package(envforge: Shell, spec: Path) -> None:
    done = envforge("lock", "-P", "a", "-P", "c", "--dry-run")
    assert done.out.splitlines()[2:-1] == [
        "asked for:",
        "  upgraded  a  1.0 → 2.0",
        "with them:",
        "  upgraded  c  1.0 → 2.0",
        "2 upgraded",
    ]
    document = envforge("lock", "-P", "a", "--json").json
    assert [(c["name"], c["old"], c["new"]) for c in document["difference"]["changes"]] == [
        ("a", "1.0", "2.0")
    ]
    assert document["difference"]["counts"] == {"upgraded": 1}
    again = envforge("lock")
    assert again.out.splitlines()[2:][0].startswith("conda-lock.yml unchanged")
    spec.write_text(spec.read_text().replace("[a, b]", "[a]"))
    assert "removed  b  1.0" in envforge("lock").out


def test_a_name_that_is_mistyped_and_one_that_cannot_move(envforge: Shell, spec: Path) -> None:
    before = (envforge.cwd / "conda-lock.yml").read_bytes()
    envforge("lock", "-P", "bb>1", status=None).assert_error(2, "bb is not locked", "envforge lock -P b>1")
    envforge("lock", "-P", "b=7", status=None).assert_error(1, "b=7")
    assert (envforge.cwd / "conda-lock.yml").read_bytes() == before
    assert "note: a stays at 1.0: nothing newer fits" in envforge("lock", "-P", "a<2").err
    spec.write_text(spec.read_text().replace("[a, b]", "[a]"))
    assert "note: nothing needs b any more" in envforge("lock", "-P", "b").err
