"""A node's profile: found by Python and by every shell alike, read back, and refused where it is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.cli.app import run
from envforge.cli.profiles import profile_target
from envforge.edges.machine import cuda_of_driver, distribution, mpi_library, nvidia_driver, parse_cpuinfo
from envforge.errors import InputError
from envforge.formats import profile_json
from envforge.model.platforms import PLATFORMS, default_target
from envforge.model.profile import ClusterProfile, intersected
from envforge.probe import probe, script

SHELLS = [
    name.split() for name in ("dash", "bash --posix", "busybox sh", "ksh", "mksh")
    if shutil.which(name.split()[0])
]  # fmt: skip
shells = pytest.mark.parametrize("shell", SHELLS, ids="-".join)

V2 = "fpu sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512dq avx512cd avx512bw avx512vl"
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.183.06  Release Build  (d@v)\n"


class Node:
    """A node made up of files and programs, as the shell program sees it."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin = root / "root", root / "bin"
        self.variables: dict[str, str] = {}
        self.bin.mkdir(parents=True)
        self.program(
            "uname", "case $1 in -s) echo Linux ;; -m) echo x86_64 ;; *) echo 3.10.0-1160.el7 ;; esac"
        )
        self.program("getconf", "echo glibc 2.17")
        self.program("printf", 'printf "$@"')  # mksh has none of its own

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.bin / name).chmod(0o755)

    def file(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, shell: list[str]) -> subprocess.CompletedProcess[str]:
        program = shutil.which(shell[0])
        assert program is not None
        environment = {"PATH": str(self.bin), "ENVFORGE_PROBE_ROOT": str(self.root), **self.variables}
        return subprocess.run(
            [program, *shell[1:], "-s"], input=script(), env=environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def profile(self, shell: list[str]) -> ClusterProfile:
        done = self.run(shell)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return profile_json.read(done.stdout, source="node.json")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="a node runs Linux")
