"""A real bundle on nodes that have nothing but the tools it asks for, and no network: from the first file to
the third, and back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import rattler

from envforge.demo.channel import DemoChannel
from tests.bundle.conftest import runtime_lock as runtime_lock  # fixtures
from tests.bundle.conftest import site as site
from tests.bundle.real import publish
from tests.bundle.world import TOOLS
from tests.conftest import Shell
from tests.labs.nodes import FLAVOURS, BareNode, bare_node
from tests.labs.places import mounted, need_root, tmpfs
from tests.node.world import conda, library, python

pytestmark = pytest.mark.lab


@pytest.fixture(scope="session")
def stick(channel: DemoChannel, runtime_lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles with a runtime, and a delta since the second."""
    need_root()
    root = tmp_path_factory.mktemp("stick")
    shell = Shell(root, root)
    interpreter = python(channel)
    since: list[object] = []
    for number, name in enumerate(("first.sh", "second.sh", "delta.sh"), 1):
        hello = library("hello", {"share/hello": b"%d" % number}, version=f"{number}.0")
        lock = publish(root / f"site-{number}", interpreter, conda(hello))
        since = ["--since", "second.sh"] if name == "delta.sh" else []
        shell("bundle", lock, "--runtime-lock", runtime_lock, "-o", name, *since)
    assert (root / "delta.sh").stat().st_size < 200_000
    return root


@pytest.fixture(scope="session")
def libraries(stick: Path) -> Path:
    """What the demonstration's Python, which is this machine's, needs beyond the C library.

    A Python of conda-forge brings that; so nothing but where the libraries are is shown to a node.
    """
    place = stick / "libraries"
    place.mkdir()
    modules = [*Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so")]
    modules += Path(rattler.__file__).parent.rglob("*.so")
    for module in modules:
        said = subprocess.run(["ldd", module], capture_output=True, text=True, check=True).stdout
        for name, path in re.findall(r"(\S+) => (/\S+)", said):
            if not re.match(r"lib(c|m|dl|rt|util|pthread|resolv|nsl|anl)\.so|ld-", name):
                shutil.copyfile(path, place / name)
    return place


@pytest.fixture(params=FLAVOURS)
def node(request: pytest.FixtureRequest) -> BareNode:
    return bare_node(request.param)


SAID = """\
import pathlib, sys
print(pathlib.Path(sys.prefix, "share/hello").read_text(), sys.flags.isolated)
"""


def test_from_the_first_file_to_the_third_and_back(
    node: BareNode, stick: Path, libraries: Path, tmp_path: Path
) -> None:
    (tmp_path / "say.py").write_text(SAID)
    carried = tmp_path / "stick"
    carried.mkdir()
    libraries = carried / libraries.name
    own = ["env/.envforge/bin/envforge"]
    with (
        mounted("--bind", str(stick), at=carried),
        mounted("-t", "tmpfs", "-o", "noexec", "tmpfs", at=tmp_path / "tmp"),
        tmpfs(tmp_path / "home") as home,
    ):
        for place in (carried, home):
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        env = {"HOME": str(home), "TMPDIR": str(tmp_path / "tmp"), "LD_LIBRARY_PATH": str(libraries)}

        def run(*argv: str, status: int = 0) -> str:
            done = node(tmp_path, *argv, env=env)
            assert done.status == status, f"{argv}: {done.err}"
            return done.out

        tools = run("sh", "-c", "cd /usr/bin && echo *").split()
        assert set(tools) == set(TOOLS)
        for number, words in enumerate((["--prefix", "env"], ["-b", "-p", "env"], ["--prefix=env"]), 1):
            name = ("first", "second", "delta")[number - 1]
            said = node(tmp_path, "sh", f"stick/{name}.sh", *words, env=env)
            assert said.status == 0, said.err
            assert said.err.count("next: ") == 3
            assert run("env/bin/python", "say.py") == f"{number} 0\n"
            assert json.loads(run(*own, "verify", "env", "--json"))["equal"]
        run(*own, "rollback", "env")
        assert run(*own, "run", "env", "--", "python", "say.py") == "2 0\n"
        assert len(json.loads(run(*own, "history", "env", "--json"))["generations"]) == 2
        script = ". env/.envforge/activate.sh && cd / && exec python -c 'import sys; print(sys.prefix)'"
        assert re.search(r"/env\.generations/[0-9a-f]{12}\n$", run("sh", "-c", script))
        # The directory of the bundle cannot be written to: the working directory is taken.
        assert json.loads(run("sh", "stick/second.sh", "verify", "--json"))["equal"]
        assert os.listdir(tmp_path / "tmp") == []
        assert os.listdir(home) == []
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"env", "env.generations", "home", "say.py", "stick", "tmp"}
    assert {
        path.name for path in (tmp_path / "env.generations").iterdir() if path.name.startswith(".")
    } == set()


def test_a_full_disk_leaves_what_was_there(
    node: BareNode, stick: Path, libraries: Path, tmp_path: Path
) -> None:
    """Room for the runtime and not for the environment; by the header's count, and without it."""
    shutil.copytree(libraries, tmp_path / "libraries")
    shutil.copyfile(stick / "first.sh", tmp_path / "first.sh")
    env = {"LD_LIBRARY_PATH": f"{tmp_path}/libraries"}
    words = ("sh", "first.sh", "--prefix", "small/env", "--quiet")
    with tmpfs(tmp_path / "small", size="190m") as small:
        refused = node(tmp_path, *words, env=env)
        refused.assert_error(3, "no room", str(small))
        assert list(small.iterdir()) == []
        ended = node(tmp_path, *words, "--ignore-check", "space", env=env)
        assert ended.status == 3, ended.err
        assert "room" in ended.err or "space" in ended.err
        assert not (small / "env").is_symlink()
        assert not [path for path in small.rglob("*") if path.name.startswith(".work")]
