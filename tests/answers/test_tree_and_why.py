"""``tree`` and ``why``: one graph a platform, across conda and PyPI, whatever its shape."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.edges.process import uv_executable
from envforge.model.graph import Graph, Key, graph_of
from envforge.tree import Branch, tree
from tests.answers.conftest import Ask
from tests.answers.world import BOTH, conda, lock, pip, write

SPEC = """\
channels: [conda-forge]
dependencies:
  - numpy >=1.26
  - python
  - zsh  # [osx]
  - pip: [Torch>=2]
"""
ROWS = (
    conda("numpy 2.0", "libblas >=3.9", "python >=3.12", "__glibc >=2.17", platforms=BOTH),
    conda("libblas 3.9", "libgcc", platforms=BOTH),
    conda("libgcc 14", "libgomp ==14", platforms=BOTH),
    conda("libgomp 14", "libgcc", platforms=BOTH),
    conda("python 3.12", "pip", platforms=BOTH),
    conda("pip 24", "python >=3.8", platforms=BOTH),
    conda("py-six 1.17", "python", platforms=BOTH),
    conda("zsh 5", platforms=BOTH[1:]),
    pip("torch 2.5", "numpy", "six >=1", "missing", "Typing_Extensions", platforms=BOTH),
    pip("typing-extensions 4", platforms=BOTH),
)
CUSTOM = {f"envforge.provided.{platform}": "numpy=2.0@numpy six=1.17@py-six" for platform in BOTH}


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    (tmp_path / "environment.yml").write_text(SPEC)
    lockfile = lock(*ROWS, sources=["environment.yml"], custom=CUSTOM)
    return write(tmp_path / "conda-lock.yml", lockfile)


def test_a_tree(ask: Ask, locked: Path) -> None:
    expected = """\
conda-lock.yml osx-arm64
├── numpy 2.0
│   ├── libblas 3.9          >=3.9
│   │   └── libgcc 14
│   │       └── libgomp 14   ==14
│   │           └── libgcc 14 (*)
│   └── python 3.12 (*)      >=3.12
├── python 3.12
│   └── pip 24
│       └── python 3.12 (*)  >=3.8
├── torch 2.5 (PyPI)
│   ├── numpy 2.0 (*)
│   ├── py-six 1.17          >=1
│   │   └── python 3.12 (*)
│   └── typing-extensions 4 (PyPI)
└── zsh 5
"""
    assert ask("tree", "-p", "osx-arm64").out == expected


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        (["--depth", "0", "-p", "linux-64"], ["numpy 2.0 …", "python 3.12 …", "torch 2.5 (PyPI) …"]),
        (["libgcc"], ["libgcc 14", "libgomp 14 ==14", "libgcc 14 (*)"]),
        (["SIX", "--reverse"], []),
        (["py_six", "--reverse"], ["py-six 1.17", "torch 2.5 (PyPI) >=1"]),
        (["__glibc", "--reverse"], ["__glibc", "numpy 2.0 >=2.17", "torch 2.5 (PyPI)"]),
        (
            ["--reverse", "--depth", "1", "-p", "linux-64"],
            ["typing-extensions 4 (PyPI)", "torch 2.5 (PyPI)"],
        ),
    ],
)
def test_parts_of_a_tree(ask: Ask, locked: Path, words: list[str], drawn: list[str]) -> None:
    ended = ask("tree", *words, status=0 if drawn else 1)
    lines = [" ".join(line.split()) for line in ended.out.splitlines()[1:]]
    assert [re.sub(r"^[│├└─ ]+", "", line) for line in lines] == drawn


def test_a_narrow_terminal(ask: Ask, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask("tree", "-p", "osx-arm64").out.splitlines()
    monkeypatch.setenv("COLUMNS", "24")
    lines = ask("tree", "-p", "osx-arm64").out.splitlines()
    assert len(lines) == len(whole)
    assert max(map(len, lines)) == 24
    assert sum(line.endswith("…") for line in lines) > 3
    assert all(len(line) <= 24 for line in ask("why", "libgomp").out.splitlines())


def test_json_of_a_tree(ask: Ask, locked: Path) -> None:
    document = ask("tree", "libblas", "-p", "linux-64", "-p", "osx-arm64", "--depth", "1", "--json").json
    leaf = {"name": "libgcc", "version": "14", "manager": "conda", "requirement": None, "more": "deep"}
    top = {"name": "libblas", "version": "3.9", "manager": "conda", "requirement": None, "more": None}
    drawn: list[object] = [{**top, "branches": [{**leaf, "branches": []}]}]
    assert document == {
        "source": "conda-lock.yml",
        "platforms": {"linux-64": drawn, "osx-arm64": drawn},
    }


def test_why(ask: Ask, locked: Path) -> None:
    assert (
        ask("why", "libgomp").out
        == """\
