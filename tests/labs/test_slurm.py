"""``stage`` in a real Slurm: three nodes on this machine, each with a disk of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundle.real import SMALL, publish
from tests.conftest import Ended, Shell
from tests.node.world import conda, library

pytestmark = pytest.mark.lab
NODES = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that all nodes see, with a bundle in it; where there is no Slurm, the reason is said."""
    root = tmp_path_factory.mktemp("slurm")
    script = Path(__file__).with_name("slurm.sh")
    with subprocess.Popen(
        ["/bin/sh", str(script), str(root / "cluster"), str(NODES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as daemons:  # fmt: skip
        assert daemons.stdout is not None
        assert daemons.stderr is not None
        if daemons.stdout.readline() != "ready\n":
            said = daemons.stderr.read().strip()
            assert daemons.wait() == 77, said
            pytest.skip(said.splitlines()[-1])
        shell = Shell(root, root)
        hello = conda(library("hello", {"share/hello": bytes(100_000)}))
        shell(*SMALL, "made.sh", publish(root / "site", hello))
        yield root
        assert daemons.stdin is not None
        daemons.stdin.close()


def submitted(cluster: Path, *argv: str, text: str = "") -> Ended:
    """A job, run to its end."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(cluster),
        "SLURM_CONF": str(cluster / "cluster/slurm.conf"),
    }
    done = subprocess.run(
        argv,
        input=text,
        cwd=cluster,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def batch(cluster: Path, *lines: str) -> Ended:
    script = "\n".join(("#!/bin/sh", *lines, ""))
    done = submitted(cluster, "sbatch", "--wait", f"--nodes={NODES}", "--output=said", text=script)
    return Ended(done.status, (cluster / "said").read_text(), done.err)


@pytest.mark.parametrize("how", ["sh made.sh stage", "envforge stage made.sh"])
def test_the_script_of_a_job_stages_on_every_node(cluster: Path, how: str) -> None:
    place = f"/local/{how.split()[0]}"
    done = batch(
        cluster,
        f'path=$({how} --to {place} 2>errors) || exit 1; echo "$path"',
        f'srun --nodes={NODES} --ntasks-per-node=1 sh -c "cat $path/share/hello | wc -c"',
        f'{how} --to {place} --json | tr -d " \\n"',
    )
    assert done.status == 0, (done, (cluster / "errors").read_text())
    path, *counts, told = done.out.splitlines()
    assert path.startswith(f"{place}/made-")
    assert counts == ["100000"] * NODES
    assert f'"path":"{path}"' in told
    assert f'"nodes":{NODES}' in told
    assert not Path(path).exists()  # this machine is none of the nodes


def test_every_task_of_a_step_is_told_the_path(cluster: Path) -> None:
    words = ("--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "envforge", "stage", "made.sh")
    done = submitted(cluster, "srun", *words, "--to", "/local/step")
    assert done.status == 0, done.err
    assert len(done.out.splitlines()) == 8
    assert len(set(done.out.splitlines())) == 1
    # The shell of salloc is on no node of the job.
    alone = ("salloc", "--nodes=1", "envforge", "stage", "made.sh", "--to", "/local/one", "--quiet")
    done = submitted(cluster, *alone)
    assert (done.status, done.out[:16]) == (0, "/local/one/made-"), done.err
    assert not list(Path("/local").glob("one*"))


def test_what_is_wrong_on_one_node_is_said(cluster: Path) -> None:
    refused = batch(cluster, "envforge stage made.sh --to /proc/none 2>errors")
    assert refused.status == 3, refused
    said = (cluster / "errors").read_text()
    assert said.startswith("envforge: not staged on every node: envforge: cannot make the directory")
    assert said.count("\n") == 3
