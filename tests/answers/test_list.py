"""``list``: what is held where, with size and origin; and which environments below a directory hold it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.edges.environments import read_environment
from envforge.errors import EnvforgeError
from envforge.reporting import Recorder
from tests.answers.conftest import Ask
from tests.answers.world import BOTH, conda, lock, pip, write
from tests.conftest import Ended, Journey, Shell, once


def names(ended: Ended) -> list[str]:
    return [row["name"] for row in ended.json["packages"]]


@pytest.fixture(scope="session")
def installed(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration's environment, installed once; do not change it."""

    def make(root: Path) -> Path:
        Shell(root, root)("install", journey.mirror, "--prefix", "P", "--quiet")
        return root / "P"

    return once(tmp_path_factory, "listed", make)


@pytest.fixture(scope="session")
def foreign(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as conda would have left it: no receipt, and the wheels by pip's own records."""
    path = tmp_path_factory.mktemp("foreign") / "conda"
    shutil.copytree(installed.resolve(), path, symlinks=True)
    shutil.rmtree(path / ".envforge")
    for record in sorted((path / "conda-meta").glob("*.json")):
        document = json.loads(record.read_text())
        document["requested_spec"] = "greet >=1" if document["name"] == "greet" else "None"
        record.write_text(json.dumps(document))
    return path


def test_one_environment_wherever_it_is(ask: Ask, journey: Journey, installed: Path, foreign: Path) -> None:
    locked = ask("list", journey.lockfile, "--json").json["packages"]
    assert {row["size"] for row in locked} == {None}
    for source, kind in ((journey.mirror, "mirror"), (installed, "prefix"), (foreign, "conda")):
        document = ask("list", source, "--json").json
        assert document["kind"] == kind
        rows = document["packages"]
        if kind == "conda":  # pip writes down neither where from, nor a hash
            rows = [row | _where_from(one) for row, one in zip(rows, locked, strict=True)]
        assert [row | {"size": None} for row in rows] == locked
        assert all(row["size"] > 0 for row in rows)
    files = {path.name: path.stat().st_size for path in journey.mirror.rglob("*.*") if path.is_file()}
    for row in ask("list", journey.mirror, "--json").json["packages"]:
        assert row["size"] == files[row["url"].rpartition("/")[2]]


def _where_from(row: dict[str, object]) -> dict[str, object]:
    keys = ("url", "sha256", "origin") if row["manager"] == "pip" else ()
    return {key: row[key] for key in keys}


def test_a_table(ask: Ask, tmp_path: Path) -> None:
    write(tmp_path / "conda-lock.yml", lock(conda("xz 5.6.1 h_0", platforms=BOTH), pip("certifi 2024.1.1")))
    assert (
        ask("list").out
        == """\
linux-64   certifi  2024.1.1       PyPI
linux-64   xz       5.6.1     h_0  https://conda.anaconda.org/conda-forge
osx-arm64  xz       5.6.1     h_0  https://conda.anaconda.org/conda-forge
3 packages
"""
    )
    assert ask("list", "-p", "osx-arm64").out.splitlines()[1] == "1 package"


def test_a_package_of_several_groups_is_one(ask: Ask, tmp_path: Path) -> None:
    rows = [conda("xz 5 h_0", group=group) for group in ("test", "dev")] + [conda("zlib 1 h_0")]
    write(tmp_path / "conda-lock.yml", lock(*rows))
    assert "(dev, test)\n" in ask("list").out
    assert [row["groups"] for row in ask("list", "--json").json["packages"]] == [["dev", "test"], ["main"]]


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("xz", ["xz", "xz"]),
        ("xz>=5.6,<5.6.2", ["xz"]),
        ("xz 5.6.*", ["xz"]),
        ("xz=5.4=h_*", ["xz"]),
        ("conda-forge::xz=5.4", ["xz"]),
        ("defaults::xz", []),
        ("Typing_Extensions>=4", ["typing-extensions"]),
        ("typing-extensions=3", []),
        ("odd", ["odd"]),
        ("odd>=1", []),
        ("x", []),
    ],
)
def test_what_fits(ask: Ask, tmp_path: Path, spec: str, found: list[str]) -> None:
    rows = (conda("xz 5.6.1 h_0"), conda("xz 5.4 h_1", platforms=BOTH[1:]), pip("typing-extensions 4.1"))
    write(tmp_path / "conda-lock.yml", lock(*rows, pip("odd one_two")))
    assert names(ask("list", "conda-lock.yml", spec, "--json", status=0 if found else 1)) == found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["conda-lock.yml", "xz>>5"], "is no MatchSpec"),
        (["conda-lock.yml", ""], "is no MatchSpec"),
        (["a", "b", "c"], "3 words, where 2 can be used"),
        (["--root", ".", "a", "b"], "2 words, where 1 can be used"),
        (["--root", "nowhere"], "no such directory"),
        (["nowhere"], "no such lockfile, mirror, bundle or prefix"),
        (["dangling"], "points to a generation that is not there"),
    ],
)
def test_what_cannot_be_asked(ask: Ask, tmp_path: Path, words: list[str], why: str) -> None:
    write(tmp_path / "conda-lock.yml", lock(conda("xz 5")))
    (tmp_path / "dangling").symlink_to("dangling.generations/0")
    ask("list", *words, status=2).assert_error(2, why)


