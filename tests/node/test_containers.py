"""The program that starts a command in an image: which tool it takes, and what it tells it.

The tools are recorders here: which words a real one makes of what is asked is a question for the labs.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envforge.edges.images import TRAILER, TRAILER_SIZE
from envforge.formats import image_json
from envforge.model.image import ImageFacts
from envforge.node.using.containers import find_image
from tests.conftest import Ended, Shell
from tests.node.world import run_all

RECORDER = """\
#!/bin/sh
[ "$1" != --help ] || { echo "$HELP"; exit; }
printf "%s\\0" "${0##*/}" "$@" >>"$RECORD"
printf "\\n" >>"$RECORD"
"""


def write_image(path: Path, kind: str, *, prefix: str = "/opt/env", lock: str = "1" * 64) -> Path:
    """A file that says of itself that it is a SquashFS of envforge's."""
    facts = ImageFacts(
        kind=kind, prefix=prefix, platform="linux-64", name="x", lock=lock, receipt="2" * 64, version="0.1.0"
    )
    block = TRAILER + image_json.write(facts).encode()
    path.write_bytes(b"hsqs".ljust(2 * TRAILER_SIZE, b"\0") + block.ljust(TRAILER_SIZE, b"\n"))
    return path


@dataclass
class Machine:
    """A PATH with some of the tools that start images, which write down what they are told."""

    place: Path
    variables: dict[str, str] = field(default_factory=dict)

    def have(self, *tools: str) -> None:
        folder = self.place / "bin"
        folder.mkdir(exist_ok=True)
        for tool in tools:
            (folder / tool).write_text(RECORDER)
            (folder / tool).chmod(0o755)
        for tool in ("sh", "grep", "printf"):
            if not (folder / tool).exists():
                (folder / tool).symlink_to(f"/bin/{tool}" if tool != "printf" else "/usr/bin/printf")

    def start(self, program: str, *words: str, cwd: Path | None = None) -> Ended:
        (self.place / "record").unlink(missing_ok=True)
        done = subprocess.run(
            ["/bin/sh", "-c", program, "sh", *words],
            env={"PATH": str(self.place / "bin"), "RECORD": str(self.place / "record"), **self.variables},
            cwd=cwd or "/tmp",
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @property
    def told(self) -> list[list[str]]:
        lines = (self.place / "record").read_text().split("\n")[:-1]
        return [line.split("\0")[:-1] for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def without_places(words: Sequence[str]) -> list[str]:
    """``words`` without the directories of this machine, and without its GPU.

    Charliecloud is told of directories in another way; its recorder does not know of ``--write-fake``.
    """
    kept, rest = [], iter(words)
    for word in rest:
        if word == "-B":
            value = next(rest)
            if ":" in value:
                kept += [word, value]
        elif word == "--cd":
            next(rest)
        elif word not in ("--nv", "--rocm", "--home"):
            kept.append(word)
    return kept


RUN = "/opt/env/.envforge/run"


def test_a_root_file_system_is_started_by_what_is_there(machine: Machine, tmp_path: Path) -> None:
    image = write_image(tmp_path / "my image.sqsh", "root")
    program = find_image(image, binds=["/data:/inside:ro"]).program(["python", "-c", "print('$x')"])
    machine.have("ch-run")
    done = machine.start(program, "more words")
    assert done.status == 0
    assert "/data:/inside:ro can be written to" in done.err
    words = [RUN, "python", "-c", "print('$x')", "more words"]
    (told,) = machine.told
    assert told == ["ch-run", "--set-env", "--cd", "/tmp", "-b", "/data:/inside", str(image), "--", *words]
    machine.have("apptainer", "squashfuse")
    machine.start(program)
    (told,) = machine.told
    assert without_places(told) == ["apptainer", "exec", "-B", "/data:/inside:ro", str(image), *words[:-1]]
    machine.variables["ENVFORGE_CONTAINER"] = "singularity ch-run"
    machine.start(program)
    assert machine.told[0][0] == "ch-run"


def test_where_we_are_is_there_in_the_container(machine: Machine, tmp_path: Path) -> None:
    machine.have("apptainer")
    program = find_image(write_image(tmp_path / "x.sqsh", "root")).program(["pwd"])
    machine.start(program, cwd=Path("/usr/share"))
    (told,) = machine.told
    binds = [told[at + 1] for at, word in enumerate(told) if word == "-B"]
    assert "/usr/share" in binds
    assert not {"/usr", "/etc", "/proc", "/tmp", "/home"} & set(binds)


def test_charliecloud_is_told_where_we_are_as_far_as_it_can_be(machine: Machine, tmp_path: Path) -> None:
    """An old ch-run cannot make a place in an image for what it binds; a new one does with --write-fake."""
    machine.have("ch-run")
    program = find_image(write_image(tmp_path / "x.sqsh", "root")).program(["pwd"])
    done = machine.start(program, cwd=Path("/usr/share"))
    assert "cannot have /usr/share in the image: the command starts in /" in done.err
    assert "--cd" not in machine.told[0]
    machine.variables["HELP"] = "  -W, --write-fake[=SIZE]"
    done = machine.start(program, cwd=Path("/usr/share"))
    (told,) = machine.told
    assert told[:5] == ["ch-run", "--set-env", "--cd", "/usr/share", "--write-fake"]
    assert told.index("-b") < told.index("/usr/share", 4) < told.index("--")
    assert done.err == ""
    machine.variables |= {"HELP": "--write-fake --cdi[=KIND]", "CH_RUN_CDI_DIRS": f"/none:{tmp_path}"}
    machine.start(program)
    assert "--cdi" not in machine.told[0]
    (tmp_path / "nvidia.json").touch()
    machine.start(program)
    assert "--cdi" in machine.told[0]
    image = find_image(tmp_path / "x.sqsh", gpu=False)
    machine.start(image.program(["pwd"]))
    assert "--cdi" not in machine.told[0]
    machine.variables |= {"HOME": str(tmp_path), "USER": "me"}
    machine.start(program, cwd=Path("/"))
    assert "--home" not in machine.told[0]
    machine.variables |= {"HOME": "/home/me"}
    machine.start(program, cwd=Path("/"))
    assert "--home" in machine.told[0]


def test_an_environment_alone_is_mounted_in_a_base(machine: Machine, tmp_path: Path) -> None:
    image, base = write_image(tmp_path / "env.sqsh", "environment"), tmp_path / "base.sif"
    base.touch()
    machine.have("apptainer", "ch-run")
    program = find_image(image, base=base).program(["python"])
    machine.start(program)
    (told,) = machine.told
    mount = f"{image}:/opt/env:image-src=/"
    assert without_places(told) == ["apptainer", "exec", "-B", mount, str(base), RUN, "python"]
    done = machine.start(find_image(image).program(["python"]))
    done.assert_error(3, "nothing here starts an image of this kind", "--base BASE.sif")


def test_an_environment_is_mounted_at_its_prefix_for_the_time_of_a_command(
    machine: Machine, tmp_path: Path
) -> None:
    prefix = tmp_path / "env"
    image = write_image(tmp_path / "env.sqsh", "environment", prefix=str(prefix))
    program = find_image(image).program(["python"])
    machine.have("squashfuse", "fusermount")
    machine.start(program).assert_error(3, "is no directory here", f"mkdir -p {prefix}")
    (prefix / ".envforge").mkdir(parents=True)
    run = prefix / ".envforge/run"
    run.write_text('#!/bin/sh\necho "$@" >>"$RECORD"\nexit 7\n')
    run.chmod(0o755)
    assert machine.start(program, "-V").status == 7
    lines = (machine.place / "record").read_text().splitlines()
    assert lines[0].split("\0")[:3] == ["squashfuse", str(image), str(prefix)]
    assert lines[1] == "python -V"
    assert lines[2].split("\0")[:3] == ["fusermount", "-u", str(prefix)]
    # Mounted already: nothing is mounted, and nothing is taken away.
    (prefix / ".envforge/activate.sh").write_text(f"export ENVFORGE_ID=sha256:{'1' * 64}\n")
    assert machine.start(program, "-V").status == 7
    assert (machine.place / "record").read_text() == "python -V\n"


def test_wrap_run_and_shell_take_an_image(envforge: Shell, machine: Machine, tmp_path: Path) -> None:
    image = write_image(envforge.cwd / "x.sqsh", "root")
    machine.have("ch-run")
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "RECORD": str(tmp_path / "record")}
    env["ENVFORGE_CONTAINER"] = "ch-run"
    wrapped, refused, everything, odd, again = run_all(
        envforge,
        [
            ("wrap", image, "--bin", "w", "python", "mpirun", "--bind", "/data"),
            ("run", "--bind", "data", image, "--", "true"),
            ("wrap", image, "--bin", "w", "--all"),
            ("wrap", image, "--bin", "w", "../python"),
            ("wrap", image, "--bin", "w", "python", "--json"),
        ],
    )
    assert wrapped.status == 0, wrapped.err
    assert again.json["files"] == [str(envforge.cwd / "w/python")]
    refused.assert_error(2, "'data' is no directory to bind")
    everything.assert_error(2, "envforge wrap IMAGE python")
    odd.assert_error(2, "no name of a command")
    subprocess.run([envforge.cwd / "w/mpirun", "-n", "2"], env=env, check=True)
    (told,) = map(without_places, machine.told)
    assert told == ["ch-run", "--set-env", "-b", "/data", str(image), "--", RUN, "mpirun", "-n", "2"]
    (envforge.cwd / "w/python").write_text("my own\n")
    envforge("wrap", image, "--bin", "w", "python", status=None).assert_error(2, "it is no wrapper")
    (tmp_path / "record").unlink()
    assert envforge("run", image, "--", "python", "-V", env=env).status == 0
    assert envforge("shell", image, env=env).status == 0
    assert [words[-2:] for words in machine.told] == [["python", "-V"], [RUN, "sh"]]


@pytest.mark.parametrize("name", ["a b", "a'b", "a\nb", "$(touch x)", "`x`", "-n", "é"])
def test_any_path_of_an_image_is_one_word(machine: Machine, tmp_path: Path, name: str) -> None:
    image = write_image(tmp_path / name, "root")
    machine.have("ch-run")
    program = find_image(image).program(["echo", name])
    assert machine.start(program).status == 0
    assert (machine.place / "record").read_text().split("\0")[4:8] == [str(image), "--", RUN, "echo"]
    assert shlex.quote(name) in program


def test_a_kernel_starts_in_an_image(envforge: Shell, machine: Machine) -> None:
    image = write_image(envforge.cwd / "x.sqsh", "root")
    machine.have("ch-run")
    (done,) = run_all(envforge, [("kernel", image, "--dir", "kernels", "--bind", "/data")])
    assert done.status == 0, done.err
    path = envforge.cwd / "kernels/x/kernel.json"
    document = json.loads(path.read_text())
    assert document["display_name"] == "Python (x)"
    words = [word.replace("{connection_file}", "/run/k.json") for word in document["argv"]]
    env = {"PATH": str(machine.place / "bin"), "RECORD": str(machine.place / "record")}
    subprocess.run(words, env=env, check=True)
    launched = [RUN, "python", "-m", "ipykernel_launcher", "-f", "/run/k.json"]
    (told,) = map(without_places, machine.told)
    assert told == ["ch-run", "--set-env", "-b", "/data", str(image), "--", *launched]
    again, refused = run_all(
        envforge,
        [("kernel", image, "--dir", "kernels"), ("kernel", image, "--dir", "kernels", "--name", "A b")],
    )
    assert again.status == 0
    refused.assert_error(2, "cannot be the name of a kernel")
    path.write_text("{}")
    envforge("kernel", image, "--dir", "kernels", status=None).assert_error(2, "it is no wrapper")
