"""``diff``: every way in which two lockfiles differ, once, and nothing where they do not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.cli.differences import markdown_lines, text_lines
from envforge.diff import diff
from envforge.model.difference import KINDS
from envforge.model.graph import Asked
from envforge.model.lockfile import LockedPackage, Lockfile
from tests.answers.conftest import Ask
from tests.answers.world import BOTH, FORGE, commit, conda, git, lock, pip, write
from tests.conftest import Journey

DEFAULTS = "https://repo.anaconda.com/pkgs/main"


def lines(old: Lockfile, new: Lockfile, *asked: str) -> list[str]:
    wanted = [Asked(name=name, manager="conda", text=name) for name in asked] or None
    return [" ".join(line.split()) for line in text_lines(diff(old, new, asked=wanted))]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (conda("a 1.9"), conda("a 1.10"), "upgraded a 1.9 → 1.10"),
        (conda("a 1.10"), conda("a 1.9"), "downgraded a 1.10 → 1.9"),
        # Conda orders what PyPI would refuse, and the other way round: each by its own rules.
        (conda("a 9e"), conda("a 9f"), "upgraded a 9e → 9f"),
        (conda("a 1.0post"), conda("a 1.0"), "downgraded a 1.0post → 1.0"),
        (pip("a 1!1.0"), pip("a 2.0"), "downgraded a (PyPI) 1!1.0 → 2.0"),
        (pip("a 1.0rc1"), pip("a 1.0"), "upgraded a (PyPI) 1.0rc1 → 1.0"),
        (pip("a 2004d"), pip("a old"), "changed a (PyPI) 2004d → old"),
        (conda("a 1.0"), conda("a 1.0.0"), "changed a 1.0 → 1.0.0"),
        (conda("a 1 py312h1_3_cpu"), conda("a 1 py312h2_4_cpu"), "rebuilt a 1 build 3 → 4"),
        (conda("a 1 h1_0"), conda("a 1 h2_0"), "rebuilt a 1 build h1_0 → h2_0"),
        (conda("a 1 h1_0"), conda("a 2 h1_0", channel=DEFAULTS), "upgraded a 1 → 2 conda-forge → main"),
        (
            pip("a 1"),
            pip("a 1", host="https://example.org/x"),
            "rebuilt a (PyPI) 1 another file, PyPI → example.org",
        ),
        (conda("a 1"), pip("a 1"), "moved a (PyPI) 1 conda → PyPI"),
        (pip("a_b 1"), conda("a-b 2"), "upgraded a-b 1 → 2 PyPI → conda"),
        (conda("a 1"), conda("a 1", group="dev"), "regrouped a 1 group main → dev"),
        (conda("a 1", "b"), conda("a 1", "b >=2"), "amended a 1 needs b >=2 instead of b *"),
        (conda("a 1", "b"), conda("a 1", "b", "c"), "amended a 1 needs c * instead of nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_package_that_differs(old: list[LockedPackage], new: list[LockedPackage], line: str) -> None:
    assert lines(lock(old), lock(new)) == [line]


def test_the_same_file_from_another_channel_is_moved() -> None:
    old, new = conda("a 1 h_0"), conda("a 1 h_0", channel="https://mirror.example.org/forge")
    (moved,) = (replace(new[0], sha256=old[0].sha256, md5=old[0].md5),)
    assert lines(lock(old), lock([moved])) == ["moved a 1 conda-forge → forge"]


def test_platforms_that_agree_are_one_line_and_others_say_where() -> None:
    old = lock(conda("a 1", platforms=BOTH), conda("b 1", platforms=BOTH), conda("c 1 h_1", platforms=BOTH))
    new = lock(
        conda("a 2", platforms=BOTH),
        conda("b 2", platforms=BOTH[:1]),
        conda("b 3", platforms=BOTH[1:]),
        conda("c 1 hl_2", platforms=BOTH[:1]),
        conda("c 1 ho_2", platforms=BOTH[1:]),
    )
    assert lines(old, new) == [
        "upgraded a 1 → 2",
        "upgraded b 1 → 2 linux-64",
        "upgraded b 1 → 3 osx-arm64",
        "rebuilt c 1 build 1 → 2",
    ]
    assert diff(old, new).counts == {"upgraded": 2, "rebuilt": 1}


def test_two_conda_packages_whose_names_pypi_would_not_tell_apart() -> None:
    old = lock(conda("importlib-metadata 1"), conda("importlib_metadata 1"))
    new = lock(conda("importlib-metadata 2"), conda("importlib_metadata 2"))
    assert lines(old, new) == ["upgraded importlib-metadata 1 → 2", "upgraded importlib_metadata 1 → 2"]


def test_a_package_of_two_groups_is_one_package() -> None:
    one = lock(conda("a 1"), conda("a 1", group="dev"))
    assert not diff(one, one)
    assert lines(one, lock(conda("a 1"))) == ["regrouped a 1 group main, dev → main"]
    assert lines(one, lock(conda("a 2"), conda("a 2", group="dev"))) == ["upgraded a 1 → 2"]


def test_what_was_asked_for_comes_first() -> None:
    old = lock(conda("z 1", "a"), conda("a 1"))
    new = lock(conda("z 2", "a"), conda("a 2"), conda("b 1"))
    assert lines(old, new, "z") == [
        "asked for:",
        "upgraded z 1 → 2",
        "with them:",
        "added b 1",
        "upgraded a 1 → 2",
    ]
    # Without a specification, what no other package needs.
    assert lines(old, new) == [
        "asked for:",
        "added b 1",
        "upgraded z 1 → 2",
        "with them:",
        "upgraded a 1 → 2",
    ]


def test_what_was_locked_for() -> None:
    old = lock(conda("a 1", platforms=BOTH), custom={"envforge.target.linux-64": "__glibc=2.17 __unix=0"})
    new = lock(
        conda("a 1", platforms=("linux-64", "win-64")),
        channels=(FORGE, DEFAULTS),
        custom={"envforge.target.linux-64": "__glibc=2.28 __unix=0 __cuda=12"},
    )
    assert lines(old, new) == [
        "platform win-64 added: 1 packages",
        "platform osx-arm64 removed: 1 packages",
        "linux-64 assumes __cuda=12 __glibc=2.28 instead of __glibc=2.17",
        f"channels: {FORGE} → {FORGE}, {DEFAULTS}",
    ]
    # conda-lock writes a channel's name where envforge writes its URL.
    assert not diff(lock(conda("a 1"), channels=["conda-forge"]), lock(conda("a 1")))


NAMES = st.sampled_from(["a", "b", "a-b", "a_b"])


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    rows = {}
    for name, platform, manager in draw(
        st.lists(st.tuples(NAMES, st.sampled_from(BOTH), st.sampled_from(["conda", "pip"])), max_size=12)
    ):
        version = draw(st.sampled_from(["1", "1.0", "2", "old"]))
        make = conda if manager == "conda" else pip
        groups = draw(st.sampled_from([("main",), ("dev",), ("dev", "main")]))
        needs = draw(st.lists(NAMES, max_size=2))
        for group in groups:
            key = (name.replace("_", "-") if manager == "pip" else name, platform, manager, group)
            rows[key] = make(f"{name} {version}", *needs, platforms=[platform], group=group)
    return lock(*rows.values(), platforms=BOTH)


@given(lockfiles(), lockfiles())
def test_a_difference_is_whole(old: Lockfile, new: Lockfile) -> None:
    assert not diff(old, old)
    found, back = diff(old, new), diff(new, old)
    opposite = {"added": "removed", "upgraded": "downgraded"}
    opposite |= {other: one for one, other in opposite.items()}
    told = sorted((c.kind, p.platform) for c in found.changes for p in c.pairs)
    assert told == sorted((opposite.get(c.kind, c.kind), p.platform) for c in back.changes for p in c.pairs)
    # Every row that is on one side only is told of, once.
    rows = [row for change in found.changes for pair in change.pairs for row in (pair.old, pair.new) if row]
    named = {(row.url, row.platform) for row in rows}
    for one, other in itertools.permutations((old, new)):
        files = {(row.url, row.platform) for row in other.packages}
        for row in one.packages:
            assert (row.url, row.platform) in files | named
    assert all(change.kind in KINDS for change in found.changes)
    assert bool(found) is bool(list(text_lines(found)))
    assert list(markdown_lines(found, "a → b"))


# -- sides ---------------------------------------------------------------------------------------------

SPEC = "channels: [conda-forge]\ndependencies: [z, pip, {pip: [P_Q]}]\n"
OLD = (conda("z 1", "a"), conda("a 1"), pip("p-q 1"))
NEW = (conda("z 1", "a"), conda("a 2"), pip("p-q 2"))


def test_revisions_of_git(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "environment.yml").write_text(SPEC)
    path = write(tmp_path / "conda-lock.yml", lock(*OLD, sources=["environment.yml"]))
    write(tmp_path / "sub" / "conda-lock.yml", lock(*OLD, sources=["../environment.yml"]))
    commit(tmp_path)
    assert ask("diff").out == "HEAD:./conda-lock.yml → conda-lock.yml: no difference\n"
    write(path, lock(*NEW, sources=["environment.yml"]))
    write(tmp_path / "sub" / "conda-lock.yml", lock(*NEW))
    told = ask("diff", status=1).out
    assert [line.split() for line in told.splitlines()] == [
        ["asked", "for:"],
        ["upgraded", "p-q", "(PyPI)", "1", "→", "2"],
        ["with", "them:"],
        ["upgraded", "a", "1", "→", "2"],
        ["HEAD:./conda-lock.yml", "→", "conda-lock.yml:", "2", "upgraded"],
    ]
    changes = ask("diff", "--json", status=1).json["changes"]
    assert [(change["name"], change["direct"]) for change in changes] == [("p-q", True), ("a", False)]
    for old in ("main:conda-lock.yml", "main:sub/conda-lock.yml", "main:./sub/conda-lock.yml"):
        assert ask("diff", old, "--json", status=1).json["changes"] == changes
    commit(tmp_path, "again")
    assert (
        ask("diff", "HEAD~1:conda-lock.yml", "HEAD:conda-lock.yml", "--json", status=1).json["changes"]
        == changes
    )


def test_from_a_folder_of_the_repository(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "conda-lock.yml", lock(*OLD))
    commit(tmp_path)
    write(tmp_path / "sub" / "conda-lock.yml", lock(*NEW))
    monkeypatch.chdir(tmp_path / "sub")
    for words in ((), ("HEAD:sub/conda-lock.yml",), ("HEAD:./conda-lock.yml",)):
        assert "upgraded" in ask("diff", *words, status=1).out


@pytest.mark.parametrize(
    ("old", "why"),
    [
        ("HEAD:nothing.yml", "git has no HEAD:nothing.yml: path 'nothing.yml' does not exist in 'HEAD'"),
        ("nobody:conda-lock.yml", "git has no nobody:conda-lock.yml"),
        ("HEAD:sub", "git has no HEAD:sub: it is no file"),
        ("--output=x:y", "no such option"),
        ("--:y", "no such option"),
        ("nothing.yml", "no such lockfile"),
        ("sub", "there is no mirror here"),
        ("HEAD:binary", "not a text file"),
        ("HEAD:environment.yml", "this is a specification and not a lockfile"),
    ],
)
def test_what_is_no_lockfile(ask: Ask, tmp_path: Path, old: str, why: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "binary").write_bytes(b"\xff")
    (tmp_path / "binary").write_bytes(b"\xff\0")
    (tmp_path / "environment.yml").write_text(SPEC)
    write(tmp_path / "conda-lock.yml", lock(*OLD))
    commit(tmp_path)
    ended = ask("diff", old, status=2)
    assert why in ended.err.lower() if why.islower() else why in ended.err
    assert git(tmp_path, "status", "--porcelain") == ""  # and nothing was written


def test_outside_of_a_repository(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "conda-lock.yml", lock(*OLD))
    ask("diff", status=2).assert_error(2, "git has no HEAD:./conda-lock.yml", "not a git repository")


def test_markdown(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "old-lock.yml", lock(conda("a 1"), conda("b_c 1"), conda("z 1", "b_c")))
    write(tmp_path / "conda-lock.yml", lock(conda("a 2"), conda("b_c 2"), conda("z 1", "b_c")))
    expected = """\
