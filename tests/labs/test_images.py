"""Images in the programs that they are for: read, loaded, converted, mounted and run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.channel import build_demo_channel
from envforge.demo.index import build_demo_index
from tests.bundle.conftest import Carried
from tests.bundle.conftest import carried as carried
from tests.bundle.conftest import runtime_lock as runtime_lock
from tests.conftest import specification
from tests.labs.support import HERE, Laboratory, command, laboratory, made_root
from tests.runtime.conftest import site as site

pytestmark = pytest.mark.lab

CODE = "import sys; print(sys.prefix)"
# What podman takes for its runroot has at most 50 characters.
STORAGE = f"--root {{0}}/store --runroot /run/lab-{os.getpid()} --storage-driver vfs"


@dataclass(frozen=True)
class World:
    """A directory with ``mirror``, ``base.oci.tar``, ``env.oci.tar``, ``env.sqsh`` and ``root.sqsh`` in it.

    ``apptainer`` is a system with Apptainer, ``tools`` one with everything else.
    """

    place: Path
    apptainer: Laboratory
    tools: Laboratory

    def script(self, text: str, *, network: bool = False, status: int = 0) -> str:
        """A script of sh in the system with the tools, in the directory."""
        return self.tools.run(self.place, "sh", "-ec", text, network=network, status=status)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    apptainer = laboratory()
    tools = made_root("tools-root.sh", "tools")
    place = tmp_path_factory.mktemp("images")
    site = place / "site"
    channel = build_demo_channel(site / "channel")
    index = build_demo_index(site / "index")
    text = specification(channel.url, channel.platform, index_url=index.url)
    (place / "environment.yml").write_text(text)
    command(place, "lock", "--glibc", platform.libc_ver()[1])
    command(place, "mirror", "conda-lock.yml", "mirror")
    world = World(place, apptainer, tools)
    _make_base(world)
    command(place, "image", "oci", "mirror", "--base", "base.oci.tar", "-o", "env.oci.tar")
    if shutil.which("mksquashfs") is None:
        pytest.skip("no mksquashfs: apt-get install squashfs-tools")
    command(place, "image", "squashfs", "mirror", "-o", "env.sqsh")
    command(place, "image", "squashfs", "mirror", "--base", "base.oci.tar", "-o", "root.sqsh")
    return world


def _make_base(world: World) -> None:
    """An OCI archive of the base image of the other labs, made by umoci and skopeo."""
    argv = ["tar", "--create", "--file", str(world.place / "base.tar"), "--exclude=./dev/*", "."]
    subprocess.run(argv, cwd=world.apptainer.root / "base", check=True)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    world.script(f"""
        umoci init --layout base
        umoci new --image base:debian
        umoci raw add-layer --image base:debian base.tar
        umoci config --image base:debian --architecture {machine} --os linux --config.cmd bash
        skopeo --insecure-policy copy oci:base:debian oci-archive:base.oci.tar
        rm base.tar
    """)


def test_skopeo_copies_it_in_every_form(world: World) -> None:
    said = json.loads(world.script("skopeo inspect oci-archive:env.oci.tar"))
    assert said["Labels"]["org.envforge.prefix"] == "/opt/env"
    assert "CONDA_PREFIX=/opt/env" in said["Env"]
    world.script("""
        skopeo --insecure-policy copy oci-archive:env.oci.tar dir:as-dir
        skopeo --insecure-policy copy oci-archive:env.oci.tar docker-archive:as-docker.tar
        skopeo --insecure-policy copy docker-archive:env.oci.tar oci-archive:through-docker.tar
        rm -r as-dir as-docker.tar
    """)
    assert "is equal to its receipt" in command(world.place, "verify", "through-docker.tar")


def test_umoci_unpacks_it(world: World) -> None:
    world.script("""
        mkdir layout
        tar -C layout -xf env.oci.tar
        umoci unpack --rootless --image layout:greet unpacked
    """)
    assert "is equal to its receipt" in command(world.place, "verify", "unpacked/rootfs/opt/env")


def test_podman_loads_it_and_buildah_runs_it_as_nobody(world: World) -> None:
    """Running as podman does needs control groups, which a namespace in a namespace has not."""
    storage = STORAGE.format(world.place)
    said = world.script(f"""
        podman {storage} --events-backend none load --quiet --input env.oci.tar
        buildah {storage} from --name work localhost/greet:latest >&2
        run="buildah {storage} run --isolation chroot"
        $run work -- python -c '{CODE}'
        $run --user 65534 work -- sh -c 'id -u; find /opt/env ! -readable'
        $run --user 65534 work -- sh -c 'find /opt/env -type f -exec cat {{}} + >/dev/null'
        $run --user 65534 work -- greet
    """)
    assert "Loaded image: localhost/greet:latest" in said
    assert "\n/opt/env\n65534\n" in said
    assert "library /opt/env" in said


def test_apptainer_builds_from_it(world: World) -> None:
    run = world.apptainer.run
    run(world.place, "apptainer", "build", "built.sif", "oci-archive:env.oci.tar")
    assert "/opt/env\n" in run(world.place, "apptainer", "exec", "built.sif", "python", "-c", CODE)
    assert "library /opt/env" in run(world.place, "apptainer", "run", "built.sif", "greet")
    assert "org.envforge.lock: sha256:" in run(world.place, "apptainer", "inspect", "built.sif")
    assert "is equal to its receipt" in command(world.place, "verify", "built.sif", "--against", "mirror")


WRAPPER = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin NETWORK=none
exec sh {enter} {root} {place} sh -c 'cd "$0"; exec apptainer "$@"' "$PWD" "$@"
"""


