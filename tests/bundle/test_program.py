"""What the program at the head of a bundle does, in every shell of this machine, with a node's tools only."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from envforge.edges.machine import glibc_version
from envforge.model.bundle import HEADER_SIZE
from tests.bundle.world import HERE, RECORDER, SHELLS, Node, runtime, write_bundle
from tests.labs.places import open_directory

OTHER = "linux-aarch64" if HERE == "linux-64" else "linux-64"


@pytest.fixture(params=SHELLS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    return Node(tmp_path, SHELLS[request.param])


@pytest.fixture
def plain(tmp_path: Path) -> Node:
    """Where the shell makes no difference."""
    return Node(tmp_path, ("sh",))


def everything(place: Path) -> set[str]:
    """The path of all that lies at ``place``, but for the node's own tools."""
    found = (path.relative_to(place).as_posix() for path in place.rglob("*"))
    return {path for path in found if path.partition("/")[0] != "bin"}


# -- installing ----------------------------------------------------------------------------------------


def test_words_arrive_as_they_were_typed(node: Node) -> None:
    (node.place / "my stick").mkdir()
    write_bundle(node.place / "my stick" / "my env.sh")
    odd = ["--group", "a b\nc", "", "*", "'\"\\n$HOME`id`", "--keep=2", "-j", "3", "é"]
    done = node("my stick/my env.sh", "-b", "-p", "the env/", *odd, umask=0o077, env={"TMPDIR": "/nowhere"})
    assert done.status == 0, done.err
    assert node.words == ["install", "my stick/my env.sh", "--prefix", "the env/", *odd]
    assert (node.place / "the env.generations").stat().st_mode & 0o777 == 0o755
    assert everything(node.place) == {"my stick", "my stick/my env.sh", "the env.generations"}
    assert "greet needs 1 KiB and 1 files" in done.err
    steps = [line.removeprefix("next: ") for line in done.err.splitlines() if line.startswith("next: ")]
    asked = subprocess.run(["sh", "-c", f'printf "%s|" {" ".join(steps)}'], capture_output=True, text=True)
    prefix = str(node.place / "the env")
    tool = f"{prefix}/.envforge/bin/envforge"
    parts = [".", f"{prefix}/.envforge/activate.sh", tool, "verify", prefix, tool, "history", prefix, ""]
    assert asked.stdout.split("|") == parts


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        (["--prefix", "e"], ["--prefix", "e"]),
        (["--prefix=e"], ["--prefix=e"]),
        (["-p=e"], ["--prefix=e"]),
        (["-pe"], ["--prefix=e"]),
        (["-bp", "e"], ["--prefix", "e"]),
        (["install", "-p", "x", "--prefix", "e"], ["--prefix", "x", "--prefix", "e"]),
        (["-b", "install", "--prefix", "./e//"], ["--prefix", "./e//"]),
        (["--prefix", "e/.", "--json"], ["--prefix", "e/.", "--json"]),
    ],
)
def test_how_a_prefix_is_named(plain: Node, typed: list[str], given: list[str]) -> None:
    write_bundle(plain.place / "b.sh")
    done = plain("b.sh", *typed, env={"FAKE": 'echo "${0%/.work-*}"'})
    assert Path(done.out.rstrip()) == plain.place / "e.generations", done.err
    assert plain.words == ["install", "./b.sh", *given]
    assert ("--json" in typed) == (done.err == "")


@pytest.mark.parametrize(("cwd", "typed"), [("link", "../e"), (".", "link/../e"), ("link", "../new/dir/e")])
def test_beside_what_a_symlink_points_to_is_where_the_kernel_says(node: Node, cwd: str, typed: str) -> None:
    """Python, which is started there, works out LINK/.. from the letters, and is beside LINK then."""
    write_bundle(node.place / "b.sh")
    (node.place / "far/away").mkdir(parents=True)
    (node.place / "link").symlink_to("far/away", target_is_directory=True)
    # A shell that was told so by PWD, as by a login to a home that is a symlink.
    env = {"FAKE": 'echo "${0%/.work-*}"', "PWD": str(node.place / cwd)}
    done = node(node.place / "b.sh", "--prefix", typed, cwd=node.place / cwd, env=env)
    beside = typed.replace("link/../", "../").removeprefix("../")
    assert done.out == f"{node.place.resolve()}/far/{beside}.generations\n", done.err


