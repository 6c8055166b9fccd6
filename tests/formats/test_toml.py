"""The line of every key and item of a TOML document."""

from __future__ import annotations

import pytest
import tomli

from envforge.formats._toml import Node, read_toml

from .support import refused

TEXT = '''\
# a = 1
title = "x"  # ]
"quoted.key" = [1, "]", [ 2,
  3], """
[not.a.table]
""", {a = 1, b.c = 2}]
[one.two]
a.b = 1
a.c = "\\"[["
c = """x"""""
d = \'\'\'y\'\'\'\'
when = 1979-05-27 07:32:00
[[many]]
n = 1
[many.inner]
x = {y = {z = 1},
  w = 2,  # TOML 1.1
}
[[many]]
n = 2
[[many.deep]]
k = 1
'''
LINES = {
    ("title",): 2,
    ("quoted.key",): 3,
    ("quoted.key", 2, 1): 4,
    ("quoted.key", 3): 4,
    ("quoted.key", 4): 6,
    ("quoted.key", 4, "b", "c"): 6,
    ("one", "two"): 7,
    ("one", "two", "a", "b"): 8,
    ("one", "two", "a", "c"): 9,
    ("one", "two", "d"): 11,
    ("one", "two", "when"): 12,
    ("many", 0, "n"): 14,
    ("many", 0, "inner", "x", "y", "z"): 16,
    ("many", 0, "inner", "x", "w"): 17,
    ("many", 1): 19,
    ("many", 1, "n"): 20,
    ("many", 1, "deep", 0, "k"): 22,
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_key_has_its_line(newline: str) -> None:
    root = read_toml(TEXT.replace("\n", newline), source="x.toml")
    assert root.value == tomli.loads(TEXT)
    for path, line in LINES.items():
        assert Node(value=None, path=path, places=root.places).at == f"x.toml:{line}", path


def test_a_place_that_is_not_there_is_that_of_what_it_is_part_of() -> None:
    root = read_toml("a = 1\n[b]\nc = 2\n", source="x")
    assert Node(value=None, path=("b", "nothing", 3), places=root.places).at == "x:2"
    assert Node(value=None, path=("nothing",), places=root.places).at == "x"


@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("a = 1\nb = \n", "not valid TOML: Invalid value", "x:2"),
        ("a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value", "x:2"),
        ("[" * 100_000, "not valid TOML: Invalid initial character for a key part", "x:1"),
        (f"a = {'[' * 100_000}", "nested too deeply", "x"),
        (f"a = {'{a=' * 100_000}", "nested too deeply", "x"),
        (f"a = {'9' * 5000}", "not valid TOML", "x"),
        ("x" * 10_000_001, "larger than 10 MB", "x"),
    ],
)
def test_what_is_no_toml(text: str, what: str, at: str) -> None:
    said, place, _ = refused(lambda: read_toml(text, source="x"))
    assert (said, place) == (what, at)
