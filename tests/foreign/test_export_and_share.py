"""The command line of export and share: where files go, what is said to be lost, and what the README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.cli import completing
from envforge.edges.process import uv_executable
from envforge.export import FORMATS
from envforge.formats import conda_lock
from envforge.formats._halves import GROUPS, OTHER_GROUPS
from envforge.model.built import BuiltWheel, built_key
from envforge.share import share
from tests.conftest import Journey
from tests.foreign.support import PLAIN, call, read

LINUX = ("-p", "linux-64")


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_goes_to_stdout_and_what_it_lacks_to_stderr(name: str) -> None:
    ended = call("export", name, PLAIN, *([] if name == "pixi" else LINUX))
    assert ended.status == 0
    assert ended.out
    notes = ended.err.splitlines()
    assert notes
    assert all(line.startswith("note: ") and " does not hold " in line for line in notes)
    assert call("export", name, PLAIN, *([] if name == "pixi" else LINUX), "--quiet").err == ""


@pytest.mark.parametrize("name", FORMATS)
def test_json_says_the_same_and_is_all_there_is_on_stdout(name: str) -> None:
    platform = () if name == "pixi" else LINUX
    (file,) = call("export", name, PLAIN, *platform, "--json").json["files"]
    ended = call("export", name, PLAIN, *platform)
    assert file["text"].rstrip("\n") == ended.out.rstrip("\n")
    for loss in file["losses"]:
        assert loss["what"] in ended.err


def test_a_shell_completes_every_format() -> None:
    assert tuple(sorted(FORMATS)) == completing._FORMATS


def test_into_a_directory_every_platform_goes(tmp_path: Path) -> None:
    for name in FORMATS:
        assert call("export", name, PLAIN, "-o", tmp_path).status == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{kind}.{p}.{s}" for kind, s in KINDS for p in ("linux-64", "osx-arm64")),
        "pixi.lock",
        "Pipfile.linux-64.lock",
        "Pipfile.osx-arm64.lock",
    }


KINDS = (("pylock", "toml"), ("requirements", "txt"), ("explicit", "txt"), ("environment", "yml"))


def test_several_files_need_a_place_to_go(tmp_path: Path) -> None:
    both = [*LINUX, "-p", "osx-arm64"]
    call("export", "pylock", PLAIN, *both).assert_error(2, "2 files, and one place", "-o DIR")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    ended = call("export", "pixi", PLAIN, "-o", tmp_path / "pixi.lock", "--dry-run")
    assert "would be written" in ended.out
    assert call("share", tmp_path / "folder", "--lockfile", PLAIN, "--dry-run").status == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["conda"], "no format 'conda'"),
        (["pixi", "--md5"], "pixi has no --md5"),
        (["pylock", "--format-version", "7"], "pylock has no --format-version"),
        (["pixi", "--format-version", "5"], "version 5 of pixi.lock is not written"),
        (["pylock", "-p", "win-64"], "no packages for win-64"),
        (["pylock", *LINUX, "--group", "nope"], "no group nope"),
    ],
)
def test_what_there_is_not_is_refused(words: list[str], said: str) -> None:
    name, *options = words
    call("export", name, PLAIN, *options).assert_error(2, said)


def test_the_lockfile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(PLAIN.read_text())
    call("export", "pixi", path, "-o", path).assert_error(2, "the lockfile itself")


def test_groups_are_said_where_they_are_left_out_or_mixed() -> None:
    def lost(*options: str) -> set[str]:
        (file,) = call("export", "explicit", PLAIN, *LINUX, *options, "--json").json["files"]
        return {loss["what"] for loss in file["losses"]} & {GROUPS, OTHER_GROUPS}

    assert lost() == {OTHER_GROUPS}
    assert lost("--group", "dev", "--group", "test") == {GROUPS}


def test_what_was_built_is_shared_as_its_sdist_and_a_project_not_at_all(tmp_path: Path) -> None:
    lockfile = read(PLAIN)
    made = [
        BuiltWheel(
            filename=f"{name}-1.0-py3-none-any.whl",
            sha256="c" * 64,
            source=source,
            source_sha256=sha256,
            python="3.12",
            epoch=315532800,
        )
        for name, source, sha256 in (
            ("one", "https://files.pythonhosted.org/packages/one-1.0.tar.gz", "d" * 64),
            ("mine", "./mine", None),
        )
    ]
    custom = {built_key("linux-64", built.name): built.text() for built in made}
    rows = [
        replace(row, name=built.name, version="1.0", url=built.url, sha256=built.sha256)
        for row in lockfile.packages
        if row.manager == "pip" and row.platform == "linux-64"
        for built in made
    ]
    both = replace(
        lockfile,
        packages=(*lockfile.packages, *rows),
        custom={**lockfile.custom, **custom, "envforge.format": "2"},
    )
    path = tmp_path / "conda-lock.yml"
    path.write_text(conda_lock.write(both))
    ended = call("export", "pylock", path, *LINUX)
    assert "one-1.0.tar.gz" in ended.out
    assert "d" * 64 in ended.out
    assert "mine" not in ended.out
    assert "projects of yours that were built: mine" in ended.err
    assert "their sdists stand in for them: one" in ended.err


def test_a_name_cannot_break_out_of_its_line(tmp_path: Path) -> None:
    lockfile = read(PLAIN)
    evil = replace(lockfile, custom={**lockfile.custom, "envforge.name": "x\nevil==1.0"})
    path = tmp_path / "conda-lock.yml"
    path.write_text(conda_lock.write(evil))
    for name in FORMATS:
        assert "\nevil" not in call("export", name, path, *([] if name == "pixi" else LINUX)).out
    assert "\nevil" not in share(evil).files["README.md"]


# -- share --------------------------------------------------------------------------------------------------


def blocks(text: str) -> dict[str, str]:
    return dict(re.findall(r"^## ([^\n]+)\n\n```sh\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL))


def test_a_folder_has_a_file_for_each_tool_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    ended = call("share", folder, "--lockfile", PLAIN, "--json")
    assert ended.status == 0, ended.err
    names = {path.name for path in folder.iterdir()}
    assert set(ended.json["files"]) == names
    text = (folder / "README.md").read_text()
    listed = set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))
    assert listed == names - {"README.md"}
    for tool, block in blocks(text).items():
        for word in shlex.split(block.replace("\n", " ")):
            if re.search(r"\.(txt|toml|yml|lock)$", word):
                assert word in names, f"{tool}: {word}"
    tools = "conda micromamba pixi pip uv envforge"
    assert {title.split(",")[0] for title in blocks(text)} == set(tools.split())
    call("share", folder, "--lockfile", PLAIN).assert_error(2, "there is something already", "--force")


def test_the_manifest_of_pixi_asks_for_what_the_lock_holds(tmp_path: Path) -> None:
    from envforge.formats._toml import parse

    files = share(read(PLAIN)).files
    manifest = parse(files["pixi.toml"], source="pixi.toml")
    assert manifest["workspace"]["platforms"] == ["linux-64", "osx-arm64"]
    assert manifest["dependencies"] == {"python": "==3.12.11"}
    assert manifest["pypi-dependencies"] == {"einops": "==0.8.1"}
    assert set(manifest["environments"]) == {"dev", "test"}


@pytest.mark.parametrize("tool", ["pip, 26.1 or newer", "pip, older", "uv", "envforge"])
def test_the_block_of_a_tool_does_what_it_says(tool: str, journey: Journey, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert call("share", folder, "--lockfile", journey.lockfile).status == 0
    block = blocks((folder / "README.md").read_text())[tool]
    python = shlex.quote(sys.executable)
    # The tools of the tests in place of those of the reader: nothing is fetched.
    for old, new in (
        (r"^python[\d.]* -m venv", f"{python} -m venv --without-pip"),
        (r"^env/bin/python -m pip", f"{python} -m pip --python env"),
        (r"^uv ", f"{shlex.quote(uv_executable())} --no-config --offline --cache-dir cache "),
        (r"--python [\d.]+ env", f"--python {python} env"),
        (r"^envforge ", f"{python} -m envforge "),
    ):
        block = re.sub(old, lambda _, new=new: new, block, flags=re.MULTILINE)  # type: ignore[misc]
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    env = kept | {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        ["sh", "-ec", block], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    found = {
        path.name.split("-")[0] for path in (folder / "env").glob("lib/python*/site-packages/*.dist-info")
    }
    wheels = {row.name.replace("-", "_") for row in read(journey.lockfile).packages if row.manager == "pip"}
    assert wheels <= found
