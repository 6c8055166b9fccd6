"""Using an environment: sourced by every shell, through ``run`` and ``shell``, from wrappers and as a kernel."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.packages import File, Symlink, noarch_python
from tests.conftest import Ended, Shell
from tests.node.world import conda, library, mirror, python, run_all

PLACES = {"blank": "a b", "odd": "o!d #%;(x)&[y]*~=,", "long": "x" * 140}

TOOL = File(data=b'#!/bin/sh\necho "tool: $GDAL_HOME"\n', executable=True)

SCRIPTS = {
    # What packages bring: variables that are not set, commands that fail, options that stay, other parameters.
    "etc/conda/activate.d/10 first.sh": b'false\nexport SAW="[$UNSET]"\nset -f -u -C\n(set -o pipefail) 2>/dev/null && set -o pipefail\n'
    b"set -- a b c\nexport ORDER=first\nreturn 3\n",
    "etc/conda/activate.d/20.sh": b'export GDAL_HOME="$CONDA_PREFIX/a  share"\nexport ORDER="$ORDER second"\n'
    b"echo from a package\n",
    "etc/conda/activate.d/20.fish": b'set -gx GDAL_HOME "$CONDA_PREFIX/a  share"\nfalse\n',
    "etc/conda/activate.d/20.csh": b'setenv GDAL_HOME "$CONDA_PREFIX/a  share"\n',
    "etc/conda/activate.d/README": b"exit 1\n",
    "etc/conda/deactivate.d/10.sh": b'export LEFT="$ORDER"\nunset ORDER SAW GDAL_HOME\nreturn 4\n',
    "etc/conda/deactivate.d/20.sh": b'ORDER="$ORDER third $UNSET"\n',
    "etc/conda/deactivate.d/20.fish": b"set -e GDAL_HOME\nfalse\n",
    "etc/conda/deactivate.d/20.csh": b"unsetenv GDAL_HOME\n",
    "etc/conda/env_vars.d/proj.json": json.dumps(
        {"proj_data": 'it\'s $HOME `x` "y" \\ !z', "LINES_OF": "a\nb", "PATH": "no", "N": 3, "bad-name": "x"}
    ).encode(),
    "etc/conda/env_vars.d/broken.json": b"{",
    "etc/conda/env_vars.d/outside.json": Symlink(target="/proc/self/environ"),
    "bin/tool": TOOL,
    "bin/other": File(data=b"#!/bin/sh\nexit 7\n", executable=True),
    "share/data": b"",
}


@dataclass(frozen=True)
class World:
    """One environment at several prefixes, made once and changed by no test."""

    root: Path
    shell: Shell

    def prefix(self, place: str = "blank") -> Path:
        return self.root / PLACES[place] / "p"

    def generation(self, place: str = "blank") -> Path:
        prefix = self.prefix(place)
        return prefix.parent / prefix.readlink()

    def file(self, name: str, place: str = "blank") -> str:
        return str(self.generation(place) / ".envforge" / name)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    (root / "home").mkdir()
    world = World(root, Shell(root / "home", root))
    custom = {"envforge.name": "na$(touch x)me"}
    place = mirror(root / "mirror", conda(library("gdal", SCRIPTS)), custom=custom)
    plain = mirror(root / "plain-mirror", conda(library("plain", {"bin/only": TOOL})))
    calls: list[tuple[object, ...]] = [
        ("install", place, "--prefix", world.prefix(name), "--store", root / "store") for name in PLACES
    ]
    calls += [("verify", world.prefix(), "--against", place)]
    calls += [("install", plain, "--prefix", root / "plain", "--store", root / "store")]
    for done in run_all(world.shell, calls):
        assert done.status == 0, done.err
    return world


def start(argv: Sequence[str], env: Mapping[str, str], stdin: str = "") -> Ended:
    done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    return Ended(done.returncode, done.stdout, done.stderr)


def needs(name: str) -> list[str]:
    """The words that start a shell without its user's files."""
    words = {
        "busybox": ["busybox", "sh"],
        "zsh": ["zsh", "-f"],
        "tcsh": ["tcsh", "-f"],
        "fish": ["fish", "-N"],
    }
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    return words.get(name, [name])


# -- sourced -----------------------------------------------------------------------------------------

