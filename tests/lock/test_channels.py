"""Which channels an environment is locked from: those that are listed, and those that a line names."""

from __future__ import annotations

from pathlib import Path

import pytest

from envforge.cli.lock import command, lock_options
from envforge.demo.channel import ChannelBuilder
from envforge.edges.channels import channel_urls
from envforge.errors import InputError, UnsatisfiableError
from envforge.lock.channels import channels_to_ask
from envforge.model.urls import filled_in
from envforge.resolvers.conda.request import named_channel

from .world import World, lines, package, versions

ANACONDA = "https://conda.anaconda.org"
MAIN, R = "https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"


@pytest.mark.parametrize(
    ("written", "urls"),
    [
        ("conda-forge", [f"{ANACONDA}/conda-forge"]),
        ("pytorch/label/nightly", [f"{ANACONDA}/pytorch/label/nightly"]),
        ("defaults", [MAIN, R]),
        ("pkgs/main", [MAIN]),
        ("https://host/t/$TOKEN/lab/", ["https://host/t/$TOKEN/lab"]),
        ("./own", ["file:///base/own"]),
        ("../own", ["file:///own"]),
        ("/srv/own", ["file:///srv/own"]),
    ],
)
def test_what_people_write_for_a_channel(written: str, urls: list[str]) -> None:
    assert channel_urls([written, written], Path("/base")) == tuple(urls)


@pytest.mark.parametrize(
    ("line", "channel"),
    [
        ("numpy", None),
        ("bioconda::samtools >=1.20", "bioconda"),
        (" conda-forge/linux-64::numpy", "conda-forge"),
        ("conda-forge/noarch::numpy", "conda-forge"),
        ("pytorch/label/nightly::pytorch", "pytorch/label/nightly"),
        ("https://host/lab::x", "https://host/lab"),
        ("x[build='a::b']", None),
    ],
)
def test_the_channel_of_a_line(line: str, channel: str | None) -> None:
    assert named_channel(line) == channel


@pytest.fixture
def other(tmp_path: Path) -> ChannelBuilder:
    """A channel that no list names."""
    made = ChannelBuilder(tmp_path / "other")
    for one in (package("lib", "9"), package("tool", "1.0", "lib")):
        made.add(one)
    made.write_index()
    return made


def test_a_line_that_names_a_channel_brings_it(world: World, other: ChannelBuilder) -> None:
    """As conda takes it; what does not name the channel still comes from the listed ones."""
    world.add(package("lib", "1"))
    world.ask(f"{other.url}::tool", "lib")
    lockfile = world.lock()
    assert versions(lockfile) == {"lib": "1", "tool": "1.0"}
    assert [channel.url for channel in lockfile.channels] == [world.channel.url, other.url]
    assert world.unmet(lockfile) is None
    world.ask(f"{other.url}::lib")
    assert versions(world.lock())["lib"] == "9"
    world.more["channels"] = ()
    world.conda = world.conda[:1]
    assert versions(world.lock()) == {"lib": "9", "tool": "1.0"}


def test_a_listed_channel_is_meant_by_its_last_part(world: World, other: ChannelBuilder) -> None:
    world.add(package("lib", "1"))
    world.more["channels"] = (world.channel.url, other.url)
    world.ask("other::lib")
    lockfile = world.lock()
    assert versions(lockfile) == {"lib": "9"}
    assert world.unmet(lockfile) is None


def test_variables_of_a_channel_are_filled_in_and_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, filled in (
        ("https://${WHO}:$WORD@host/lab", "https://ada:p%40ss%2F1@host/lab"),
        ("https://host/t/${WORD}/lab", "https://host/t/p%40ss%2F1/lab"),
        ("https://host/$WHO/lab", "https://host/$WHO/lab"),
        ("https://ada:x@host/lab", "https://ada:x@host/lab"),
    ):
        assert filled_in(text, {"WHO": "ada", "WORD": "p@ss/1"}) == filled
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(InputError, match="NOT_SET is not set") as raised:
        channels_to_ask(("https://host/t/${NOT_SET}/lab",))
    assert raised.value.do == "export NOT_SET=…"


def test_a_limit_holds_for_what_is_needed_anyway(world: World) -> None:
    world.add(package("lib", "1"), package("lib", "2"), package("app", "1.0", "lib"))
    world.more["conda_constraints"] = tuple(lines("lib <2", "nobody <1"))
    world.ask("app")
    lockfile = world.lock()
    assert versions(lockfile) == {"app": "1.0", "lib": "1"}
    assert world.unmet(lockfile) is None
    world.more["conda_constraints"] = tuple(lines("lib >=2"))
    assert "lib >=2: the constraint is not kept, lib 1" in str(world.unmet(lockfile))
    assert versions(world.lock(lockfile)) == {"app": "1.0", "lib": "2"}
    world.more["conda_constraints"] = tuple(lines("lib >=3"))
    with pytest.raises(UnsatisfiableError, match="no build of lib is lib >=3") as raised:
        world.lock()
    assert raised.value.do == "the nearest is lib 2"
    world.add(package("user", "1.0", "lib >=2"))
    world.ask("user")
    world.more["conda_constraints"] = tuple(lines("lib <2"))
    with pytest.raises(UnsatisfiableError, match="user needs lib >=2, and lib <2 is asked for"):
        world.lock()


def test_what_the_specification_chooses_counts_until_the_command_line_does(world: World) -> None:
    other = ChannelBuilder(world.root / "second")
    for one in (package("lib", "2"), package("app", "1.0", "lib >=2")):
        other.add(one)
    other.write_index()
    world.add(package("lib", "1"))
    world.more |= {"channels": (world.channel.url, other.url), "channel_priority": "disabled"}
    world.ask("app")
    lockfile = world.lock()
    assert versions(lockfile) == {"app": "1.0", "lib": "2"}
    assert world.unmet(lockfile) is None
    assert "--channel-priority" in str(world.unmet(lockfile, channel_priority="strict"))
    with pytest.raises(UnsatisfiableError):
        world.lock(channel_priority="strict")


def test_a_channel_on_the_command_line_is_seen_from_the_working_directory(
    other: ChannelBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = command.make_context("lock", ["-c", "./other", "-c", "conda-forge"]).params
    assert lock_options(given, None).channels == (other.directory.as_uri(), "conda-forge")