### old-lock.yml → conda-lock.yml: 2 upgraded

| | package | version | | platforms |
|---|---|---|---|---|
| upgraded | **a** | 1 → 2 |  | all |

<details><summary>1 more that come with them</summary>

| | package | version | | platforms |
|---|---|---|---|---|
| upgraded | b\\_c | 1 → 2 |  | all |

</details>
"""
    assert ask("diff", "old-lock.yml", "--format", "markdown", status=1).out == expected


def test_markdown_cannot_be_steered_from_a_lockfile() -> None:
    """Whatever its reader lets pass: a comment of a pull request shows it, and does nothing with it."""
    wicked = [replace(conda("a 1")[0], version="1|<img>[x](y)", category="`*~&")]
    told = "\n".join(markdown_lines(diff(lock(conda("a 1")), lock(wicked)), "<b>"))
    assert "1 → 1\\|\\<img\\>\\[x\\](y)" in told
    assert "group main → \\`\\*\\~\\&" in told
    assert told.startswith("### \\<b\\>: 1 changed\n")


def test_a_platform_at_a_time(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "a-lock.yml", lock(conda("a 1", platforms=BOTH)))
    write(tmp_path / "b-lock.yml", lock(conda("a 2", platforms=BOTH[:1]), conda("a 1", platforms=BOTH[1:])))
    assert "linux-64" not in ask("diff", "a-lock.yml", "b-lock.yml", "-p", "linux-64", status=1).out
    ask("diff", "a-lock.yml", "b-lock.yml", "-p", "osx-arm64")
    wrong = ask("diff", "a-lock.yml", "b-lock.yml", "-p", "win-64", status=2)
    wrong.assert_error(2, "neither has that platform")


def test_a_prefix_is_the_lock_that_it_was_made_of(ask: Ask, journey: Journey, tmp_path: Path) -> None:
    """Of another platform, and of groups that were not installed, it says nothing."""
    from envforge.formats import conda_lock

    locked = conda_lock.read(journey.lockfile.read_text(), source="journey")
    added = (*conda("more 1", platforms=locked.platforms, group="dev"), *conda("a 1", platforms=["win-64"]))
    more = replace(
        locked,
        packages=(*locked.packages, *added),
        platforms=(*locked.platforms, "win-64"),
    )
    write(tmp_path / "more-lock.yml", more)
    ask("install", journey.mirror, "--prefix", tmp_path / "P")
    for side in (journey.lockfile, journey.mirror, "more-lock.yml"):
        assert "no difference" in ask("diff", side, "P").out
    changed = (
        replace(row, version="9", url=row.url.replace("-1.0-", "-9-")) if row.name == "greet" else row
        for row in more.packages
    )
    write(tmp_path / "more-lock.yml", replace(more, packages=tuple(changed)))
    assert "upgraded  greet  1.0 → 9\n" in ask("diff", "P", "more-lock.yml", status=1).out
    assert ask("why", "greet-core", "-l", "P").out.splitlines()[0].startswith("greet-core 1.4 on ")


def test_every_kind_is_in_the_reference() -> None:
    from tests.docs.sandbox import ROOT

    page = (ROOT / "docs" / "reference" / "differences.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip(" `") for line in page.splitlines() if line.startswith("| `")]
    assert tuple(rows) == KINDS