POSIX = """
say() { env | grep -v -e '^_=' -e '^SHLVL=' -e '^LEFT=' -e '^OLDPWD=' | LC_ALL=C sort; }
options() { echo "$-"; set +o | grep -E 'pipefail|noglob|noclobber|nounset|--default'; }
PS1='$ '
before=$(say) opted=$(options) word=$1
. "$2"
[ "$opted" = "$(options)" ] || echo "OPTIONS $opted: $(options)"
[ "$word" = "$1" ] || echo PARAMETERS
echo "$PS1|$CONDA_PREFIX|$CONDA_DEFAULT_ENV|$CONDA_SHLVL|$ENVFORGE_ID|$PYTHONNOUSERSITE|$SAW|$ORDER"
echo "${PYTHONPATH-none}|${PYTHONHOME-none}|${VIRTUAL_ENV-none}|$N|$PROJ_DATA|$LINES_OF"
tool
. "$2"
echo "$PATH"
deactivate
[ "$opted" = "$(options)" ] || echo "OPTIONS $opted: $(options)"
[ "$before" = "$(say)" ] && echo "restored to $PS1" || { echo "$before"; say; }
echo "$LEFT"
set | grep -i -e '^_envforge' || echo clean
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("options", ["", "-eu", "-euo pipefail", "-f", "-C"])
@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "busybox", "ksh"])
def test_posix_shells(world: World, shell: str, options: str, place: str, tmp_path: Path) -> None:
    words = needs(shell)
    if "pipefail" in options and start([*words, "-c", "set -o pipefail"], world.shell.environment()).status:
        pytest.skip(f"this {shell} has no pipefail")
    script = tmp_path / "script"
    script.write_text(f"set {options}\n{POSIX}" if options else POSIX)
    env = world.shell.environment({"PYTHONPATH": "/mine", "PYTHONHOME": "/its", "VIRTUAL_ENV": "/v"})
    if shell == "ksh":
        env["_AST_FEATURES"] = "UNIVERSE - ucb"  # which it sets itself
    done = start([*words, str(script), "a b", world.file("activate.sh", place)], env)
    generation = world.generation(place)
    digest = json.loads((generation / ".envforge" / "receipt.json").read_text())["lock"]
    name = "na_touch_x_me"
    assert done.out.splitlines() == [
        "from a package",
        f"({name}) $ |{generation}|{name}|1|sha256:{digest}|1|[]|first second",
        'none|none|none|3|it\'s $HOME `x` "y" \\ !z|a',
        "b",
        f"tool: {generation}/a  share",
        "from a package",
        f"{generation}/bin:{env['PATH']}",
        "restored to $ ",
        "first second third ",
        "clean",
    ], done
    assert done.status == 0


FISH = """
set name mine
set before (env | grep -v -e '^_=' -e '^SHLVL=' | sort)
source $argv[1]
echo "$CONDA_PREFIX|$CONDA_DEFAULT_ENV|$CONDA_SHLVL|$PYTHONNOUSERSITE|$name"
echo (set -q PYTHONPATH; or echo none)"|$N|$PROJ_DATA|$LINES_OF"
tool
source $argv[1]
string join : $PATH
deactivate
test "$before" = "$(env | grep -v -e '^_=' -e '^SHLVL=' | sort | string collect)"; or true
test "$before" = (env | grep -v -e '^_=' -e '^SHLVL=' | sort | string join ' '); and echo restored
set -n | string match -i '_envforge*'; or echo clean
"""

CSH = """
env | grep -v -e '^_=' -e '^SHLVL=' | sort > before
source $1:q
echo $CONDA_PREFIX:q"|$CONDA_DEFAULT_ENV|$CONDA_SHLVL|$PYTHONNOUSERSITE|mine"
if ( ! $?PYTHONPATH ) echo none"|$N|"$PROJ_DATA:q"|"$LINES_OF:q
tool
source $1:q
echo $PATH:q
deactivate
env | grep -v -e '^_=' -e '^SHLVL=' | sort > after
cmp before after && echo restored
set | grep -i '^_envforge' || echo clean
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("shell", "suffix", "text"), [("fish", "fish", FISH), ("tcsh", "csh", CSH)])
def test_other_shells(world: World, shell: str, suffix: str, text: str, place: str, tmp_path: Path) -> None:
    words = needs(shell)
    (tmp_path / "script").write_text(text)
    file = world.file(f"activate.{suffix}", place)
    env = {
        **world.shell.environment({"PYTHONPATH": "/mine:/its", "HOME": str(tmp_path)}),
        "PWD": str(tmp_path),
    }
    done = subprocess.run(
        [*words, "script", file],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    generation = world.generation(place)
    assert done.stdout.splitlines() == [
        f"{generation}|na_touch_x_me|1|1|mine",
        'none|3|it\'s $HOME `x` "y" \\ !z|a',
        "b",
        f"tool: {generation}/a  share",
        f"{generation}/bin:{env['PATH']}",
        "restored",
        "clean",
    ], done