def test_a_sif_is_made_in_one_step(world: World) -> None:
    """Apptainer is on PATH here: a program that starts the one in the laboratory."""
    programs = world.place / "programs"
    programs.mkdir()
    text = WRAPPER.format(enter=HERE / "enter-root.sh", root=world.apptainer.root, place=world.place)
    (programs / "apptainer").write_text(text)
    (programs / "apptainer").chmod(0o755)
    words = ("image", "sif", "mirror", "--base", "base.oci.tar", "-o", "made.sif")
    done = subprocess.run(
        [sys.executable, "-m", "envforge", *words],
        cwd=world.place,
        env={
            "PATH": f"{programs}:{os.defpath}",
            "HOME": str(world.place),
            "ENVFORGE_CACHE": str(world.place / "cache"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = world.apptainer.run(world.place, "apptainer", "run", "made.sif", "python", "-c", CODE)
    assert "/opt/env\n" in said
    assert "is equal to its receipt" in command(world.place, "verify", "made.sif")


def test_a_squashfs_is_mounted_at_its_prefix(world: World) -> None:
    run = world.apptainer.run
    where = ("-B", "env.sqsh:/opt/env:image-src=/", "/base", "/opt/env/.envforge/run")
    said = run(world.place, "apptainer", "exec", *where, "python", "-c", CODE)
    assert said.endswith("/opt/env\n")
    script = "mkdir -p at; squashfuse env.sqsh at; cat at/.envforge/receipt.json; umount at"
    assert '"prefix":"/opt/env"' in run(world.place, "sh", "-ec", script)


def test_what_a_bundle_makes_looks_after_itself(world: World, carried: Carried) -> None:
    """Made with no envforge, and with it inside: it verifies itself where it is mounted, without network."""
    shutil.copyfile(carried.bundle, world.place / "greet.sh")
    world.script("sh greet.sh --squashfs carried.sqsh")
    where = ("-B", "carried.sqsh:/opt/env:image-src=/", "/base")
    tool = "/opt/env/.envforge/bin/envforge"
    said = world.apptainer.run(world.place, "apptainer", "exec", *where, tool, "verify", "/opt/env")
    assert "/opt/env is equal to its receipt" in said
    said = world.apptainer.run(world.place, "apptainer", "exec", *where, "/opt/env/.envforge/run", "greet")
    assert "library /opt/env" in said
    said = command(world.place, "verify", "carried.sqsh", "--against", "greet.sh")
    assert "is equal to its receipt and the artifacts of greet.sh" in said


def test_charliecloud_starts_the_root(world: World) -> None:
    said = world.script(f"""
        export USER=root
        ch-run --set-env root.sqsh -- python -c '{CODE}'
        ch-run --set-env root.sqsh -- greet
        ch-convert --in-fmt squash --out-fmt dir root.sqsh as-directory
        ch-run --set-env as-directory -- greet
        rm -r as-directory
    """)
    assert "/opt/env\n" in said
    assert said.count("library /opt/env") == 2


@contextmanager
def registry(world: World) -> Iterator[int]:
    """Debian's docker-registry on a port of the loopback device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (world.place / "registry.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {world.place}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with tempfile.TemporaryFile() as log, subprocess.Popen(
        ["/bin/sh", str(HERE / "enter-root.sh"), str(world.tools.root), str(world.place),
         "docker-registry", "serve", "registry.yml"],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, stdout=log, stderr=log, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            for _ in range(200):
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            else:
                log.seek(0)
                pytest.fail(log.read().decode())
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_a_registry_takes_it_and_gives_a_base(world: World) -> None:
    with registry(world) as port:
        host = f"127.0.0.1:{port}"
        copy = "skopeo --insecure-policy copy --dest-tls-verify=false"
        world.script(f"{copy} oci-archive:base.oci.tar docker://{host}/site/base:1", network=True)
        world.script(f"{copy} oci-archive:env.oci.tar docker://{host}/site/greet:1", network=True)
        inspect = "skopeo inspect --tls-verify=false --format '{{.Digest}}'"
        digest = world.script(f"{inspect} docker://{host}/site/base:1", network=True).split()[-1]
        base = f"docker:{host}/site/base@{digest}"
        command(world.place, "image", "oci", "mirror", "--base", base, "-o", "pulled.oci.tar")
        world.script(f"{copy} oci-archive:pulled.oci.tar docker://{host}/site/greet:2", network=True)
    said = command(world.place, "verify", "pulled.oci.tar", "--against", "mirror")
    assert "is equal to its receipt" in said
    one = json.loads(world.script("skopeo inspect oci-archive:env.oci.tar"))
    two = json.loads(world.script("skopeo inspect oci-archive:pulled.oci.tar"))
    assert one["Layers"] == two["Layers"]