def test_status_and_output_are_those_of_the_command(node: Node) -> None:
    write_bundle(node.place / "b.sh")
    done = node(
        "b.sh", "--prefix", "e", env={"FAKE": "cat; echo said >&2; exit 75"}, stdin=None, input="typed"
    )
    assert (done.status, done.out) == (75, "typed")
    assert done.err == "envforge: greet needs 1 KiB and 1 files\nsaid\n"
    done = node("b.sh", "run", "e", "--", "no", env={"FAKE": "exit 127"})
    assert (done.status, done.err) == (127, "")
    # The runtime is there for that time alone, and for its user alone.
    look = 'cd "${0%/runtime/*}" && echo runtime/* && ! cd .. 2>/dev/null || pwd'
    assert node("b.sh", "--prefix=e", "--quiet", env={"FAKE": look}).out.startswith("runtime/bin\n")


@pytest.mark.parametrize("option", ["-e", "-u", "-eu"])
def test_options_of_the_shell_do_no_harm(node: Node, option: str) -> None:
    write_bundle(node.place / "b.sh", glibc="2.0")
    strict = Node(node.place, [*node.shell, option])
    done = strict("b.sh", "--prefix", "e")
    assert done.status == 0, done.err
    assert done.err.count("next: ") == 3
    assert strict("b.sh", "verify", "x", env={"FAKE": "exit 1"}).status == 1
    strict("b.sh", "-b").assert_error(2, "no prefix")


def test_nothing_is_asked_of_home_or_the_working_directory(node: Node) -> None:
    with open_directory() as place:
        place.chmod(0o777)
        from_a_stick(replace(node, place=place))


def from_a_stick(node: Node) -> None:
    stick, away, bundle = node.place / "stick", node.place / "away", "../stick/b.sh"
    for place in (stick, away):
        place.mkdir()
    write_bundle(stick / "b.sh")
    for place in (stick, away):
        place.chmod(0o555)
    user = 12345 if os.geteuid() == 0 else None  # who may do anything is not stopped by modes
    prefix = f"--prefix={node.place}/e"
    done = node(bundle, prefix, cwd=away, env={"HOME": "/nowhere"}, user=user)
    assert done.status == 0, done.err
    node(bundle, "verify", cwd=away, user=user).assert_error(
        3, "cannot make a directory", "--scratch DIR verify"
    )
    assert node(bundle, "--scratch", "..", "verify", cwd=away, user=user).status == 0
    assert node(bundle, "id", "x", cwd=away, user=user, env={"ENVFORGE_SCRATCH": ".."}).status == 0
    assert everything(node.place) == {"stick", "stick/b.sh", "away", "e.generations", "record"}


# -- other commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("verify", "verify B"),
        ("verify --json", "verify B --json"),
        ("verify e --strict", "verify e --strict"),
        ("list", "list B"),
        ("extract DIR", "extract B DIR"),
        ("run e -- b -b -p x --scratch y --help", "run e -- b -b -p x --scratch y --help"),
        ("history --help", "history --help"),
        ("install --help", "install --help"),
        ("install --store x --prefix y -h", "install --help"),
        ("help", "help"),
        ("stage --to=. --to x -h", "stage B --to=. --to x -h"),
        ("-b --scratch=. id e -b", "id e -b"),
    ],
)
def test_other_commands(plain: Node, typed: str, given: str) -> None:
    (plain.place / "stick").mkdir()
    write_bundle(plain.place / "stick" / "b.sh")
    done = plain("stick/b.sh", *typed.split(), env={"FAKE": 'echo "$0"'})
    assert (done.status, done.err) == (0, "")
    where = plain.place if "=." in typed else plain.place / "stick"
    assert Path(done.out.rstrip()).parents[3] == where
    assert plain.words == given.replace("B", "stick/b.sh").split()
    assert everything(plain.place) == {"stick", "stick/b.sh"}


def test_a_name_with_a_quote_can_be_pasted(plain: Node) -> None:
    write_bundle(plain.place / "ada's env.sh")
    refused = plain("ada's env.sh", "-b")
    refused.assert_error(2, "no prefix", """do: sh "./ada's env.sh" --prefix PATH""")


