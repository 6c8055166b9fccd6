"""What cannot be had is explained from the records: who needs what, what clashes, and what would help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envforge.errors import UnsatisfiableError
from tests.conda.world import Asking, Records, target


def test_all_missing_names_at_once_with_the_names_that_are_near(channel: Records, ask: Asking) -> None:
    for name in ("pytorch", "numpy", "scikit-learn", "trust"):
        channel.add(name)
    error = ask.refused("torch", "numpy", "nunpy", "horovod")
    assert "no package torch, nunpy or horovod in" in error.what
    assert error.at == "environment.yml:1, environment.yml:3, environment.yml:4"
    assert "write pytorch for torch" in str(error.do)
    assert "write numpy for nunpy" in str(error.do)
    assert "check the spelling of horovod, take it from pip, or add the channel that has it" in str(error.do)
    error = ask.refused("bioconductor-deseq2", "pytorhc", "r-x", "rust4", "numpi2")
    assert error.do == (
        "write pytorch for pytorhc; add conda-forge to the channels for r-x; "
        "add bioconda to the channels for bioconductor-deseq2; "
        "check the spelling of rust4 and numpi2, take them from pip, or add the channel that has them"
    )


def test_what_one_platform_lacks_and_others_have(channel: Records, ask: Asking) -> None:
    for platform in ("linux-64", "osx-arm64"):
        channel.add("a", subdir=platform)
        channel.add("b", "2.0", subdir=platform)
    channel.add("b", "1.0", subdir="linux-aarch64")
    error = ask.refused("a", "b=2", on=target("linux-aarch64"))
    assert "linux-aarch64 lacks a (linux-64 and osx-arm64 have it)" in error.what
    assert "no build of b is b=2, and linux-64 and osx-arm64 have one" in error.what
    assert "- a  # [linux64], or lock without -p linux-aarch64" in str(error.do)


def test_the_versions_and_builds_that_are_nearest(channel: Records, ask: Asking) -> None:
    for version in ("1.0", "1.4", "2.1", "3.0"):
        channel.add("a", version, build="py312h0123456_1")
    channel.add("a", "2.1", build="py313h0123456_0")
    error = ask.refused("a=1.9")
    assert "no build of a is a=1.9" in error.what
    assert error.do == "the nearest is a 1.4 or 2.1"
    assert ask.refused("a=2.1=cuda*").do == "there is: py312, py313"
    assert ask.refused("a>=9").do == "the nearest is a 3.0"


def test_two_lines_that_clash_further_down(channel: Records, ask: Asking) -> None:
    channel.add("mpi", build="openmpi")
    channel.add("mpi", build="mpich")
    channel.add("openmpi", "5.0", "mpi 1.0.* openmpi")
    channel.add("mpich", "4.0", "mpi 1.0.* mpich")
    channel.add("hdf", "1.0", "openmpi >=5,<6", build="mpi_openmpi_0")
    channel.add("hdf", "1.0", "mpich >=4,<5", build="mpi_mpich_0")
    channel.add("other")
    error = ask.refused("other", "hdf=*=mpi_openmpi*", "mpich")
    assert "hdf=*=mpi_openmpi* needs openmpi >=5,<6, which needs mpi 1.0.* openmpi" in error.what
    assert "and mpich needs mpi 1.0.* mpich" in error.what
    assert error.at == "environment.yml:2, environment.yml:3"
    assert "an environment holds one MPI" in str(error.do)
    assert "write hdf for hdf=*=mpi_openmpi*: 1.0 mpi_mpich fits" in str(error.do)
    assert "leave mpich out" in str(error.do)


@pytest.mark.parametrize(
    ("need", "assumed", "option"),
    [
        ("__cuda >=12.2", "no __cuda", "--cuda 12.2"),
        ("__cuda", "no __cuda", "--cuda 12.0"),
        ("__glibc >=2.34,<3.0.a0", "__glibc 2.28", "--glibc 2.34"),
        ("__linux >=5.14", "__linux 4.18", "--virtual-package __linux=5.14"),
        ("__archspec 1 x86_64_v3", "__archspec 1", "--virtual-package __archspec=1=x86_64_v3"),
    ],
)
def test_a_target_that_offers_too_little(
    channel: Records, ask: Asking, need: str, assumed: str, option: str
) -> None:
    channel.add("lib", "1.0", need)
    channel.add("a", "1.0", "lib")
    error = ask.refused("a")
    assert f"a needs lib, which needs {need}, and {assumed} is assumed" in error.what
    assert f"envforge lock {option}" in str(error.do)


def test_what_no_option_can_offer_is_for_another_platform(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "__unix")
    error = ask.refused("a", on=target("win-64"))
    assert "a needs __unix, and no __unix is assumed" in error.what
    assert "# [linux64], or lock without -p win-64" in str(error.do)


def test_the_least_that_is_enough_is_proposed(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "__cuda", "version 12.*")
    channel.add("version", "12.0", constrains=["__cuda >=12.0"])
    channel.add("version", "12.9", constrains=["__cuda >=12.9"])
    assert "--cuda 12.0" in str(ask.refused("a").do)


def test_what_needs_a_package_that_is_nowhere(channel: Records, ask: Asking) -> None:
    channel.add("a", "1.0", "b >=2")
    assert "a needs b >=2, which no channel has" in ask.refused("a").what
    channel.add("b", "1.0")
    assert "a needs b >=2, which no channel has in such a build" in ask.refused("a").what


def test_a_choice_of_releases_that_all_fail(channel: Records, ask: Asking) -> None:
    for version in ("3.11", "3.12"):
        channel.add("python", f"{version}.1")
        channel.add(
            "numpy", "1.0" if version == "3.11" else "2.0", f"python {version}.*", build=f"{version[2:]}_0"
        )
        channel.add("scipy", "1.0", f"python {version}.*", "numpy 2.*" if version == "3.11" else "numpy 1.*",
                    build=f"{version[2:]}_0")  # fmt: skip
    error = ask.refused("numpy", "scipy")
    assert "with python 3.12 scipy needs numpy 1.*, which needs python 3.11.*" in error.what
    assert "with python 3.11 scipy needs numpy 2.*, which needs python 3.12.*" in error.what


def test_two_conflicts_that_have_nothing_to_do_with_each_other(channel: Records, ask: Asking) -> None:
    for name in ("x", "y"):
        channel.add(name, "1")
        channel.add(name, "2")
        channel.add(f"{name}-one", "1", f"{name} 1")
        channel.add(f"{name}-two", "1", f"{name} 2")
    error = ask.refused("x-one", "y-one", "x-two", "y-two")
    for name in ("x", "y"):
        assert f"{name}-two needs {name} 2" in error.what or f"{name}-one needs {name} 1" in error.what
    assert "leave x-one out, or leave x-two out" in str(error.do)
    assert "leave y-one out, or leave y-two out" in str(error.do)


def test_a_channel_that_comes_first_hides_what_is_needed(channel: Records, tmp_path: Path) -> None:
    later = Records(tmp_path / "later")
    channel.add("x", "1")
    channel.add("a", "1", "x >=2")
    later.add("x", "2")
    ask = Asking(tmp_path / "cache", channel.url, later.url)
    error = ask.refused("a")
    assert "a needs x >=2, which no channel has in such a build" in error.what
    assert "--channel-priority flexible" in str(error.do)
    assert ask.solve("a", channel_priority="flexible")["x"].version == "2"


def test_a_channel_is_named_by_the_last_part_of_its_url(channel: Records, tmp_path: Path) -> None:
    later = Records(tmp_path / "later")
    channel.add("x", "1")
    later.add("x", "2")
    ask = Asking(tmp_path / "cache", channel.url, later.url)
    assert ask.solve("x")["x"].version == "1"
    assert ask.solve("later::x")["x"].version == "2"


def test_what_is_too_new(channel: Records, ask: Asking) -> None:
    channel.add("x", "1", timestamp=1_600_000_000_000)
    channel.add("x", "2", timestamp=1_700_000_000_000)
    channel.add("a", "1", "x >=2")
    assert ask.solve("x", exclude_newer="2022-01-01")["x"].version == "1"
    error = ask.refused("x>=2", exclude_newer="2022-01-01")
    assert "--exclude-newer" in f"{error.what} {error.do}"
    error = ask.refused("a", exclude_newer="2022-01-01")
    assert "--exclude-newer" in f"{error.what} {error.do}"


def test_records_that_are_odd(channel: Records, ask: Asking) -> None:
    channel.add(
        "a", "1!2.0.post1+local_3", "b [build=x*]", "B >=1 ", "c  >=1,<2|>3", "this is no matchspec ==="
    )
    channel.add("b", "2022a")
    channel.add("c", "2.5")
    error = ask.refused("a")
    assert "a needs" in error.what


names = st.sampled_from("abcde")
versions = st.sampled_from(["1", "1.5", "2", "3.0rc1"])
limits = st.sampled_from(
    ["", " 1.*", " >=2", " >=1,<2", " <=1.5", " ==9|1", " * x*", " ~=1.0", " >=1,<x", " !!"]
)
virtual = st.sampled_from(["__cuda >=12", "__glibc >=2.34,<3", "__archspec 1 x86_64_v3", "__odd"])
needs = st.lists(st.one_of(st.builds("{}{}".format, names, limits), virtual), max_size=3, unique=True)
builds = st.sampled_from(["0", "x_1", "py3_h0123456_2"])
channels = st.lists(st.tuples(names, versions, builds, needs, needs), max_size=14)
lines = st.lists(st.builds("{}{}".format, names, st.sampled_from(["", "=1", ">=2", "=*=x*", "<2"])),
                 min_size=1, max_size=4)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(channels, lines)
def test_whatever_a_channel_holds_there_is_a_solution_or_an_explanation(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], specs: list[str]
) -> None:
    place = tmp_path_factory.mktemp("any")
    channel = Records(place / "channel")
    channel.add("z")
    for name, version, build, depends, constrains in records:
        channel.add(name, version, *depends, build=build, constrains=constrains)
    caught: list[UnsatisfiableError] = []
    try:
        Asking(place / "cache", channel.url).solve(*specs)
    except UnsatisfiableError as error:
        caught.append(error)
    assert all("environment.yml" in str(error.at) and error.do for error in caught)


# -- real channels -----------------------------------------------------------------------------------------

CUDA = ("__cuda=12.4", "__archspec=1=x86_64_v3", "__linux=5.14")


def test_two_mpis(real: Asking) -> None:
    error = real.refused("python=3.12", "mpich", "mpi4py", "h5py=*=mpi_openmpi*")
    assert error.at == "environment.yml:2, environment.yml:4"
    assert "mpich needs mpi 1.0.* mpich" in error.what
    assert "openmpi" in error.what
    assert "one MPI" in str(error.do)


def test_no_gpu(real: Asking) -> None:
    error = real.refused("python=3.12", "pytorch-gpu", "transformers")
    assert "__cuda" in error.what
    assert "envforge lock --cuda 12.0" in str(error.do)
    assert len(real.solve("python=3.12", "pytorch-gpu", "transformers", on=target("linux-64", *CUDA))) == 122


def test_names_of_pypi(real: Asking) -> None:
    error = real.refused("python=3.12", "numpy", "torch", "horovod")
    assert "torch" in error.what
    assert "horovod" in error.what
    assert "write pytorch for torch" in str(error.do)


def test_a_platform_without_a_package(real: Asking) -> None:
    specs = ("python=3.12", "openmpi=5", "mpi4py>=4", "numpy")
    error = real.refused(*specs, on=target("linux-aarch64"))
    assert "linux-aarch64 lacks mpi4py>=4" in error.what
    assert "- mpi4py>=4  # [linux64]" in str(error.do)


def test_pins_that_are_too_old(real: Asking) -> None:
    error = real.refused("python=3.14", "numpy=1.26", "scipy")
    assert "numpy=1.26 needs python >=3.9,<3.13.0a0, and python=3.14 is asked for" in error.what
    assert "write numpy for numpy=1.26" in str(error.do)
    assert "write python for python=3.14" in str(error.do)