@shells
def test_the_program_finds_what_python_finds(shell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([*shell, "-s"], input=script(), capture_output=True, text=True, check=True)
    assert run(["probe", "--script"]) == 0
    assert capsys.readouterr().out == script()
    assert run(["probe"]) == 0
    assert capsys.readouterr().out == done.stdout
    assert profile_json.read(done.stdout, source="x") == probe()


@shells
def test_an_old_node_with_a_driver(node: Node, shell: list[str]) -> None:
    node.file("proc/sys/kernel/osrelease", "4.18.0-513.el8.x86_64\n")
    node.file(
        "proc/cpuinfo", f"processor\t: 0\nmodel name\t: flags : none\nflags\t\t: {V3}\nvmx flags\t: x\n"
    )
    node.file("proc/driver/nvidia/version", CLOSED)
    node.file("etc/os-release", 'NAME="x"\nPRETTY_NAME="Rocky\u00e9 Linux 8.9 (\\"Green\\" * Obsidian)"\n')
    found = node.profile(shell)
    assert found == ClusterProfile(
        platform="linux-64",
        glibc="2.17",
        kernel="4.18.0",
        microarchitecture="x86_64_v3",
        driver="550.54.15",
        cuda="12.4",
        distribution=distribution(node.root),
    )
    assert found.distribution == "Rocky Linux 8.9 (Green  Obsidian)"
    assert found.driver == nvidia_driver(node.root)
    target = "__archspec=1=x86_64_v3 __cuda=12.4 __glibc=2.17 __linux=4.18.0 __unix=0"
    assert str(found.target()) == target


@shells
def test_a_node_with_next_to_nothing(node: Node, shell: list[str]) -> None:
    (node.bin / "getconf").unlink()
    node.program("ldd", "echo 'ldd (GNU libc) 2.34'; echo more 9.9")
    found = node.profile(shell)
    assert found == ClusterProfile(
        platform="linux-64", glibc="2.34", kernel="3.10.0", microarchitecture="x86_64"
    )


@pytest.mark.parametrize("flags", ["fpu", V2, V3, V4, V4.replace(" fma ", " ")])
def test_the_levels_of_processors(node: Node, flags: str) -> None:
    text = f"processor\t: 0\nflags\t\t: {flags}\n"
    node.file("proc/cpuinfo", text)
    assert node.profile(SHELLS[0]).microarchitecture == parse_cpuinfo(text)


@pytest.mark.parametrize("text", [CLOSED, OPEN, "NVRM version: * 12.x 570.1-beta 1.2\n", "", "GCC 12.4\n"])
def test_drivers_are_read_alike(node: Node, text: str) -> None:
    node.file("proc/driver/nvidia/version", text)
    found = node.profile(SHELLS[0])
    assert found.driver == nvidia_driver(node.root)
    assert found.cuda == cuda_of_driver(found.driver)


def test_the_driver_itself_is_asked_first(node: Node) -> None:
    node.file("proc/driver/nvidia/version", OPEN)
    node.program("nvidia-smi", "echo '| NVIDIA-SMI 535.183.06   Driver Version: 535 CUDA Version: 12.9 |'")
    assert node.profile(SHELLS[0]).cuda == "12.9"
    node.program("nvidia-smi", "exit 9")
    assert node.profile(SHELLS[0]).cuda == "12.2"


CRAY = {"MPICH_DIR": "/opt/cray/gnu"}


@pytest.mark.parametrize(
    ("files", "variables", "found"),
    [
        (["opt/m/lib/libmpi.so.40"], {"LD_LIBRARY_PATH": "x::/none:/opt/m/lib"}, "/opt/m/lib/libmpi.so.40"),
        (["opt/m/lib/libmpi.so.12"], {"MPI_HOME": "/opt/m"}, "/opt/m/lib/libmpi.so.12"),
        (["opt/i/lib/release/libmpi.so.12"], {"I_MPI_ROOT": "/opt/i"}, "/opt/i/lib/release/libmpi.so.12"),
        (["opt/cray/gnu/lib-abi-mpich/libmpi.so.12", "o/libmpi.so.12"], CRAY | {"LD_LIBRARY_PATH": "/o"},
         "/opt/cray/gnu/lib-abi-mpich/libmpi.so.12"),
        (["usr/lib64/libmpi.so.40", "usr/lib64/libc.so.6"], {"LD_LIBRARY_PATH": "/usr/lib64"}, None),
        (["o p/libmpi.so.12"], {"LD_LIBRARY_PATH": "/o p"}, None),
        (["opt/m/lib/libmpi.so.1"], {"LD_LIBRARY_PATH": "/opt/m/lib"}, None),
    ],
)  # fmt: skip
def test_the_mpi_that_a_module_offers_is_found_alike(
    node: Node, files: list[str], variables: dict[str, str], found: str | None
) -> None:
    for name in files:
        node.file(name, "")
    node.variables = variables
    for shell in SHELLS:
        assert node.profile(shell).mpi == found
    assert mpi_library(node.root, variables) == found


@shells
def test_another_c_library_is_refused(node: Node, shell: list[str]) -> None:
    node.program("getconf", "exit 1")
    node.program("ldd", "echo 'musl libc (x86_64)' >&2; echo 'Version 1.2.5' >&2; exit 1")
    done = node.run(shell)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "not glibc" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_an_unknown_machine_is_refused(node: Node) -> None:
    node.program("uname", "echo riscv64")
    assert node.run(SHELLS[0]).returncode == 2


def test_a_file_a_text_and_both_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gpu = ClusterProfile(platform="linux-64", glibc="2.34", microarchitecture="x86_64_v4", cuda="12.9")
    Path("gpu").write_text(profile_json.write(gpu))
    assert profile_target("gpu") == gpu.target()
    assert profile_target("linux-64") == default_target("linux-64")
    both = intersected(map(profile_target, ["gpu", "linux-64 glibc=2.28 cuda=12.4 x86_64_v3"]))
    assert [str(target) for target in both] == [
        "__archspec=1=x86_64_v3 __cuda=12.4 __glibc=2.28 __linux=4.18 __unix=0"
    ]
    with pytest.raises(InputError, match="no such file"):
        profile_target("./none.json")


def test_a_newer_fact_is_passed_over_and_a_newer_version_is_not() -> None:
    document = json.loads(profile_json.write(ClusterProfile(platform="linux-64")))
    assert profile_json.read(json.dumps({**document, "fabric": "hdr"}), source="x").platform == "linux-64"
    with pytest.raises(InputError, match="format version 2"):
        profile_json.read(json.dumps({**document, "envforge_profile": 2}), source="x")


@pytest.mark.parametrize(
    "change",
    [
        {"platform": "beos"},
        {"mpi": "/opt/x.so"},
        {"glibc": "2.x"},
        {"cuda": "1" * 99},
        {"microarchitecture": "A b"},
        {"kernel": 5},
    ],
)
def test_what_is_no_fact_is_refused_with_its_place(change: dict[str, object]) -> None:
    document = json.loads(profile_json.write(ClusterProfile(platform="linux-64")))
    with pytest.raises(InputError) as caught:
        profile_json.read(json.dumps({**document, **change}), source="node.json")
    assert caught.value.at is not None
    assert caught.value.at.startswith("node.json: ")
    assert next(iter(change)) in caught.value.at
    assert caught.value.do


versions = st.none() | st.from_regex(r"\A[0-9]{1,3}\.[0-9]{1,3}\Z")


@given(st.sampled_from(PLATFORMS), versions, versions, versions)
def test_a_profile_survives_its_file(
    platform: str, glibc: str | None, cuda: str | None, kernel: str | None
) -> None:
    profile = ClusterProfile(platform=platform, glibc=glibc, cuda=cuda, kernel=kernel, distribution="a/b (c)")
    assert profile_json.read(profile_json.write(profile), source="x") == profile


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck")
def test_shellcheck_has_nothing_to_say() -> None:
    subprocess.run(["shellcheck", "-s", "sh", "-"], input=script(), text=True, check=True)
