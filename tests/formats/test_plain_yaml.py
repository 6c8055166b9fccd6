"""What is written without PyYAML is what PyYAML writes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envforge.formats import _yaml
from envforge.formats._plain_yaml import plainly

SIGNS = [
    *"-.:#'\"[]{}?!&*|>%@`=<~ ,0123456789eExXo_yntf+/\\",
    "yes",
    "null",
    "2001-01-01",
    "---",
    "...",
    " #",
    ": ",
]
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12) | st.lists(
    st.sampled_from([*SIGNS, "true", "NO", "71e52", "0x1f", "1:30", "<<"]), max_size=6
).map("".join)
KEYS = TEXTS | st.text("a", min_size=95, max_size=140)
LEAVES = TEXTS | st.integers() | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=3))
@example({"a": "71e52", "b": ":0", "c": [[], {}, ["x", ["y"]], {"d": [{"e": True}]}]})
def test_the_bytes_are_those_of_pyyaml(document: dict[str, object]) -> None:
    found = plainly(document)
    if found is not None:
        assert found == _yaml._dumped(document)


@pytest.mark.parametrize("value", ["", " a", "a ", "a\nb", "ü", "\x7f", None, 1.5, ("a",), {1: "a"}])
def test_what_it_does_not_know_is_left_to_pyyaml(value: object) -> None:
    assert plainly({"a": value}) is None
    assert _yaml.render({"a": "b"}) == "a: b\n"


def test_a_lockfile_is_written_without_pyyaml() -> None:
    row = {
        "name": "a",
        "dependencies": {"__glibc": ">=2.17,<3.0.a0"},
        "hash": {"md5": "0" * 32},
        "optional": False,
    }
    assert plainly({"version": 1, "metadata": {"platforms": ["linux-64"]}, "package": [row]}) == (
        "version: 1\nmetadata:\n  platforms:\n  - linux-64\npackage:\n- name: a\n  dependencies:\n"
        "    __glibc: '>=2.17,<3.0.a0'\n  hash:\n    md5: '00000000000000000000000000000000'\n"
        "  optional: false\n"
    )
