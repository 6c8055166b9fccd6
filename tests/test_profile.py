"""Profiles typed by hand, and what several of them have in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.model.platforms import Target, VirtualPackage, default_target
from envforge.model.profile import intersected, parse_profile


def test_a_profile_changes_what_it_names_and_keeps_the_rest() -> None:
    target = parse_profile("linux-64 glibc=2.34 cuda=12.4 x86_64_v3")
    assert str(target) == "__archspec=1=x86_64_v3 __cuda=12.4 __glibc=2.34 __linux=4.18 __unix=0"
    assert parse_profile("osx-arm64") == default_target("osx-arm64")


def test_profiles_of_one_platform_are_intersected_to_what_all_have() -> None:
    texts = ["linux-64 glibc=2.34 cuda=12.4 x86_64_v4", "linux-64 glibc=2.9 x86_64_v2", "linux-aarch64"]
    one, other = intersected(map(parse_profile, texts))
    assert str(one) == "__archspec=1=x86_64_v2 __glibc=2.9 __linux=4.18 __unix=0"
    assert other.platform == "linux-aarch64"


@pytest.mark.parametrize(
    "text", ["", "glibc=2.28", "linux-64 glibc=new", "linux-64 glibc=", "linux-64 a=1=2", "x"]
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_profile(text)


def test_microarchitectures_without_an_order_are_refused() -> None:
    with pytest.raises(InputError, match="common"):
        intersected([parse_profile("linux-64 zen4"), parse_profile("linux-64 x86_64_v3")])


@given(st.text())
def test_any_text_is_a_profile_or_refused(text: str) -> None:
    try:
        target = parse_profile(text)
    except InputError:
        return
    assert Target.parse(target.platform, str(target)) == target


@given(st.text())
def test_any_text_is_a_virtual_package_or_refused(text: str) -> None:
    try:
        package = VirtualPackage.parse(text)
    except InputError:
        return
    assert VirtualPackage.parse(str(package)) == package
