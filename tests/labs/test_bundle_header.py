"""The program at the head of a bundle on nodes that have nothing but what it asks for, and no network.

The runtime is a stand-in: a shell program that writes down what it is told.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from envforge.model.bundle import HEADER_SIZE
from envforge.node.using.launcher import LAUNCHER, write_launcher
from tests.bundle.test_program import flipped
from tests.bundle.world import RECORDER, SHELLS, TOOLS, Node, recorded, runtime, write_bundle
from tests.labs.nodes import FLAVOURS, BareNode, bare_node
from tests.labs.places import mounted, open_directory, tmpfs

pytestmark = pytest.mark.lab

GLIBC = "2.36"  # of the node's Debian


@pytest.fixture(params=FLAVOURS)
def node(request: pytest.FixtureRequest) -> BareNode:
    return bare_node(request.param)


def names(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*")}


def test_the_node_has_nothing_else(node: BareNode, tmp_path: Path) -> None:
    said = node(
        tmp_path, "sh", "-c", 'cd /usr/bin && echo *; echo "$PATH"; cat /proc/net/dev'
    ).out.splitlines()
    assert set(said[0].split()) == set(TOOLS)
    assert said[1] == "/usr/bin"
    assert [line.partition(":")[0].strip() for line in said[4:]] == ["lo"]


def test_a_large_bundle_on_a_read_only_stick(node: BareNode, tmp_path: Path) -> None:
    stick = tmp_path / "my stick"
    with tmpfs(stick), mounted("-t", "tmpfs", "-o", "noexec", "tmpfs", at=tmp_path / "tmp"):
        payload = runtime(RECORDER + f"# {random.Random(1).randbytes(10_000_000).hex()}\n")
        write_bundle(stick / "my env.sh", packed=payload, glibc=GLIBC, manifest=b"{}\n" * 300_000)
        os.truncate(stick / "my env.sh", 5 << 30)
        subprocess.run(["mount", "-o", "remount,ro", stick], check=True)
        words = ["-b", "-p", "the env", "--group", "a b\nc", "", "*"]
        script = 'umask 077; exec sh "$@"'
        env = {"TMPDIR": f"{tmp_path}/tmp", "HOME": "/nowhere"}
        done = node(tmp_path, "sh", "-c", script, "sh", "my stick/my env.sh", *words, env=env)
        assert done.status == 0, done.err
        assert done.err.count("next: ") == 3
        program, *given = recorded(tmp_path / "record")
        assert program.startswith(f"{tmp_path}/the env.generations/.work-sh-")
        words = ["--prefix", *words[2:]]
        assert given == ["-I", "-B", "-m", "envforge", "install", "my stick/my env.sh", *words]
        verified = node(tmp_path, "sh", "my stick/my env.sh", "verify", env={"FAKE": 'echo "$0"; exit 1'})
        assert (verified.status, verified.err) == (1, "")
        assert verified.out.startswith(f"{tmp_path}/.work-sh-")
        # The stand-in has written nothing: where there is rmdir, no empty directory stays.
        left = {"tmp", "my stick", "my stick/my env.sh", "record"}
        assert names(tmp_path) - {"the env.generations"} == left


def test_another_glibc_or_machine(node: BareNode, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.sh", glibc="2.37")
    refused = node(tmp_path, "sh", "b.sh", "-p", "e")
    refused.assert_error(2, f"needs glibc 2.37, and this node has {GLIBC}")
    write_bundle(
        tmp_path / "b.sh", platform="linux-aarch64" if os.uname().machine == "x86_64" else "linux-64"
    )
    node(tmp_path, "sh", "b.sh", "-p", "e").assert_error(2, "the bundle is for linux-")
    assert names(tmp_path) == {"b.sh"}


def test_small_disks(node: BareNode, tmp_path: Path) -> None:
    write_bundle(tmp_path / "space.sh", kib=2000)
    write_bundle(tmp_path / "inodes.sh", files=60)
    packed = runtime(RECORDER + f"# {random.Random(2).randbytes(1_500_000).hex()}\n")
    write_bundle(tmp_path / "runtime.sh", packed=packed)
    with tmpfs(tmp_path / "small", size="1m", inodes=50) as small:
        for name in ("space.sh", "inodes.sh"):
            ended = node(tmp_path, "sh", name, "-p", "small/new/e", "--quiet")
            ended.assert_error(3, "no room", "are needed", str(small))
            assert names(small) == set()
        ended = node(tmp_path, "sh", "runtime.sh", "-p", "small/e", "--quiet")
        ended.assert_error(3, "cannot unpack the runtime", "df -k")
        assert names(small) <= {"e.generations"}  # where there is rmdir, nothing


def test_where_nothing_may_be_started(node: BareNode, tmp_path: Path) -> None:
    write_bundle(tmp_path / "b.sh")
    with mounted("-t", "tmpfs", "-o", "noexec", "tmpfs", at=tmp_path / "no"):
        ended = node(tmp_path, "sh", "b.sh", "-p", "no/e", "--quiet")
        assert ended.status == 3
        assert "envforge: the runtime does not start here\n" in ended.err
        assert names(tmp_path / "no") <= {"e.generations"}
        assert node(tmp_path, "sh", "b.sh", "--scratch", ".", "-p", "no/e").status == 0
        assert names(tmp_path / "no") <= {"e.generations"}


def test_altered_payload(node: BareNode, tmp_path: Path) -> None:
    header = write_bundle(tmp_path / "b.sh")
    whole = (tmp_path / "b.sh").read_bytes()
    last = header.runtime_at + header.runtime_size - 1
    for position, name in (
        (header.runtime_at, "runtime.tar.gz"),
        (last, "runtime.tar.gz"),
        (header.manifest_at + 1, "manifest.json"),
    ):
        changed = whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :]
        (tmp_path / "b.sh").write_bytes(changed)
        ended = node(tmp_path, "sh", "b.sh", "-p", "e", "--quiet")
        ended.assert_error(2, "damaged or incomplete", name, "sha256sum -c ./b.sh.sha256")
    (tmp_path / "b.sh").write_bytes(whole[:9000] + b"x" + whole[9001:])
    ended = node(tmp_path, "sh", "b.sh", "-p", "e", "--quiet")
    assert (ended.status, len(ended.err.splitlines())) == (2, 3)
    assert "envforge: the bundle is damaged or incomplete\n" in ended.err
    assert names(tmp_path) == {"b.sh"}


def test_the_command_that_stays(node: BareNode, tmp_path: Path) -> None:
    generation = tmp_path / "my env.generations" / "1"
    python = generation / ".envforge/runtime/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    write_launcher(generation)
    (tmp_path / "my env").symlink_to("my env.generations/1")
    for argv in (
        [f"{tmp_path}/my env/{LAUNCHER}"],
        [f"my env/{LAUNCHER}"],
        ["sh", "-c", f'PATH="$PATH:{tmp_path}/my env/.envforge/bin"; cd /; envforge "$@"', "sh"],
    ):
        done = node(tmp_path, *argv, "verify", "a b")
        assert (done.status, done.err) == (0, "")
        assert recorded(tmp_path / "record") == [str(python), "-I", "-B", "-m", "envforge", "verify", "a b"]
        (tmp_path / "record").unlink()
    (tmp_path / "forge").symlink_to(f"my env/{LAUNCHER}")
    if node.root.name != "busybox":  # whose shell has readlink in it
        node(tmp_path, "./forge").assert_error(3, "cannot be found", "call it by its own path")


@pytest.mark.parametrize("shell", [name for name in SHELLS if name in FLAVOURS])
def test_many_bits_of_the_header_that_fell_over(shell: str) -> None:
    """``ENVFORGE_LAB_DEEP=1``: every byte; else those of the program that a generator chooses."""
    deep = bool(os.environ.get("ENVFORGE_LAB_DEEP"))
    chosen = random.Random(f"{shell} {os.environ.get('ENVFORGE_LAB_SEED', '1')}")
    positions = range(HEADER_SIZE) if deep else chosen.sample(range(7700), 500)
    with open_directory() as place:
        flipped(Node(place, SHELLS[shell]), positions)