def test_staging_works_in_the_directory_that_it_is_for(plain: Node) -> None:
    """The bundle may lie where all nodes of a job would unpack at once."""
    write_bundle(plain.place / "b.sh")
    done = plain("b.sh", "stage", "--to", "a b/c", env={"FAKE": 'echo "$0"'})
    assert (done.status, done.err) == (0, "")
    assert Path(done.out.rstrip()).parents[3] == plain.place / "a b/c"
    assert plain.words == ["stage", "./b.sh", "--to", "a b/c"]
    done = plain("b.sh", "--scratch", "d", "stage", "--to", "a b/c", env={"FAKE": 'echo "$0"'})
    assert Path(done.out.rstrip()).parents[3] == plain.place / "d"
    plain.record.unlink()
    assert everything(plain.place) == {"b.sh", "a b", "a b/c", "d"}


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["--prefix", "e", "--help"], ["--version"]])
def test_help_unpacks_nothing(plain: Node, words: list[str]) -> None:
    write_bundle(plain.place / "my env.sh", platform=OTHER, kib=123, files=45)
    done = plain("my env.sh", *words)
    assert (done.status, done.err) == (0, "")
    assert f"greet for {OTHER}, a bundle of envforge 0.2.0, lock sha256:{'1' * 64}\n" in done.out
    assert "sh './my env.sh' --prefix PATH   # 123 KiB, 45 files\n" in done.out
    assert everything(plain.place) == {"my env.sh"}


# -- refusals ------------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused_before_anything_is_written(node: Node) -> None:
    place = node.place
    (place / "real").mkdir()
    (place / "file").touch()
    write_bundle(place / "b.sh")
    write_bundle(place / "other.sh", platform=OTHER)
    write_bundle(place / "new.sh", glibc="2.999")
    write_bundle(place / "large.sh", kib=10**14)
    write_bundle(place / "many.sh", files=10**14)
    before = everything(place)
    node("b.sh", "-b").assert_error(2, "no prefix", "do: sh ./b.sh --prefix PATH")
    node("b.sh", "--prefix", "").assert_error(2, "no prefix")
    for prefix in ("real", "file", "/", "real/..", "."):
        node("b.sh", "--prefix", prefix).assert_error(2, "not made by envforge", "name another --prefix")
    node("other.sh", "--prefix", "e").assert_error(2, f"is for {OTHER}, and this node is {HERE}")
    node("other.sh", "verify").assert_error(2, "./other.sh")
    own = glibc_version()
    node("new.sh", "-p", "e").assert_error(2, f"needs glibc 2.999, and this node has {own}", "--glibc")
    ended = node("large.sh", "--prefix", "e", "--quiet")
    ended.assert_error(3, "no room", f"{10**14} KiB and 1 files are needed", str(place))
    ended = node("many.sh", "--prefix", "e", "--quiet")
    if not (os.statvfs(place).f_files == 0 or node.shell[0] == "busybox"):  # not every busybox can count them
        ended.assert_error(3, "no room")
    assert not node.record.exists() or ended.status == 0
    assert everything(place) - {"record", "e.generations"} == before


def test_what_envforge_looks_at_closer_is_left_to_it(plain: Node) -> None:
    write_bundle(plain.place / "large.sh", kib=10**14, glibc="2.999")
    ignoring = ("--ignore-check", "space")
    assert plain("large.sh", "--prefix", "e", *ignoring).status == 0
    assert plain.words == ["install", "./large.sh", "--prefix", "e", *ignoring]
    write_bundle(plain.place / "large.sh", kib=10**14)
    assert plain("large.sh", "--prefix", "d", "--store=/s").status == 0
    assert plain("large.sh", "--prefix", "d", env={"ENVFORGE_STORE": "/s"}).status == 0
    assert plain("large.sh", "--prefix", "e").status == 0, "there is something already"


def test_a_failed_installation_leaves_no_empty_directories(plain: Node) -> None:
    programs = plain.provide()
    write_bundle(plain.place / "b.sh")
    before = everything(plain.place)
    plain("b.sh", "--prefix", "new/deep/e", env={"FAKE": "exit 2"})
    plain.record.unlink()
    assert everything(plain.place) == {*before, "new", "new/deep", "new/deep/e.generations"}, "without rmdir"
    (programs / "rmdir").symlink_to("/bin/rmdir")
    plain("b.sh", "--prefix", "new/deep/e", env={"FAKE": "exit 2"})
    plain("b.sh", "--prefix", "newer/deep/e", env={"FAKE": "exit 2"})
    plain.record.unlink()
    assert everything(plain.place) == {*before, "new", "new/deep", "new/deep/e.generations"}


