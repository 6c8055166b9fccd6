"""Recipes for a bundle, built without network by the programs that they are for, and used."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.channel import build_demo_channel
from envforge.demo.index import build_demo_index
from tests.bundle.conftest import runtime_lock as runtime_lock  # fixtures
from tests.bundle.conftest import site as site
from tests.conftest import specification
from tests.labs.support import Laboratory, command, laboratory, made_root

pytestmark = pytest.mark.lab

DIGEST = "sha256:" + "5" * 64
# What podman takes for its runroot has at most 50 characters.
STORAGE = f"--root {{0}}/store --runroot /run/lab-{os.getpid()} --storage-driver vfs"
CODE = "import sys, os; print(sys.prefix, os.environ['CONDA_PREFIX'], os.environ['ENVFORGE_ID'][:7])"


@dataclass(frozen=True)
class World:
    """A directory with ``greet.sh``, a bundle; ``apptainer`` and ``tools`` are systems with programs."""

    place: Path
    apptainer: Laboratory
    tools: Laboratory

    def script(self, text: str) -> str:
        """A script of sh in the system with the tools, in the directory, without network."""
        return self.tools.run(self.place, "sh", "-ec", "export USER=root\n" + text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, runtime_lock: Path) -> World:
    apptainer, tools = laboratory(), made_root("tools-root.sh", "tools")
    place = tmp_path_factory.mktemp("recipes")
    channel = build_demo_channel(place / "site/channel")
    index = build_demo_index(place / "site/index")
    text = specification(channel.url, channel.platform, index_url=index.url)
    (place / "environment.yml").write_text(text)
    command(place, "lock", "--glibc", platform.libc_ver()[1])
    command(place, "bundle", "--runtime-lock", str(runtime_lock), "-o", "greet.sh")
    argv = ["tar", "--create", "--file", str(place / "site/base.tar"), "--exclude=./dev/*", "."]
    subprocess.run(argv, cwd=apptainer.root / "base", check=True)
    return World(place, apptainer, tools)


def test_a_definition_file_for_a_bundle(world: World) -> None:
    base = ("--base", "localimage:/base")
    command(world.place, "render", "singularity", "greet.sh", *base, "--prefix", "/sw/env", "-o", "env.def")
    run = world.apptainer.run
    built = run(world.place, "apptainer", "build", "env.sif", "env.def")
    assert "/sw/env is equal to its receipt and the artifacts of /envforge/bundle.sh" in built
    tested = run(world.place, "apptainer", "test", "env.sif")
    assert "/sw/env is equal to its receipt" in tested
    assert "envforge: Python " in tested
    assert "/sw/env /sw/env sha256:\n" in run(
        world.place, "apptainer", "exec", "env.sif", "python", "-c", CODE
    )
    # What is in it is what every image says, so that it is verified and used like them.
    assert "is equal to its receipt" in command(world.place, "verify", "env.sif")
    command(world.place, "wrap", "env.sif", "--bin", "bin", "greet", "python")
    said = run(world.place, "sh", "-c", "bin/greet; bin/python -c 'import os; os._exit(7)'", status=7)
    assert "library /sw/env\n" in said


def test_charliecloud_builds_the_dockerfile(world: World) -> None:
    base = f"docker:base@{DIGEST}"
    command(world.place, "render", "dockerfile", "greet.sh", "--base", base, "-o", "Dockerfile")
    said = world.script(f"""
        export CH_IMAGE_STORAGE={world.place}/ch
        ch-image import {world.place}/site/base.tar envforge-base
        ch-image build --build-arg BASE=envforge-base -t greet -f Dockerfile .
        ch-convert greet ./as-directory
        ch-run --set-env as-directory -- python -c 'import sys; print(sys.prefix)'
        ch-run as-directory -- /opt/env/.envforge/run python -c "{CODE}"
    """)
    assert "/opt/env is equal to its receipt and the artifacts of /envforge/bundle.sh" in said
    assert said.endswith("/opt/env\n/opt/env /opt/env sha256:\n")


def test_buildah_builds_the_dockerfile(world: World) -> None:
    base = f"docker:base@{DIGEST}"
    answer = command(
        world.place, "render", "dockerfile", "greet.sh", "--base", base, "-o", "Containerfile", "--json"
    )
    assert json.loads(answer)["output"] == "Containerfile"
    storage = STORAGE.format(world.place)
    said = world.script(f"""
        buildah="buildah {storage}"
        work=$($buildah from scratch)
        $buildah add -q $work site/base.tar / >/dev/null
        $buildah config --user 65534 --workingdir /srv $work
        $buildah commit -q $work localhost/base
        base="--pull=never --build-arg BASE=localhost/base"
        $buildah build --isolation chroot $base -t greet -f Containerfile .
        work=$($buildah from localhost/greet)
        $buildah run --isolation chroot $work -- greet
        $buildah push -q localhost/greet oci-archive:{world.place}/built.oci.tar
        $buildah inspect --format '{{{{.OCIv1.Config.Entrypoint}}}}' $work
        $buildah run --isolation chroot --user 65534 $work -- /opt/env/.envforge/run python -c "{CODE}"
    """)
    assert "/opt/env is equal to its receipt and the artifacts of /envforge/bundle.sh" in said
    assert "library /opt/env" in said
    assert said.endswith("[/opt/env/.envforge/run]/opt/env /opt/env sha256:\n")
    assert "is equal to its receipt" in command(
        world.place, "verify", "built.oci.tar", "--against", "greet.sh"
    )
