"""Using an environment: sourced by every shell, through ``run`` and ``shell``, by wrappers, as a kernel."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.demo.packages import File, Symlink, noarch_python
from envforge.node.using.activate import write_activation
from tests.conftest import Ended, Shell
from tests.node.world import Contents, conda, library, mirror, python, run_all

PLACES = {"blank": "a b", "odd": "o!d #%;(x)&[y]*~=,", "long": "x" * 140}

TOOL = File(data=b'#!/bin/sh\necho "tool: $GDAL_HOME"\n', executable=True)

SCRIPTS: Contents = {
    # What packages bring: variables that are not set, commands that fail, options and parameters that stay.
    "etc/conda/activate.d/10 first.sh": b'false\nexport SAW="[$UNSET]"\nset -f -u -C\n'
    b"(set -o pipefail) 2>/dev/null && set -o pipefail\n"
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


CONDA = """
PS1='(base) $ '
before=$(env | grep -e CONDA -e '^PATH' | sort)
. "$1"
env | grep -e CONDA -e '^PATH=' | sort
echo "$PS1 ${BASE_DATA-none} $TOLD"
PATH=/new:$PATH
deactivate
echo "$PS1 $BASE_DATA $PATH"
PATH=${PATH#*:}
"""


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_another_environment_of_condas_is_left_and_come_back_to(
    world: World, shell: str, tmp_path: Path
) -> None:
    base = tmp_path / "my conda"
    for folder, text in (
        ("activate.d", "export BASE_DATA=base\n"),
        ("deactivate.d", "unset BASE_DATA\nTOLD=$UNSET$CONDA_PREFIX\n"),
    ):
        (base / "etc" / "conda" / folder).mkdir(parents=True)
        (base / "etc" / "conda" / folder / "base.sh").write_text(text)
    active = {
        "CONDA_PREFIX": str(base), "CONDA_SHLVL": "1", "CONDA_DEFAULT_ENV": "base", "BASE_DATA": "base",
        "CONDA_PROMPT_MODIFIER": "(base) ", "PATH": f"/first:{base}/bin:/usr/bin:/bin",
    }  # fmt: skip
    (tmp_path / "script").write_text(f"set -eu\n{CONDA}")
    done = start([*needs(shell), str(tmp_path / "script"), world.file("activate.sh")], active)
    generation, name = world.generation(), "na_touch_x_me"
    assert done.out.splitlines() == [
        "from a package",
        f"CONDA_DEFAULT_ENV={name}",
        f"CONDA_PREFIX={generation}",
        f"CONDA_PREFIX_1={base}",
        f"CONDA_PROMPT_MODIFIER=({name}) ",
        "CONDA_SHLVL=2",
        f"PATH={generation}/bin:/first:/usr/bin:/bin",
        f"({name}) $  none {base}",
        f"(base) $  base {base}/bin:/new:/first:/usr/bin:/bin",
    ], done


def test_one_environment_over_another_leaves_the_first(world: World) -> None:
    lines = (
        f". '{world.file('activate.sh')}'; . '{world.root}/plain/bin/activate'; "
        'echo "$CONDA_PREFIX $CONDA_SHLVL ${GDAL_HOME-none} ${N-none} $PATH"; only; deactivate; '
        'echo "${CONDA_PREFIX-none} ${CONDA_SHLVL-none} $PATH"; deactivate'
    )
    env = world.shell.environment()
    plain = (world.root / "plain").resolve()
    for shell in ("bash", "dash"):
        done = start([shell, "-uc", lines], env)
        assert done.out.splitlines() == [
            "from a package",
            f"{plain} 1 none none {plain}/bin:{env['PATH']}",
            "tool: ",
            f"none none {env['PATH']}",
        ], done
        assert done.status != 0  # `deactivate` is gone


def test_a_virtual_environment_that_is_active_is_left_first(world: World, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    virtual = f". '{tmp_path}/v/bin/activate'"
    lines = f"""{virtual}; . '{world.file("activate.sh")}' >&2; echo "$PATH ${{VIRTUAL_ENV-none}}"
        {virtual}; echo "$VIRTUAL_ENV $PATH"; deactivate; echo "$PATH\""""
    env = world.shell.environment()
    done = start(["bash", "-euc", lines], env)
    ours = f"{world.generation()}/bin:{env['PATH']}"
    assert done.out.splitlines() == [f"{ours} none", f"{tmp_path}/v {tmp_path}/v/bin:{ours}", ours], done


def test_a_prompt_can_be_left_alone_and_need_not_be_there(world: World) -> None:
    lines = f'. \'{world.file("activate.sh")}\' >&2; echo "${{PS1-unset}}"; deactivate; echo "${{PS1-unset}}"'
    for start_with, expected in (
        ("unset PS1", ["unset", "unset"]),
        ("PS1='> '; VIRTUAL_ENV_DISABLE_PROMPT=1", ["> ", "> "]),
        ("PS1='> '", ["(na_touch_x_me) > ", "> "]),
    ):
        done = start(["bash", "-euc", f"{start_with}; {lines}"], world.shell.environment())
        assert done.out.splitlines() == expected, done


def test_a_virtual_environment_of_ours_says_that_it_is_one(tmp_path: Path) -> None:
    for name in ("bin", ".envforge"):
        (tmp_path / name).mkdir()
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\n")
    write_activation(tmp_path, tmp_path, name="", digest="0" * 64)
    lines = (
        '. "$1"; echo "$VIRTUAL_ENV $CONDA_PREFIX $CONDA_DEFAULT_ENV"; deactivate; echo "${VIRTUAL_ENV-none}"'
    )
    done = start(["bash", "-euc", lines, "sh", str(tmp_path / "bin" / "activate")], {"PATH": "/usr/bin:/bin"})
    assert done.out == f"{tmp_path} {tmp_path} environment\nnone\n", done
    assert not (tmp_path / "etc").exists()  # which only conda reads


def test_conda_finds_what_it_looks_for(world: World) -> None:
    """A directory ``conda-meta`` and a file ``history`` in it; and it sets what ``env_vars.d`` says."""
    assert (world.prefix() / "conda-meta" / "history").is_file()
    ours = json.loads((world.prefix() / "etc/conda/env_vars.d/envforge.json").read_text())
    receipt = json.loads((world.prefix() / ".envforge/receipt.json").read_text())
    assert ours == {"ENVFORGE_ID": f"sha256:{receipt['lock']}", "PYTHONNOUSERSITE": "1"}


def test_files_of_packages_stay_and_links_lead_nowhere(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    mine = {"bin/activate": b"mine\n", "etc/conda/env_vars.d/envforge.json": b'{"X": "1"}'}
    places = [
        mirror(tmp_path / "one", conda(library("own", mine))),
        mirror(tmp_path / "two", conda(library("links", {"etc/conda": Symlink(target=str(outside))}))),
        mirror(tmp_path / "three", conda(library("links", {"bin": Symlink(target=str(outside))}))),
    ]
    calls: list[tuple[object, ...]] = [("install", place, "--prefix", f"{place}.env") for place in places]
    calls += [("verify", f"{place}.env", "--against", place) for place in places]
    answers = run_all(world.shell, calls)
    assert [done.status for done in answers] == [0] * 6, answers
    for name, content in mine.items():
        assert Path(f"{places[0]}.env", name).read_bytes() == content
    assert Path(f"{places[0]}.env", "bin/activate.fish").is_file()
    assert "export X=1" in Path(f"{places[0]}.env", ".envforge/activate.sh").read_text()
    assert not list(outside.iterdir())


# -- run ---------------------------------------------------------------------------------------------


def test_run_is_the_command(world: World) -> None:
    prefix = world.prefix()
    done = world.shell(
        "run", prefix, "--", "sh", "-c", 'echo "$GDAL_HOME|$0|$1|$CONDA_PREFIX"', "zero", "--json"
    )
    assert done.out == f"{world.generation()}/a  share|zero|--json|{world.generation()}\n"
    assert done.err == ""
    assert world.shell("run", prefix, "other", status=None).status == 7
    assert world.shell("run", prefix, "tool", "--help").out.startswith("tool: ")
    assert "from a package" in world.shell("run", "--verbose", prefix, "--", "tool").err


def test_run_keeps_the_whole_environment_of_its_caller(world: World, tmp_path: Path) -> None:
    (tmp_path / "rc").write_text("export CHANGED=by-bash-env PATH=/nowhere")
    mine = {
        "UV_INDEX": "x", "BASH_ENV": str(tmp_path / "rc"), "BASH_FUNC_f%%": "() { echo f; }", "A.B": "dots",
        "MANY": "a\r\nb\rc", "BYTES": os.fsdecode(b"\xff\xfe"), "SHLVL": "5", "PS1": "> ", "EMPTY": "",
        "PYTHONPATH": "/mine", "OLDPWD": "/",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "envforge", "run", world.prefix(), "--", sys.executable, "-c",
         "import os; print(sorted(dict(os.environ).items()))"],
        env=world.shell.environment(mine), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "note: PYTHONPATH is not taken along" in done.stderr
    given = dict(eval(done.stdout))
    assert "PYTHONPATH" not in given
    assert "CHANGED" not in given
    for name in mine.keys() - {"PYTHONPATH"}:
        assert given[name] == mine[name], name
    assert given["PATH"].startswith(f"{world.generation()}/bin:")
    ours = {"CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL", "ENVFORGE_ID",
            "GDAL_HOME", "LINES_OF", "N", "ORDER", "PROJ_DATA", "PYTHONNOUSERSITE", "SAW"}  # fmt: skip
    assert given.keys() - world.shell.environment(mine).keys() - {"LC_CTYPE"} == ours


def test_words_of_any_bytes_and_standard_input_arrive(world: World) -> None:
    words = [b"\xff\xfe \n'\"$x", b"", b"--", b"-x"]
    done = subprocess.run(
        [sys.executable, "-m", "envforge", "run", world.prefix(), "--",
         "sh", "-c", 'printf "%s," "$@"; cat', "sh", *words],
        env=world.shell.environment(), input=b"in\0put", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == b"".join(word + b"," for word in words) + b"in\0put"


def test_signals_reach_the_command(world: World, tmp_path: Path) -> None:
    mark = tmp_path / "ready"
    script = f"trap 'echo caught; exit 5' TERM; : > '{mark}'; while :; do sleep 0.05; done"
    envforge = [sys.executable, "-m", "envforge", "run", str(world.prefix()), "--"]
    argv = [*envforge, "sh", "-c", script]
    process = subprocess.Popen(argv, env=world.shell.environment(), stdout=subprocess.PIPE, text=True)
    wait_for(mark)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert (said, process.returncode) == ("caught\n", 5)
    argv = [*envforge, "sh", "-c", "kill -9 $$"]
    assert subprocess.run(argv, env=world.shell.environment(), check=False).returncode == -signal.SIGKILL
    piped = (
        f"'{sys.executable}' -m envforge run '{world.prefix()}' -- yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    assert start(["bash", "-c", piped], world.shell.environment()).out == f"y\n{128 + signal.SIGPIPE}\n"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.02)


def test_what_cannot_be_run_is_said_as_a_shell_would(world: World, tmp_path: Path) -> None:
    prefix = world.prefix()
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    calls: list[tuple[tuple[object, ...], int, str]] = [
        (("run", prefix, "--", "no-such-command"), 127, "no such command: no-such-command"),
        (("run", prefix, "--", ""), 127, "no such command"),
        (("run", prefix, "--", prefix / "share" / "data"), 126, "cannot execute"),
        (("run", prefix, "--", tmp_path), 126, "cannot execute"),
        (("run", prefix, "--", tmp_path / "script"), 126, "the interpreter of"),
        (("run", prefix), 2, "no command to run"),
        (("run", tmp_path, "--", "tool"), 2, "not an environment that envforge installed"),
        (("run", tmp_path / "none", "--", "tool"), 2, "no such directory"),
        (("shell", tmp_path), 2, "not an environment"),
    ]
    for (_, status, words), done in zip(
        calls, run_all(world.shell, [call for call, _, _ in calls]), strict=True
    ):
        done.assert_error(status, words)
    (as_json,) = run_all(world.shell, [("run", "--json", prefix, "--", "no-such-command")])
    assert as_json.json["error"]["exit_code"] == 127


def test_an_environment_that_was_moved_is_refused(world: World, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(world.generation(), moved, symlinks=True)
    again = tmp_path / "again"
    shutil.copytree(world.generation(), again, symlinks=True)
    (again / ".envforge" / "activate.sh").write_text("true\n")
    done, other = run_all(world.shell, [("run", moved, "tool"), ("run", again, "tool")])
    done.assert_error(2, "was linked for", str(world.generation()))
    other.assert_error(2, "has no activation")


def test_a_package_that_ends_the_shell_is_named(world: World, tmp_path: Path) -> None:
    place = mirror(
        tmp_path / "m", conda(library("bad", {"etc/conda/activate.d/bad.sh": b"echo why >&2\nexit 9\n"}))
    )
    prefix = tmp_path / "p"
    done = run_all(world.shell, [("install", place, "--prefix", prefix), ("run", prefix, "--", "true")])[1]
    done.assert_error(3, "the environment cannot be activated")


# -- shell -------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose shell files put something else first on the path."""
    for name in (".bashrc", ".zshrc", ".shrc"):
        (tmp_path / name).write_text('PATH="/from-rc:$PATH"; export MINE="${MINE-}rc"; PS1="> "\n')
    (tmp_path / ".zshenv").write_text("export MINE=env\n")
    (tmp_path / ".config" / "fish").mkdir(parents=True)
    (tmp_path / ".config" / "fish" / "config.fish").write_text(
        "set -gx PATH /from-rc $PATH\nset -gx MINE rc\n"
    )
    return tmp_path


def typed(argv: list[str], env: Mapping[str, str], lines: str) -> str:
    """What a program that is given a terminal, and these lines there, shows."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, dict(env))
    os.write(terminal, lines.encode())
    shown = b""
    try:
        while more := os.read(terminal, 4096):
            shown += more
    except OSError:  # the end, on Linux
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode(errors="replace")


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish"])
def test_a_shell_reads_its_own_files_and_then_the_environment(world: World, home: Path, shell: str) -> None:
    needs(shell)
    path = shutil.which(shell)
    assert path is not None
    env = world.shell.environment(
        {"HOME": str(home), "SHELL": path, "ENV": "$HOME/.shrc", "TERM": "dumb", "PYTHONPATH": "/x"}
    )
    argv = [sys.executable, "-m", "envforge", "shell", str(world.prefix())]
    shown = typed(argv, env, 'echo "<$MINE|$PATH|$GDAL_HOME>"\nexit\n')
    mine = "envrc" if shell == "zsh" else "rc"
    flat = shown.replace("\r\n", "").replace("\r", "")
    assert f"<{mine}|{world.generation()}/bin:/from-rc:" in flat, shown
    assert "a  share>" in flat, shown
    if shell in ("bash", "dash", "zsh"):
        assert "(na_touch_x_me) > " in shown


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh", "fish", "tcsh"])
def test_without_a_terminal_a_shell_takes_commands_from_standard_input(world: World, shell: str) -> None:
    needs(shell)
    env = world.shell.environment({"SHELL": shutil.which(shell) or ""})
    argv = [sys.executable, "-m", "envforge", "shell", str(world.prefix())]
    done = start(argv, env, stdin="echo $CONDA_PREFIX\ntool\nexit 6\n")
    shown = done.out.splitlines()
    shown.remove("from a package") if "from a package" in shown else None
    assert shown == [str(world.generation()), f"tool: {world.generation()}/a  share"], done
    assert done.status == 6


def test_a_shell_that_is_none_is_passed_over(world: World) -> None:
    argv = [sys.executable, "-m", "envforge", "shell", str(world.prefix())]
    for named in ("/usr/sbin/nologin", "/no/such/shell"):
        assert start(argv, world.shell.environment({"SHELL": named}), stdin="tool\n").out.startswith("tool: ")


# -- wrappers and kernels ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel) -> World:
    """An environment with Python and something that stands for ipykernel, below a path with a blank."""
    root = tmp_path_factory.mktemp("notebook")
    (root / "home").mkdir()
    world = World(root, Shell(root / "home", root))
    launcher = b"import json, os, sys\ndef main():\n"
    launcher += b"    print(json.dumps([sys.argv[1:], sys.prefix, os.environ['GDAL_HOME']]))\n"
    module = noarch_python(
        "ipykernel",
        "1.0",
        {"ipykernel_launcher.py": launcher + b"if __name__ == '__main__':\n    main()\n"},
        entry_points=("launch = ipykernel_launcher:main",),
    )
    place = mirror(root / "mirror", python(channel), conda(module), conda(library("gdal", SCRIPTS)))
    calls = [
        ("install", place, "--prefix", world.prefix(name), "--store", root / "store")
        for name in ("blank", "long")
    ]
    for done in run_all(world.shell, calls):
        assert done.status == 0, done.err
    return world


@pytest.mark.parametrize("place", ["blank", "long"])
def test_a_kernel_starts_the_environments_python_activated(
    notebook: World, place: str, tmp_path: Path
) -> None:
    prefix, data = notebook.prefix(place), tmp_path / "data"
    kernel = ("kernel", prefix, "--display-name", 'Mine "é"')
    (dry, done) = run_all(
        notebook.shell, [(*kernel, "--dry-run"), (*kernel, "--json")], env={"XDG_DATA_HOME": str(data)}
    )
    file = data / "jupyter" / "kernels" / "p" / "kernel.json"
    assert dry.out == f"would write {file}\n"
    assert done.json["files"] == [str(file)]
    spec = json.loads(file.read_text())
    assert (spec["display_name"], spec["language"]) == ('Mine "é"', "python")
    argv = [word.replace("{connection_file}", "/run/c.json") for word in spec["argv"]]
    ended = start(argv, notebook.shell.environment())
    generation = notebook.generation(place)
    assert json.loads(ended.out) == [["-f", "/run/c.json"], str(generation), f"{generation}/a  share"], ended
    launched = start(
        [sys.executable, "-m", "envforge", "run", str(prefix), "--", "launch", "x"],
        notebook.shell.environment(),
    )
    assert json.loads(launched.out)[0] == ["x"]


def test_a_kernel_needs_ipykernel_and_a_name(world: World, notebook: World, tmp_path: Path) -> None:
    without, named = run_all(
        world.shell,
        [
            ("kernel", world.prefix(), "--dir", tmp_path),
            ("kernel", notebook.prefix(), "--dir", tmp_path, "--name", "../x"),
        ],
    )
    without.assert_error(2, "has no ipykernel", "add ipykernel")
    named.assert_error(2, "cannot be the name of a kernel")
    assert not list(tmp_path.iterdir())


def test_a_wrapper_activates_and_becomes_the_command(world: World, tmp_path: Path) -> None:
    place = tmp_path / "my bin"
    (done,) = run_all(world.shell, [("wrap", world.prefix("odd"), "--bin", place, "tool", "other")])
    assert done.out == f"wrote {place}/tool\nwrote {place}/other\n", done
    for name in ("ls", "grep"):  # all that is needed, and no bash
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    for path in ("/usr/bin:/bin", str(tmp_path)):
        ended = start([str(place / "tool")], {"PATH": path})
        assert ended.out == f"tool: {world.generation('odd')}/a  share\n", ended
    assert start([str(place / "other")], {}).status == 7
    (every,) = run_all(world.shell, [("wrap", world.prefix("odd"), "--bin", place, "--all", "--json")])
    assert [Path(file).name for file in every.json["files"]] == ["other", "tool"]


def test_wrap_overwrites_nothing_of_anybodys(world: World, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("mine")
    (tmp_path / "other").symlink_to("/bin/true")
    prefix = world.prefix()
    calls: list[tuple[tuple[object, ...], str]] = [
        (("wrap", prefix, "--bin", tmp_path, "tool"), "not made for this prefix"),
        (("wrap", prefix, "--bin", tmp_path, "--all"), "not made for this prefix"),
        (("wrap", prefix, "--bin", tmp_path, "other"), "not made for this prefix"),
        (("wrap", prefix, "--bin", tmp_path), "name the commands to wrap"),
        (("wrap", prefix, "--bin", tmp_path, "--all", "tool"), "--all needs no names"),
        (("wrap", prefix, "--bin", tmp_path, "tol"), "has no command 'tol'"),
        (("wrap", prefix, "--bin", tmp_path, "../bin/tool"), "has no command"),
        (("wrap", prefix, "--bin", tmp_path, "activate"), "has no command 'activate'"),
    ]
    for (_, words), done in zip(calls, run_all(world.shell, [call for call, _ in calls]), strict=True):
        done.assert_error(2, words)
    assert (tmp_path / "tool").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tool"]