def test_it_must_know_its_own_file(node: Node) -> None:
    bundle = node.place / "b.sh"
    write_bundle(bundle)
    node.provide(busybox=node.shell[0] == "busybox")
    (node.place / "dir").mkdir()
    (node.place / "dir" / node.program[0].rpartition("/")[2]).write_text("another file of the shell's name\n")
    with bundle.open("rb") as file:
        done = subprocess.run(
            [*node.program, "-s", "--", "--prefix", "e"],
            stdin=file, cwd=node.place / "dir", env=node.environment(), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot tell which file it is in" in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize("lacks", ["sha256sum", "gzip", "dd"])
def test_a_missing_tool_is_named(plain: Node, lacks: str) -> None:
    plain.provide(lacks=lacks)
    write_bundle(plain.place / "b.sh")
    plain("b.sh", "--prefix", "e").assert_error(3, f"lacks the program {lacks}", "PATH=")
    assert everything(plain.place) == {"b.sh"}


def test_a_runtime_that_does_not_start_or_unpack(node: Node) -> None:
    write_bundle(node.place / "b.sh", packed=runtime("#!/no/such/program\n"))
    ended = node("b.sh", "--prefix", "e", "--quiet")
    assert ended.status == 3
    assert ended.err.splitlines()[-3].startswith("envforge: the runtime does not start here")
    write_bundle(node.place / "b.sh", packed=b"not what gzip makes")
    ended = node("b.sh", "--prefix", "e", "--quiet")
    assert ended.status == 3
    assert ended.err.splitlines()[-3].startswith("envforge: cannot unpack the runtime: ")
    assert everything(node.place) == {"b.sh", "e.generations"}


def test_without_a_runtime(node: Node) -> None:
    programs = node.provide(busybox=node.shell[0] == "busybox")
    write_bundle(node.place / "b.sh", packed=b"")
    ended = node("b.sh", "--prefix", "e", "--quiet")
    ended.assert_error(3, "no runtime, and this node no envforge", "envforge install ./b.sh --prefix")
    (programs / "envforge").write_text(RECORDER)
    (programs / "envforge").chmod(0o755)
    ended = node("b.sh", "--prefix", "e")
    assert ended.status == 0
    assert f"next: envforge verify {node.place}/e\n" in ended.err
    assert node.record.read_text().split("\0")[1:-1] == ["install", "./b.sh", "--prefix", "e"]
    assert everything(node.place) == {"b.sh", "record"}


def test_without_a_runtime_the_environment_looks_after_itself(node: Node) -> None:
    """A delta, where the node has no envforge but that of the environment it is for."""
    write_bundle(node.place / "b.sh", packed=b"")
    own = node.place / "an e" / ".envforge" / "bin" / "envforge"
    own.parent.mkdir(parents=True)
    own.write_text(RECORDER)
    own.chmod(0o755)
    (node.place / "e").symlink_to("an e")
    for prefix in ("e", f"{node.place}/e/"):
        ended = node("b.sh", "--prefix", prefix)
        assert ended.status == 0, ended.err
        assert f"next: {node.place}/e/.envforge/bin/envforge verify {node.place}/e\n" in ended.err
        program, *words = node.record.read_text().split("\0")[:-1]
        assert program == f"{node.place}/e/.envforge/bin/envforge"
        assert words == ["install", "./b.sh", "--prefix", prefix]
    node("b.sh", "list").assert_error(3, "no runtime, and this node no envforge")


# -- damage --------------------------------------------------------------------------------------------


def test_altered_payload_is_not_used(node: Node) -> None:
    bundle = node.place / "b.sh"
    header = write_bundle(bundle, manifest=b'{"x": 1}\n' * 100)
    whole = bundle.read_bytes()
    for begin, size, name in (
        (header.runtime_at, header.runtime_size, "runtime.tar.gz"),
        (header.manifest_at, header.manifest_size, "manifest.json"),
    ):
        for position in (begin, begin + size // 2, begin + size - 1):
            bundle.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            node("b.sh", "--prefix", "e", "--quiet").assert_error(
                2, "damaged or incomplete", name, "sha256sum -c"
            )
    for length in (HEADER_SIZE, header.manifest_at + 1):
        bundle.write_bytes(whole[:length])
        node("b.sh", "verify").assert_error(2, "damaged or incomplete", "manifest.json")
    for damaged in (whole[: HEADER_SIZE - 1], whole[: HEADER_SIZE - 2] + b"x" + whole[HEADER_SIZE - 1 :]):
        bundle.write_bytes(damaged)
        ended = node("b.sh", "verify")
        # What the shell puts in front is its own: a redirection could go anywhere, were it the damage.
        assert (ended.status, len(ended.err.splitlines())) == (2, 3)
        assert "envforge: the bundle is damaged or incomplete\n" in ended.err
        assert "at: its first 16384 bytes\n" in ended.err
    assert everything(node.place) == {"b.sh"}


def flipped(node: Node, positions: Iterable[int]) -> None:
    """Whatever bit of the header fell over: another runtime than was bundled is not used, and the right one
    as it should be or not at all."""
    place, bundle = node.place, node.place / "site" / "b.sh"
    for name in ("site", "home"):
        (place / name).mkdir()
        (place / name / "kept").write_text("kept")
    header = write_bundle(bundle)
    good = bundle.read_bytes()
    evil = runtime(RECORDER + "echo evil >home/kept\n")
    write_bundle(bundle, packed=evil)
    bad = good[:HEADER_SIZE] + bundle.read_bytes()[HEADER_SIZE:]
    assert header.runtime_size != len(evil)
    assert node("site/b.sh", "--prefix", "site/e").status == 0  # evil is what it seems: it would be seen
    assert (place / "home" / "kept").read_text() == "evil\n"
    (place / "home" / "kept").write_text("kept")
    node.record.unlink()
    before = everything(place) - {"site/e.generations"}
    env = {"HOME": str(place / "home")}
    # The digit six is one bit away from a redirection.
    sixes = [(place, 8) for place in range(97, HEADER_SIZE) if good[place : place + 1] == b"6"]
    for position, bit in [*sixes[:12], *((place, 1 << place * 7 % 8) for place in positions)]:
        for data in (good, bad):
            bundle.write_bytes(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
            node("site/b.sh", "--prefix", "site/e", env=env, errors="replace")
            assert bundle.read_bytes()[HEADER_SIZE:] == data[HEADER_SIZE:]
            if node.record.exists():
                assert data is good, f"byte {position} ^ {bit}"
                assert node.words == ["install", "site/b.sh", "--prefix", "site/e"]
            assert everything(place) - {"site/e.generations"} == before, f"byte {position} ^ {bit}"
            assert (place / "home" / "kept").read_text() == "kept"


def test_a_bit_of_the_header_that_fell_over_steers_nothing(node: Node) -> None:
    choose = random.Random(16384)
    flipped(node, [0, 1, 9, 10, 30, *choose.sample(range(97, 7000), 8), HEADER_SIZE - 1])


# -- what is left --------------------------------------------------------------------------------------


def heedful() -> None:
    """Signals do what they do in a terminal: a background job ignores one, ``nohup`` the other."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def started(node: Node, *words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A bundle whose command waits, and the directory that it works in."""
    node.provide(busybox=node.shell[0] == "busybox")
    process = subprocess.Popen(
        [*node.program, *words],
        cwd=node.place,
        env=node.environment({"FAKE": 'echo "${0%/runtime/*}"; read -r _'}),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,
        preexec_fn=heedful,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_leaves_nothing(node: Node, number: signal.Signals, status: int) -> None:
    write_bundle(node.place / "b.sh")
    with started(node, "b.sh", "--prefix", "e") as (process, work):
        assert work.parent == node.place / "e.generations"
        assert work.stat().st_mode & 0o777 == 0o700
        assert (work / "runtime/bin/python3").stat().st_mode & 0o777 == 0o755
        os.killpg(process.pid, number)
        assert process.wait(timeout=30) == status
    assert everything(node.place) == {"b.sh", "record", "e.generations"}


def test_what_a_killed_run_left_is_removed_and_a_living_one_is_not_touched(node: Node) -> None:
    write_bundle(node.place / "b.sh")
    with started(node, "b.sh", "--prefix", "e") as (process, left):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
        assert (left / "runtime/bin/python3").exists()
    foreign = left.with_name(".work-sh-elsewhere-7-4")
    foreign.mkdir()
    assert socket.gethostname() in left.name
    with started(node, "b.sh", "--prefix", "e") as (process, living):
        assert not left.exists()
        assert node("b.sh", "--prefix", "e").status == 0
        assert (living / "runtime/bin/python3").exists()
        process.communicate("on\n", timeout=30)
        assert process.returncode == 0
    assert [path.name for path in foreign.parent.iterdir()] == [foreign.name]
