"""What a site says of images once: its base, its registry, and what Shifter cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.image.conftest import Command
from tests.image.world import NAMED, packages, write_base
from tests.node.world import conda, library, mirror


def test_the_base_and_the_registry_of_a_site(
    envforge_here: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(tmp_path / "base.tar")
    (tmp_path / "own.toml").write_text(
        f'base-image = "oci-archive:{tmp_path}/base.tar"\nregistry = "registry.example:5000/team/"\n'
    )
    monkeypatch.setenv("ENVFORGE_CONFIG", str(tmp_path / "own.toml"))
    done = envforge_here("image", "oci", made, "-o", "env.oci.tar")
    (copy,) = [line for line in done.err.splitlines() if "skopeo copy" in line]
    named = copy.rpartition("docker://")[2]
    assert named.startswith("registry.example:5000/team/")
    name, tag = named.rsplit(":", 1)
    assert name == f"registry.example:5000/team/{NAMED['envforge.name']}"
    assert f"lock sha256:{tag}" in done.out
    assert f"shifterimg pull docker:{named}\n" in done.err
    assert "Open MPI" not in done.err
    (tmp_path / "own.toml").write_text('base-image = "localimage:/images/base.sif"\n')
    done = envforge_here("image", "oci", made, "-o", "env.oci.tar")
    assert "docker://REGISTRY/" in done.err
    assert "there is no base in it" in done.err


def test_an_mpi_that_shifter_cannot_replace_is_said(envforge_here: Command, tmp_path: Path) -> None:
    source = mirror(tmp_path / "m", *packages(), conda(library("openmpi", {"lib/x": b""})), custom=NAMED)
    write_base(tmp_path / "base.tar")
    words = ("image", "oci", source, "--base", "base.tar", "-o", "x.oci.tar")
    assert "the one in it is Open MPI" in envforge_here(*words, "--registry", "r.example/x").err
    assert "Open MPI" not in envforge_here(*words).err


@pytest.mark.parametrize("registry", ["", "a b", "https://host/x", "host/UP", "host/../x", "host/x;id"])
def test_what_is_no_registry_is_refused(
    envforge_here: Command, made: Path, tmp_path: Path, registry: str
) -> None:
    words = ("image", "oci", made, "-o", "x.oci.tar", "--registry", registry or "/")
    envforge_here(*words, status=None).assert_error(2, "is no registry")
    assert not (tmp_path / "x.oci.tar").exists()


@pytest.mark.parametrize("prefix", ["/opt/udiImage/env", "/var/udiMount"])
def test_shifters_own_places_are_taken(envforge_here: Command, made: Path, prefix: str) -> None:
    words = ("image", "oci", made, "-o", "x.oci.tar", "--prefix", prefix)
    envforge_here(*words, status=None).assert_error(2, "--prefix /opt/env")
