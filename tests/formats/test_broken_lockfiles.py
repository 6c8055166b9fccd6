"""Lockfiles as editors, merges and full disks leave them: read, or refused with the reason and the line."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile

from .support import GOLDEN, golden, refused

NAMES = sorted(path.name.removesuffix(".conda-lock.yml") for path in GOLDEN.glob("*.conda-lock.yml"))
PLAIN = golden("plain")


def read(text: str) -> Lockfile:
    return conda_lock.read(text, source="conda-lock.yml")


def line_of(text: str, wanted: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if wanted in line)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("released")])
def test_each_release_of_conda_lock_wrote_the_same_lockfile(name: str) -> None:
    found, plain = read(golden(name)), read(PLAIN)
    assert found.packages == tuple(row for row in plain.packages if row.category != "test")
    assert [channel.url for channel in found.channels] == [channel.url for channel in plain.channels]
    assert (found.platforms, found.sources) == (plain.platforms, plain.sources)
    assert found.content_hash == plain.content_hash


def test_markers_of_a_merge_are_named_with_the_way_out() -> None:
    ours = "  version: 1.3.1\n"
    text = PLAIN.replace(ours, f"<<<<<<< HEAD\n{ours}=======\n  version: 1.3.2\n>>>>>>> theirs\n", 1)
    what, at, do = refused(lambda: read(text))
    assert what == "a conflict of a merge was left in the file: <<<<<<< HEAD"
    assert at == f"conda-lock.yml:{line_of(text, '<<<<<<<')}"
    assert do == "git checkout --ours conda-lock.yml && envforge lock   # keeps what still fits"


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "||||||| 3f2a9c1", ">>>>>>> feature/x", ">>>>>>>"])
def test_each_of_the_markers_is_enough(marker: str) -> None:
    assert "a conflict" in refused(lambda: read(f"{PLAIN}{marker}\n"))[0]


def test_a_row_that_a_merge_left_there_twice_is_one_row() -> None:
    """conda-lock itself wrote such files, too."""
    rows = PLAIN.split("package:\n")[1].split("- name:")
    assert read(f"{PLAIN}- name:{rows[1]}") == read(PLAIN)


def test_two_rows_of_a_package_that_differ_are_named_with_their_lines() -> None:
    row = PLAIN.split("package:\n")[1].split("- name:")[1]
    text = f"{PLAIN}- name:{row.replace('1.3.1', '1.2.11')}"
    what, at, _ = refused(lambda: read(text))
    assert what == "libzlib is locked twice for linux-64: 1.3.1 and 1.2.11; the other is package[0]"
    assert at == f"conda-lock.yml:{len(PLAIN.splitlines()) + 1}: package[12]"


def test_a_version_of_one_side_with_the_file_of_the_other() -> None:
    text = PLAIN.replace("version: 1.3.1", "version: 1.3.2", 1)
    what, at, _ = refused(lambda: read(text))
    assert what == "the row is of libzlib 1.3.2, and its URL of libzlib-1.3.1-hb9d3cd8_2.conda"
    assert at == f"conda-lock.yml:{line_of(text, 'libzlib-1.3.1')}: package[0].url"


def test_the_keys_of_two_rows_in_one() -> None:
    """What a merge makes of two branches that each added a row: seen in the history of pangeo's images."""
    text = PLAIN.replace("- name: pytest\n", "  manager: conda\n", 1)
    what, at, _ = refused(lambda: read(text))
    assert what == "the key 'manager' is there twice"
    number = int(str(at).rpartition(":")[2])
    assert text.splitlines()[number - 1] == "  manager: conda"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("    md5: 3e8d420506f871de098864c97bf7c2e9\n", "", "the conda package libzlib has no md5"),
        (
            "/linux-64/libzlib",
            "/win-64/libzlib",
            "the URL is of subdir 'win-64', the row of platform linux-64",
        ),
        ("  hash:\n", "  hash: &h\n", None),
        ("  optional: false\n", "  optional: maybe\n", "the text 'maybe' where true or false is needed"),
        ("  manager: conda\n", "  manager: brew\n", "manager 'brew' is neither conda nor pip"),
        ("  version: 1.3.1\n", "  version: 1.30\n", "the number 1.30 where a version is needed"),
    ],
)
def test_a_row_that_was_edited_by_hand(old: str, new: str, what: str | None) -> None:
    text = PLAIN.replace(old, new, 1)
    assert text != PLAIN
    if what is None:
        assert read(text) == read(PLAIN)
        return
    found, at, _ = refused(lambda: read(text))
    assert found == what
    assert re.match(r"conda-lock\.yml:[0-9]+: package\[0\]", str(at))
    number = int(str(at).split(":")[1])
    assert abs(number - line_of(PLAIN, old.strip() or new)) <= 6


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_lines_that_went_missing_came_twice_or_changed_places(name: str, data: st.DataObject) -> None:
    """What textual merges and hands do: the answer is a lockfile, or an error that names a line."""
    text = golden(name).splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text) - 1))
        end = min(len(text), start + data.draw(st.integers(1, 12)))
        how = data.draw(st.sampled_from(("delete", "double", "move", "cut", "indent", "char")))
        piece = text[start:end]
        if how == "delete":
            del text[start:end]
        elif how == "double":
            text[end:end] = piece
        elif how == "move":
            del text[start:end]
            place = data.draw(st.integers(0, len(text)))
            text[place:place] = piece
        elif how == "cut":
            text[start:] = [text[start][: data.draw(st.integers(0, 20))]]
        elif how == "indent":
            text[start:end] = [f"  {line}" for line in piece]
        else:
            text[start] = data.draw(st.text(max_size=8)) + text[start]
        text = text or ["\n"]
    refusal, found = None, None
    try:
        found = read("".join(text))
    except InputError as error:
        refusal = error
    if refusal is None:
        assert found is not None
        assert read(conda_lock.write(found)) == found
    else:
        assert refusal.do
        assert re.match(r"conda-lock\.yml(:[0-9]+|$)", str(refusal.at)), refusal
