"""Completion, in the shells themselves: what a press of the tab key puts there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.answers.conftest import Ask
from tests.answers.world import BOTH, conda, lock, pip, write
from tests.test_architecture import loaded_by

# Each completes the last word of a line, and prints what it would offer.
PROGRAMS = {
    "bash": """
eval "$(envforge completion bash)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_envforge_completion envforge
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
compdef() { :; }
eval "$(envforge completion zsh)"
_describe() { print -rl -- ${${(P)3}%%:*}; }
compadd() { print -rl -- ${(P)@[-1]}; }
words=("$@") CURRENT=$#
rehash; _envforge_completion
""",
    "fish": """
envforge completion fish | source
complete --do-complete "$argv" | string replace -r '\\t.*' ''
""",
}


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """A PATH on which ``envforge`` is this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "envforge").write_text(f'#!/bin/sh\nexec {sys.executable} -m envforge "$@"\n')
    (folder / "envforge").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def _with_equals(shell: str) -> list[tuple[list[str], list[str]]]:
    """``--platform=osx``, as each shell hands it over, and takes it back."""
    line = ["envforge", "tree"]
    if shell == "bash":
        return [
            ([*line, "--platform", "=", "osx"], ["osx-arm64"]),
            ([*line, "--platform", "="], ["linux-64", "osx-arm64"]),
        ]
    return [([*line, "--platform=osx"], ["--platform=osx-arm64"])]


@pytest.mark.parametrize("shell", PROGRAMS)
def test_in_a_shell(shell: str, programs: dict[str, str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    write(
        tmp_path / "conda-lock.yml", lock(conda("numpy 2", platforms=BOTH), pip("numexpr 2"), conda("zlib 1"))
    )
    for line, offered in (
        (["envforge", "wh"], ["why"]),
        (["envforge", "why", "num"], ["numexpr", "numpy"]),
        (["envforge", "tree", "-p", "osx"], ["osx-arm64"]),
        (["envforge", "diff", "--format", ""], ["markdown", "text"]),
        (["envforge", "completion", "z"], ["zsh"]),
        *_with_equals(shell),
    ):
        words = line if shell != "fish" else [" ".join(line)]
        command = [shell, "-f"] if shell == "zsh" else [shell]
        argv = [*command, "-c", PROGRAMS[shell], *([shell] if shell != "fish" else []), *words]
        done = subprocess.run(argv, cwd=tmp_path, env=programs, capture_output=True, text=True)
        assert sorted(done.stdout.split()) == offered, (line, done)


def test_the_script_alone(ask: Ask) -> None:
    assert "complete -o nosort" in ask("completion", "bash").out
    assert ask("completion", "fish", "--json").json["shell"] == "fish"
    ask("completion", "csh", status=2).assert_error(2, "'csh' is not one of 'bash', 'zsh', 'fish'")


def complete(words: str) -> set[str]:
    """The modules that completing loads."""
    given = {
        "_ENVFORGE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    return loaded_by(
        f"import os; os.environ.update({given!r}); from envforge.cli.app import run\n"
        "try: run([])\nexcept SystemExit: pass\nimport os"
    )


@pytest.mark.parametrize("words", ["envforge ", "envforge why nu", "envforge tree -p l", "envforge list --"])
def test_it_is_quick(words: str) -> None:
    """At every press of a key: no engine, no YAML, and not all subcommands."""
    loaded = complete(words)
    assert not loaded & {"rattler", "yaml", "requests", "jinja2", "rich", "packaging", "asyncio"}
    assert "envforge.cli.install" not in loaded
