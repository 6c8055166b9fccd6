"""The rendered definition file in a real Apptainer: built, tested, and used."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import envforge
from envforge.demo.channel import build_demo_channel
from envforge.demo.index import build_demo_index

from .support import Laboratory, command, laboratory

pytestmark = pytest.mark.lab

SOURCE = Path(envforge.__file__).resolve().parents[1]
SPECIFICATION = """\
name: greet
channels: ["{site}/channel"]
dependencies:
  - python
  - greet
  - pip: ["--index-url {site}/{index}", greet-client]
platforms: [{platform}]
"""


@dataclass(frozen=True)
class Site:
    """A directory with ``channel`` and ``index`` below it; ``url`` serves it over the loopback device."""

    directory: Path
    platform: str
    index: str
    url: str

    def lock(self, directory: Path, *, served: bool) -> None:
        """Make ``conda-lock.yml`` in ``directory``, from the site's files or from its address."""
        text = SPECIFICATION.format(
            site=self.url if served else self.directory.as_uri(), index=self.index, platform=self.platform
        )
        (directory / "environment.yml").write_text(text, encoding="utf-8")
        command(directory, "lock", "--glibc", platform.libc_ver()[1])


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return laboratory()


@pytest.fixture(scope="module")
def wheels(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool and what it needs, made by the command that the recipe names."""
    directory = tmp_path_factory.mktemp("wheels") / "envforge-wheels"
    argv = [sys.executable, "-m", "pip", "wheel", "--wheel-dir", str(directory), str(SOURCE)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        pytest.skip(f"no wheels: {(done.stderr.strip().splitlines() or ['pip failed'])[-1]}")
    return directory


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def site(lab: Laboratory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    channel = build_demo_channel(directory / "channel")
    index = build_demo_index(directory / "index").url.removeprefix(f"{directory.as_uri()}/")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield Site(directory=directory, platform=channel.platform, index=index, url=url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def render(directory: Path, wheels: Path, source: str, *options: str) -> Path:
    """Render ``env.def`` in ``directory`` and put the wheels beside it, where it expects them."""
    shutil.copytree(wheels, directory / "envforge-wheels", copy_function=os.link)
    argv = ("render", "singularity", source, "--base", "localimage:/base", "-o", "env.def", *options)
    answer = json.loads(command(directory, *argv, "--json"))
    assert answer["next"] == ["APPTAINER_TMPDIR=${TMPDIR:-/tmp} apptainer build env.sif env.def"]
    return directory / "env.def"


def test_a_mirror_becomes_an_image_without_network(
    lab: Laboratory, site: Site, wheels: Path, tmp_path: Path
) -> None:
    site.lock(tmp_path, served=False)
    command(tmp_path, "mirror", "conda-lock.yml", "my mirror")
    recipe = render(tmp_path, wheels, "my mirror", "--prefix", "/sw/greet")

    built = lab.run(tmp_path, "apptainer", "build", "env.sif", "env.def")
    assert "/sw/greet is equal to its receipt and the artifacts of /envforge/mirror" in built

    assert "envforge: Python " in lab.run(tmp_path, "apptainer", "test", "env.sif")
    said = lab.run(tmp_path, "apptainer", "exec", "env.sif", "greet")
    assert "library /sw/greet\n" in said
    code = "import greet_client, os, sys; print(sys.prefix, os.environ['CONDA_PREFIX'])"
    said = lab.run(tmp_path, "apptainer", "run", "env.sif", "python", "-c", code)
    assert "/sw/greet /sw/greet\n" in said

    labels = lab.run(tmp_path, "apptainer", "inspect", "env.sif")
    digest = hashlib.sha256((tmp_path / "conda-lock.yml").read_bytes()).hexdigest()
    assert f"org.envforge.lock.sha256: {digest}" in labels
    assert recipe.read_text(encoding="utf-8").strip() in lab.run(
        tmp_path, "apptainer", "inspect", "--deffile", "env.sif"
    )
    assert_only_the_environment_is_in_it(lab, tmp_path)


def assert_only_the_environment_is_in_it(lab: Laboratory, directory: Path) -> None:
    """What was copied from the first stage is still what was locked, file by file, and nothing else came."""
    listed = lab.run(directory, "apptainer", "exec", "env.sif", "sh", "-c", "ls -d /envforge; ls -A /sw")
    assert "/envforge\n" not in listed.replace("'/envforge'", "")
    assert listed.splitlines()[-1:] == ["greet"]
    script = """
        /usr/bin/python3 -m venv /tmp/venv
        /tmp/venv/bin/python -m pip install -q --no-index --find-links envforge-wheels envforge-hpc
        /tmp/venv/bin/envforge verify /sw/greet --against 'my mirror' --store /tmp/store
    """
    where = ("--bind", str(directory), "--pwd", str(directory), "--bind", f"{directory}/tmp:/tmp")
    said = lab.run(directory, "apptainer", "exec", *where, "env.sif", "sh", "-ec", script)
    assert "/sw/greet is equal to its receipt and the artifacts of my mirror" in said


def test_a_recipe_is_bound_to_its_lockfile(lab: Laboratory, site: Site, wheels: Path, tmp_path: Path) -> None:
    site.lock(tmp_path, served=False)
    command(tmp_path, "mirror", "conda-lock.yml", "mirror")
    recipe = render(tmp_path, wheels, "mirror")
    text = recipe.read_text(encoding="utf-8")
    digest = hashlib.sha256((tmp_path / "conda-lock.yml").read_bytes()).hexdigest()
    recipe.write_text(text.replace(digest, "0" * 64), encoding="utf-8")
    said = lab.run(tmp_path, "apptainer", "build", "env.sif", "env.def", status=255)
    assert "envforge: the lockfile is not the expected one" in said
    assert not (tmp_path / "env.sif").exists()


def test_a_lockfile_becomes_an_image_with_network(
    lab: Laboratory, site: Site, wheels: Path, tmp_path: Path
) -> None:
    site.lock(tmp_path, served=True)
    render(tmp_path, wheels, "conda-lock.yml")
    built = lab.run(tmp_path, "apptainer", "build", "env.sif", "env.def", network=True)
    assert "/opt/env is equal to its receipt and the artifacts of /envforge/conda-lock.yml" in built
    said = lab.run(tmp_path, "apptainer", "exec", "env.sif", "greet")
    assert "text /opt/env\n" in said