libgomp 14 on linux-64, osx-arm64
  numpy >=1.26 (environment.yml:3) → libblas → libgcc → libgomp ==14
  Torch>=2 (environment.yml:6) → numpy → libblas → libgcc → libgomp ==14
"""
    )
    assert (
        ask("why", "python").out
        == """\
python 3.12 on linux-64, osx-arm64
  python (environment.yml:4)
  numpy >=1.26 (environment.yml:3) → python >=3.12
  Torch>=2 (environment.yml:6) → numpy → python >=3.12
"""
    )
    assert ask("why", "zsh").out == "zsh 5 on osx-arm64\n  zsh (environment.yml:5)\n"
    told = ask("why", "__glibc", "--json").json["found"][0]
    assert (told["manager"], told["reasons"][0]["chain"]) == (
        "virtual",
        [{"name": "__glibc", "manager": "virtual", "requirement": ">=2.17"}],
    )


def test_why_not(ask: Ask, locked: Path) -> None:
    ask("why", "lib-blas", status=1).assert_error(
        1, "lib-blas is not in conda-lock.yml for linux-64, osx-arm64", "envforge why libblas"
    )
    ask("why", "zsh", "-p", "linux-64", status=1).assert_error(1, "is not in conda-lock.yml for linux-64")
    ask("tree", "nothing", status=1).assert_error(1, "nothing is not in conda-lock.yml")
    for verb in ("why", "tree"):
        wrong = ask(verb, "zsh", "-p", "win-64", status=2)
        wrong.assert_error(2, "no packages for win-64", "linux-64, osx-arm64")


def test_many_ways_are_told_as_few(ask: Ask, tmp_path: Path) -> None:
    rows = [conda(f"app{number:02} 1", "python") for number in range(20)]
    rows += [conda(f"deep{number:02} 1", f"step{number:02}") for number in range(12)]
    rows += [conda(f"step{number:02} 1", "python") for number in range(12)]
    write(tmp_path / "conda-lock.yml", lock(*rows, conda("python 3.12")))
    lines = ask("why", "python").out.splitlines()
    assert lines[1] == "  app00, app01, app02 and 17 more → python"
    assert lines[2] == "  deep00 → step00 → python"
    assert lines[-1] == "  and 3 more ways; --verbose names them all"
    whole = ask("why", "python", "--verbose").out.splitlines()
    assert (len(whole), whole[1].count("app")) == (14, 20)


def test_without_a_specification_and_with_one_that_changed(ask: Ask, locked: Path, tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [numpy]\n")
    # What the specification does not ask for any more is there because nobody else needs it.
    assert ask("why", "zsh").out.splitlines()[1] == "  zsh (not in the specification)"
    assert ask("tree", "--depth", "0", "-p", "osx-arm64").out.splitlines()[1:] == [
        "├── numpy 2.0 …",
        "├── torch 2.5 (PyPI) …",
        "└── zsh 5",
    ]
    for text in (None, "dependencies: [numpy", "\xff", "dependencies: []"):
        if text is None:
            (tmp_path / "environment.yml").unlink()
        else:
            (tmp_path / "environment.yml").write_bytes(text.encode("latin-1"))
        said = "  torch" if text != "dependencies: []" else "  torch (not in the specification)"
        assert ask("why", "torch").out.splitlines()[1] == said


@pytest.mark.parametrize("source", ["/etc/passwd", "../../../../../../dev/zero", "pipe", "folder.yml"])
def test_sources_that_are_no_specification(ask: Ask, tmp_path: Path, source: str) -> None:
    """A lockfile from outside names what it wants: nothing of it is waited for, or shown."""
    if sys.platform != "win32":
        import os

        os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.yml").mkdir()
    write(tmp_path / "conda-lock.yml", lock(conda("a 1"), sources=[source]))
    assert ask("why", "a").out == "a 1 on linux-64\n  a\n"


def test_long_chains_and_wide_crowds(ask: Ask, tmp_path: Path) -> None:
    """What no environment has, and a file may: 2,000 packages in a row, and all that need each other."""
    chain = [conda(f"c{number} 1", f"c{number + 1}") for number in range(2000)]
    write(tmp_path / "conda-lock.yml", lock(*chain, conda("c2000 1")))
    assert ask("why", "c2000").out.count("→") == 2000
    assert len(ask("tree").out.splitlines()) == 1 + 201
    assert ask("tree", "--json").json
    ring = [conda(f"r{number} 1", f"r{(number + 1) % 2000}") for number in range(2000)]
    write(tmp_path / "conda-lock.yml", lock(*ring))
    assert ask("why", "r2").out == "r2 1 on linux-64\n  r0 → r1 → r2\n"


NAMES = "abcdefg"


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4)))
def test_any_graph(needs: dict[str, list[str]]) -> None:
    """Every package is below a root, once with its branches; every branch is a need."""
    lockfile = lock(*(conda(f"{name} 1", *needed) for name, needed in needs.items()), platforms=["linux-64"])
    graph = graph_of(lockfile, "linux-64")
    roots = graph.roots()
    drawn = tree(graph, roots)
    seen: list[str] = []

    def walk(branch: Branch) -> None:
        if not branch.more:
            seen.append(branch.node.name)
            wanted = {name for name in needs[branch.node.name] if name in needs} - {branch.node.name}
            assert {one.node.name for one in branch.branches} == wanted
        for one in branch.branches:
            walk(one)

    for branch in drawn:
        walk(branch)
    assert set(seen) == set(needs)
    leaves = [name for name in needs if not {one for one in needs[name] if one in needs} - {name}]
    assert {name: seen.count(name) for name in needs if name not in leaves} == {
        name: 1 for name in needs if name not in leaves
    }
    for root in roots:  # whoever needs a root is below it
        assert {need.needer for need in graph.needed_by[root]} <= _reached(graph, root)


def _reached(graph: Graph, start: Key) -> set[Key]:
    todo = [start]
    for key in todo:
        todo += [need.needed for need in graph.needs.get(key, ()) if need.needed not in todo]
    return set(todo)


def test_a_virtual_environment_is_drawn_as_uv_draws_it(ask: Ask) -> None:
    """Of this very environment: every need that uv sees, and no other package."""
    done = subprocess.run(
        [uv_executable(), "pip", "tree", "--python", sys.executable, "--no-dedupe", "--depth", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {tuple(line.split()[:2]) for line in done.stdout.splitlines() if line[:1].isalnum()}
    document = ask("tree", "-l", sys.prefix, "--json").json
    ours: set[tuple[str, str]] = set()
    needs: dict[str, set[str]] = {}

    def walk(branch: dict[str, object]) -> None:
        ours.add((str(branch["name"]), f"v{branch['version']}"))
        below = branch["branches"]
        assert isinstance(below, list)
        needs.setdefault(str(branch["name"]), set()).update(one["name"] for one in below)
        for one in below:
            walk(one)

    for branch in next(iter(document["platforms"].values())):
        walk(branch)
    assert theirs <= ours
    top = ""
    for line in done.stdout.splitlines():
        match = re.match(r"(?P<indent>[│├└─ ]*)(?P<name>[A-Za-z0-9._-]+)(?P<extra>\[[^]]*\])? v", line)
        if match is None:
            continue
        if not match["indent"]:
            top = match["name"]
        elif "extra:" not in line:
            assert match["name"] in needs[top], line
