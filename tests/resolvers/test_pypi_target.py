from __future__ import annotations

import pytest
from packaging.markers import Marker
from packaging.tags import Tag

from envforge.errors import InputError
from envforge.model.platforms import PLATFORMS, Target
from envforge.resolvers.pypi.request import requirement_name
from envforge.resolvers.pypi.target import marker_environment, uv_platform, wheel_tags

from ._resolving import lines, target


def names(where: Target, python: str = "3.11.14") -> list[str]:
    return [str(tag) for tag in wheel_tags(where, python)]


def test_tags_are_the_targets_own_best_first() -> None:
    tags = names(target("linux-64", "__glibc=2.28"))
    assert tags[0] == "cp311-cp311-manylinux_2_28_x86_64"
    ordered = [
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "cp311-cp311-manylinux2010_x86_64",
        "cp311-cp311-manylinux_2_5_x86_64",
        "cp311-cp311-manylinux1_x86_64",
        "cp311-cp311-linux_x86_64",
        "cp311-abi3-manylinux_2_17_x86_64",
        "cp37-abi3-manylinux_2_17_x86_64",
        "py3-none-manylinux_2_28_x86_64",
        "py3-none-any",
    ]
    assert [tags.index(tag) for tag in ordered] == sorted(tags.index(tag) for tag in ordered)
    assert len(tags) == len(set(tags))
    assert not [tag for tag in tags if "manylinux_2_29" in tag or "cp312" in tag or "aarch64" in tag]


@pytest.mark.parametrize(
    ("platform", "has", "has_not"),
    [
        ("linux-aarch64", "cp311-cp311-manylinux2014_aarch64", "manylinux_2_16"),
        ("linux-ppc64le", "cp311-cp311-manylinux2014_ppc64le", "x86_64"),
        ("osx-arm64", "cp311-cp311-macosx_11_0_arm64", "macosx_14"),
        ("osx-64", "cp311-cp311-macosx_10_9_x86_64", "arm64"),
        ("win-64", "cp311-cp311-win_amd64", "win32"),
        ("win-arm64", "cp311-cp311-win_arm64", "amd64"),
    ],
)
def test_tags_of_every_platform(platform: str, has: str, has_not: str) -> None:
    tags = names(target(platform))
    assert has in tags
    assert not [tag for tag in tags if has_not in tag]


def test_python_of_two_digits() -> None:
    assert Tag("cp314", "cp314", "win_amd64") in wheel_tags(target("win-64"), "3.14.0rc2")


@pytest.mark.parametrize(
    ("platform", "changes", "expected"),
    [
        ("linux-64", ["__glibc=2.17"], "x86_64-manylinux_2_17"),
        ("linux-64", ["__glibc=2.26"], "x86_64-manylinux_2_17"),
        ("linux-64", ["__glibc=2.30"], "x86_64-manylinux_2_28"),
        ("linux-64", ["__glibc=2.34"], "x86_64-manylinux_2_34"),
        ("linux-64", ["__glibc=2.43"], "x86_64-manylinux_2_40"),
        ("linux-aarch64", ["__glibc=2.28"], "aarch64-manylinux_2_28"),
        ("linux-ppc64le", [], "powerpc64le-unknown-linux-gnu"),
        ("osx-arm64", [], "aarch64-apple-darwin"),
        ("win-64", [], "x86_64-pc-windows-msvc"),
    ],
)
def test_glibc_is_rounded_down_to_one_that_uv_knows(platform: str, changes: list[str], expected: str) -> None:
    assert uv_platform(target(platform, *changes))[0] == expected


def test_macos_version_goes_to_uv() -> None:
    assert uv_platform(target("osx-arm64", "__osx=14.2"))[1] == {"MACOSX_DEPLOYMENT_TARGET": "14.2"}


@pytest.mark.parametrize("function", [uv_platform, lambda where: wheel_tags(where, "3.11.14")])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("__glibc=2.12", "wheels need glibc 2.17 or newer, the target has 2.12"),
        ("__unix", "wheels for linux-64 cannot be chosen without a version of __glibc"),
    ],
)
def test_a_target_that_no_wheel_is_made_for(function: object, text: str, what: str) -> None:
    assert callable(function)
    with pytest.raises(InputError) as caught:
        function(Target.parse("linux-64", text))
    assert caught.value.what == what
    assert caught.value.do is not None


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_marker_has_a_value(platform: str) -> None:
    environment = marker_environment(target(platform), "3.11.14")
    assert environment["python_version"] == "3.11"
    assert environment["python_full_version"] == "3.11.14"
    assert environment["platform_release"] == environment["platform_version"] == ""
    for name, value in environment.items():
        assert Marker(f'{name} == "{value}"').evaluate(environment)


def test_markers_of_a_mac_and_of_windows() -> None:
    mac = marker_environment(target("osx-arm64"), "3.12.1")
    assert (mac["platform_machine"], mac["platform_system"], mac["os_name"]) == ("arm64", "Darwin", "posix")
    windows = marker_environment(target("win-64"), "3.12.1")
    assert (windows["platform_machine"], windows["sys_platform"], windows["os_name"]) == (
        "AMD64",
        "win32",
        "nt",
    )


def test_markers_of_a_version_that_is_not_full() -> None:
    assert marker_environment(target(), "3")["python_version"] == "3"


def test_the_name_of_a_requirement() -> None:
    assert requirement_name(lines('Foo_Bar.baz[x] >=1 ; python_version > "3"')[0]) == "foo-bar-baz"