def test_a_foreign_environment_is_what_was_locked(ask: Ask, journey: Journey, foreign: Path) -> None:
    assert "no difference" in ask("diff", journey.lockfile, foreign).out
    tops = ask("tree", "-l", foreign, "--depth", "0").out.splitlines()[1:]
    assert [line.split()[1] for line in tops] == ["greet", "greet-client"]
    assert "  greet >=1 → greet-core" in ask("why", "greet-core", "-l", foreign).out


Spoil = Callable[[Path], object]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: (meta / "greet-1.0-pyh0_0.json").write_text("{"),
        lambda meta: (meta / "greet-1.0-pyh0_0.json").write_text("[]"),
        lambda meta: (meta / "greet-1.0-pyh0_0.json").write_text("[" * 100_000),
        lambda meta: (meta / "greet-1.0-pyh0_0.json").write_text('{"name": "greet", "version": 1}'),
        lambda meta: (meta / "greet-1.0-pyh0_0.json").write_text('{"name": "../x", "version": "1"}'),
        lambda meta: (meta / "more.json").write_bytes((meta / "greet-1.0-pyh0_0.json").read_bytes()),
        lambda meta: os.mkfifo(meta / "pipe.json"),
        lambda meta: (meta / "folder.json").mkdir(),
    ],
)
def test_records_that_cannot_be_used_are_left_out_and_said(
    foreign: Path, tmp_path: Path, spoil: Spoil
) -> None:
    shutil.copytree(foreign / "conda-meta", tmp_path / "E" / "conda-meta")
    spoil(tmp_path / "E" / "conda-meta")
    reporter = Recorder()
    held = read_environment(tmp_path / "E", reporter=reporter)
    assert len(held.lockfile.packages) >= len(list((foreign / "conda-meta").glob("*.json"))) - 1
    assert "1 records cannot be used, and are left out" in reporter.notes[0]


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just("1.0")
JSON = st.recursive(
    LEAVES | st.sampled_from(["a" * 64, "b" * 32]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("paths"), inner),
    max_leaves=5,
)
KEYS = ["name", "version", "build", "url", "channel", "subdir", "sha256", "md5", "depends", "files"] + [
    "paths_data",
    "requested_spec",
    "requested_specs",
]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_record(record: dict[str, object]) -> None:
    """Whatever stands in a record of conda's: it is used or left out, and nothing else happens."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conda-meta").mkdir()
        usual = {"name": "a", "version": "1", "build": "0", "subdir": "linux-64", "md5": "c" * 32}
        usual |= {"url": "https://example.org/c/linux-64/a-1-0.conda"}
        (Path(folder) / "conda-meta" / "a-1-0.json").write_text(json.dumps(usual | record))
        reporter = Recorder()
        held = read_environment(Path(folder), reporter=reporter)
        assert len(held.lockfile.packages) + len(reporter.notes) == 1


def test_metadata_that_cannot_be_used(tmp_path: Path) -> None:
    """What would be waited for for ever, what is larger than a disk, and what names what it likes."""
    site_packages = tmp_path / "lib" / "python3.12" / "site-packages"
    texts = {
        "good": "Name: good\nVersion: 1\nRequires-Dist: x; extra == 'y'\n",
        "evil": "Name: ../x\nVersion: 1\n",
        "bare": "",
    }
    for name, text in texts.items():
        folder = site_packages / f"{name}-1.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(text)
    for name in ("pipe", "huge"):
        (site_packages / f"{name}-1.dist-info").mkdir()
    os.mkfifo(site_packages / "pipe-1.dist-info" / "METADATA")
    with (site_packages / "huge-1.dist-info" / "METADATA").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "pyvenv.cfg").touch()
    reporter = Recorder()
    held = read_environment(tmp_path, reporter=reporter)
    assert [(row.name, dict(row.dependencies)) for row in held.lockfile.packages] == [("good", {})]
    assert "4 records cannot be used" in reporter.notes[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"\0\xff" * 1000, "not text"),
        (b"version: 2\n", "version 2"),
        (None, "larger than 100 MB"),
    ],
)
def test_files_of_another_kind(ask: Ask, tmp_path: Path, content: bytes | None, why: str) -> None:
    with (tmp_path / "conda-lock.yml").open("wb") as file:
        file.write(content or b"")
        if content is None:
            file.truncate(500_000_000)
    for words in (["list"], ["tree"], ["why", "a"], ["diff", "conda-lock.yml"]):
        ask(*words, status=2).assert_error(2, why)


# -- below a directory ---------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, installed: Path, foreign: Path) -> Path:
    """Environments of all kinds, and what is none."""
    root = tmp_path / "site"
    (root / "deep" / "er").mkdir(parents=True)
    os.symlink("ours.generations/1", root / "ours")
    generation = "away.generations/000000000000"
    shutil.copytree(installed.resolve(), root / generation, symlinks=True)
    (root / "away").symlink_to(generation)
    base = root / "deep" / "base"
    for path in (base, base / "envs" / "inner", base / "lib" / "not-this"):
        shutil.copytree(foreign / "conda-meta", path / "conda-meta")
    venv = root / "deep" / "er" / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (root / "linked").symlink_to(foreign)
    (root / "loop").symlink_to(root)
    return root


def test_environments_below_a_directory(ask: Ask, site: Path) -> None:
    document = ask("list", "--root", site, "--json").json
    environments = document["environments"]
    found = [(Path(one["path"]).relative_to(site).as_posix(), one["kind"]) for one in environments]
    assert found == [
        ("away", "prefix"),
        ("deep/base", "conda"),
        ("deep/base/envs/inner", "conda"),
        ("deep/er/.venv", "venv"),
    ]
    assert document["unread"] == []


def test_those_that_hold_it(ask: Ask, site: Path) -> None:
    told = ask("list", "--root", site, "greet-core>=1").out.splitlines()
    assert [Path(line.split()[0]).name for line in told[:-1]] == ["away", "base", "inner"]
    assert all("greet-core 1.4" in line for line in told[:-1])
    assert ask("list", "--root", site, "greet-core>=2", status=1).out == "0 environments\n"
    # A prefix or an environment itself is below itself.
    for path in ("away", "deep/base/envs/inner"):
        assert len(ask("list", "--root", site / path, "greet", "--json").json["environments"]) == 1


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything")
def test_what_cannot_be_read_is_said(envforge: Shell, site: Path) -> None:
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    closed = site / "deep" / "er"
    closed.chmod(0o000)
    try:
        done = envforge("list", "--root", site, "--verbose", "--json", before=powerless)
    finally:
        closed.chmod(0o755)
    assert done.json["unread"] == [str(closed)]
    assert len(done.json["environments"]) == 3
    assert "1 directories cannot be read" in done.err


def test_the_errors_are_envforges(tmp_path: Path) -> None:
    with pytest.raises(EnvforgeError, match="no conda or virtual environment"):
        read_environment(tmp_path, reporter=Recorder())


def test_yaml_is_not_needed_to_list_what_lies_on_a_node() -> None:
    from tests.test_architecture import HEAVY, loaded_by

    assert not loaded_by("import envforge.list, envforge.cli.list") & (HEAVY - {"click"})
