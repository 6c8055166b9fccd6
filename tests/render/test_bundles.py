"""Recipes for a bundle and for a prefix that is there: definition files and Dockerfiles."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.bundle import BundleOptions, CarriedRuntime, bundle
from envforge.demo.index import Wheel
from envforge.errors import InputError
from envforge.formats import conda_lock, profile_json
from envforge.formats.dockerfile import check
from envforge.layout.plan import LockfileInput
from envforge.model.image import BaseImage
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.profile import ClusterProfile
from envforge.render.dockerfile import dockerfile
from envforge.render.recipe import HostMpi
from envforge.render.sources import RecipeSource
from envforge.reporting import Reporter
from tests.bundle.world import runtime
from tests.node.world import HERE, Artifact, conda, library, mirror, pip

from .test_grammar import NASTY
from .world import BASE, DIGEST, envforge, rendered

Capture = pytest.CaptureFixture[str]
PYTHON = library("python", {"bin/python": b"#!/bin/sh\n"})


def make_bundle(path: Path, *artifacts: Artifact, target: str = "__glibc=2.28", bare: bool = False) -> str:
    """Write a bundle of ``artifacts`` whose runtime is a recorder, and return its sha256."""
    lockfile = Lockfile(
        packages=tuple(artifact.row for artifact in artifacts),
        channels=(),
        platforms=(HERE,),
        content_hash={HERE: "0" * 64},
        custom={"envforge.name": "greet", f"envforge.target.{HERE}": target},
    )
    files = {}
    for artifact in artifacts:
        files[artifact.row.url] = path.parent / artifact.row.filename
        files[artifact.row.url].write_bytes(artifact.data)
    packed = path.with_suffix(".runtime")
    packed.write_bytes(runtime())
    carried = CarriedRuntime(
        path=packed,
        sha256=hashlib.sha256(packed.read_bytes()).hexdigest(),
        size=packed.stat().st_size,
        glibc="2.17",
        python="3.12.1",
        kib=1,
        files=1,
    )
    text = conda_lock.write(lockfile).encode()
    read = conda_lock.read(text.decode(), source="x")
    given = LockfileInput(content=text, filename="greet.conda-lock.yml", lockfile=read)

    def locate(row: LockedPackage) -> Path:
        return files[row.url]

    result = bundle(
        given,
        locate,
        lambda _name: path,
        runtime=None if bare else carried,
        options=BundleOptions(platform=HERE),
        reporter=Reporter(),
    )
    for file in (packed, *files.values()):
        file.unlink()
    return result.sha256


def test_a_bundle_is_the_one_file_that_is_brought_in(capsys: Capture, tmp_path: Path) -> None:
    sha256 = make_bundle(tmp_path / "my greet.sh", conda(PYTHON))
    text, (build, image) = rendered(capsys, "my greet.sh", "--base", BASE)
    assert build.files == {"": [("my greet.sh", "/envforge/bundle.sh")]}
    assert f'echo "{sha256}  /envforge/bundle.sh" | sha256sum -c -' in text
    install = "sh /envforge/bundle.sh image tree /envforge/bundle.sh -o /opt/env --prefix /opt/env"
    assert install in build.sections["post"]
    assert "python3" not in build.sections["post"]
    assert image.files["from build"][0] == ("/opt/env", "/opt/env")
    assert "/opt/env/.envforge/bin/envforge verify /opt/env\n" in image.sections["test"]
    assert "cuda" not in text
    assert "mpi" not in text


def test_what_cannot_install_by_itself_is_refused(capsys: Capture, tmp_path: Path) -> None:
    make_bundle(tmp_path / "bare.sh", conda(PYTHON), bare=True)
    outcome = envforge(capsys, "render", "singularity", "bare.sh", "--base", BASE)
    assert outcome.status == 2
    assert "the bundle has no runtime" in outcome.err
    assert "envforge bundle" in outcome.err


def test_gpu_and_mpi_are_said_and_set(capsys: Capture, tmp_path: Path) -> None:
    make_bundle(
        tmp_path / "hpc.sh",
        conda(PYTHON),
        conda(library("mpich", {"lib/libmpi.so.12": b""})),
        target="__cuda=12.4",
    )
    words = ("hpc.sh", "--base", BASE)
    text, (_, image) = rendered(capsys, *words)
    assert (image.labels["org.envforge.cuda"], image.labels["org.envforge.mpi"]) == ("12.4", "mpich")
    assert "LD_LIBRARY_PATH" not in text
    text, (_, image) = rendered(capsys, *words, "--mpi", "bind:/opt/mpi/lib:/opt/fabric/lib64")
    want = 'export LD_LIBRARY_PATH="/opt/mpi/lib:/opt/fabric/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'
    assert want in image.sections["environment"]
    # What conda built looks in the environment before it heeds LD_LIBRARY_PATH.
    assert 'export LD_PRELOAD="$directory/libmpi.so.12' in image.sections["environment"]
    outcome = envforge(capsys, "render", "dockerfile", *words, "--mpi", "bind:/opt/mpi/lib")
    assert (outcome.status, "comes before the cluster's" in outcome.err) == (2, True)
    outcome = envforge(capsys, "render", "singularity", *words, "-o", "x.def", "--mpi", "bind:/opt/mpi/lib")
    line = "srun --mpi=pmi2 apptainer run --nv -B /opt/mpi/lib x.sif COMMAND"
    assert f"on the cluster: {line}" in outcome.err
    for wrong in ("bind", "bind:lib", "bind:/a b", "hybrid:/x", "none", "bind:/a;id"):
        outcome = envforge(capsys, "render", "singularity", *words, "--mpi", wrong)
        assert outcome.status == 2, wrong
    make_bundle(tmp_path / "plain.sh", conda(PYTHON))
    outcome = envforge(capsys, "render", "singularity", "plain.sh", "--base", BASE, "--mpi", "hybrid")
    assert "the environment has no MPI" in outcome.err


def test_an_mpi_that_is_not_in_the_environment_is_the_clusters(capsys: Capture, tmp_path: Path) -> None:
    stub = library("mpich", {}, build="external_0")
    wheel = pip(Wheel(name="mpi4py", version="4.1.2"))
    for number, takes in enumerate((conda(stub), wheel)):
        make_bundle(tmp_path / f"{number}.sh", conda(PYTHON), takes)
        words = (f"{number}.sh", "--base", BASE)
        outcome = envforge(capsys, "render", "singularity", *words, "-o", "x.def")
        assert "the environment takes the cluster's MPI: name where it is, --mpi bind:" in outcome.err
        outcome = envforge(capsys, "render", "singularity", *words, "--mpi", "hybrid")
        assert "it takes the cluster's" in outcome.err
        text, _ = rendered(capsys, *words, "--mpi", "bind:/opt/mpi/lib")
        assert "LD_PRELOAD" not in text
        outcome = envforge(capsys, "render", "dockerfile", *words, "--mpi", "bind:/opt/mpi/lib")
        assert "\nENV LD_LIBRARY_PATH=/opt/mpi/lib\n" in outcome.out


def test_the_profile_of_the_nodes_says_where_their_mpi_is(capsys: Capture, tmp_path: Path) -> None:
    node = ClusterProfile(platform=HERE, cuda="12.2", mpi="/opt/mpi/lib/libmpi.so.12")
    (tmp_path / "node.json").write_text(profile_json.write(node))
    other = replace(node, cuda=None, mpi="/opt/open/lib/libmpi.so.40")
    (tmp_path / "other.json").write_text(profile_json.write(other))
    make_bundle(tmp_path / "stub.sh", conda(PYTHON), conda(library("mpich", {}, build="external_0")))
    make_bundle(tmp_path / "own.sh", conda(PYTHON), conda(library("mpich", {})), target="__cuda=12.4")
    bound = 'LD_LIBRARY_PATH="/opt/mpi/lib$'
    words = ("stub.sh", "--base", BASE, "--profile", "node.json")
    assert bound in rendered(capsys, *words)[0]
    assert bound in rendered(capsys, *words, "--mpi", "bind")[0]
    refused = {
        ("own.sh", "node.json"): "locked for CUDA 12.4, and the driver there runs 12.2",
        ("own.sh", "other.json"): "locked for CUDA 12.4, and there is no driver there",
        ("stub.sh", "other.json"): "an MPI of the family mpich, and the cluster's is another",
    }
    for (source, profile), what in refused.items():
        outcome = envforge(capsys, "render", "singularity", source, "--base", BASE, "--profile", profile)
        assert (outcome.status, what in outcome.err) == (2, True), outcome.err
    (tmp_path / "node.json").write_text(profile_json.write(replace(node, cuda="12.6")))
    words = ("own.sh", "--base", BASE, "--profile", "node.json")
    assert "LD_LIBRARY_PATH" not in rendered(capsys, *words)[0]  # the hybrid model
    assert "LD_PRELOAD" in rendered(capsys, *words, "--mpi", "bind")[0]


def test_a_prefix_is_packed_as_it_is(
    capsys: Capture, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("prefix", numbered=True)
    source = mirror(tmp_path / "mirror", conda(library("a", {"share/a": b"a"})))
    done = envforge(capsys, "install", source, "--prefix", place / "env")
    assert done.status == 0, done.err
    monkeypatch.setattr("envforge.model.image._TAKEN", ("dev",))  # where tests may write is taken in an image
    text, (build, image) = rendered(capsys, str(place / "env"), "--base", BASE)
    generation = (place / "env").resolve()
    assert build.files == {"": [("env.tar", "/envforge/prefix.tar")]}
    assert image.files["from build"][0] == (str(generation), str(generation))
    assert image.labels["org.envforge.prefix"] == str(generation)  # what is no link can be verified
    for stage in (build, image):
        assert f"ln -s {generation} {place / 'env'}\n" in stage.sections["post"]
    (line,) = [line for line in text.splitlines() if line.startswith("#     tar ")]
    outcome = envforge(capsys, "render", "singularity", place / "env", "--base", BASE, "-o", "env.def")
    (step,) = [one for one in outcome.err.splitlines() if one.startswith("note: next: tar")]
    assert shlex.split(step.removeprefix("note: next: ")) == shlex.split(line.removeprefix("#     "))


def test_a_prefix_where_images_cannot_have_one_is_refused(capsys: Capture, tmp_path: Path) -> None:
    source = mirror(tmp_path / "mirror", conda(library("a", {"share/a": b"a"})))
    envforge(capsys, "install", source, "--prefix", tmp_path / "env")
    outcome = envforge(capsys, "render", "singularity", "env", "--base", BASE)
    assert outcome.status == 2
    assert "an environment stays at the path that it was linked for" in outcome.err
    assert "envforge render singularity BUNDLE" in outcome.err


def instructions(text: str) -> list[list[str]]:
    return [line.split(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]


def test_a_dockerfile(capsys: Capture, tmp_path: Path) -> None:
    sha256 = make_bundle(tmp_path / "greet.sh", conda(PYTHON), target="__cuda=12.4")
    outcome = envforge(capsys, "render", "dockerfile", "greet.sh", "--base", BASE)
    assert outcome.status == 0, outcome.err
    found = instructions(outcome.out)
    assert found[0] == ["ARG", f"BASE=rockylinux@{DIGEST}"]
    assert [rest for word, rest in found if word == "FROM"] == ["$BASE AS build", "$BASE"]
    assert ["COPY", "greet.sh /envforge/bundle.sh"] in found
    assert ["COPY", "--from=build /opt/env /opt/env"] in found
    assert any(sha256 in rest for word, rest in found if word == "RUN")
    assert ["ENV", "PATH=/opt/env/bin:$PATH"] in found
    assert ["USER", "0"] in found[: found.index(["FROM", "$BASE"])]
    labels = [rest.partition("=")[0] for word, rest in found if word == "LABEL"]
    assert {"org.envforge.lock", "org.envforge.prefix", "org.envforge.platform"} < set(labels)
    assert ["ENV", "NVIDIA_VISIBLE_DEVICES=all"] in found
    assert found[-1] == ["ENTRYPOINT", '["/opt/env/.envforge/run"]']
    assert f"ch-image pull rockylinux@{DIGEST} envforge-base" in outcome.out
    written = envforge(capsys, "render", "dockerfile", "greet.sh", "--base", BASE, "-o", "My.dockerfile")
    assert "podman build -t greet -f My.dockerfile ." in written.err
    assert "-f My.dockerfile ." in (tmp_path / "My.dockerfile").read_text()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("greet.sh", "--base", "localimage:/x"), "is no base image"),
        (("sub/../greet.sh", "--base", BASE), "is not one below this directory"),
        (("my greet.sh", "--base", BASE), "is not one below this directory"),
        (("mirror", "--base", BASE), "a mirror is not one file"),
        (("greet.sh", "--base", BASE, "--prefix", "/tmp/env"), "/tmp in an image belongs to"),
    ],
)
def test_what_a_dockerfile_cannot_say_is_refused(
    capsys: Capture, tmp_path: Path, digest: str, words: tuple[str, ...], what: str
) -> None:
    make_bundle(tmp_path / "greet.sh", conda(PYTHON))
    (tmp_path / "my greet.sh").symlink_to("greet.sh")
    (tmp_path / "sub").mkdir()
    outcome = envforge(capsys, "render", "dockerfile", *words)
    assert outcome.status == 2
    assert what in outcome.err


SOURCE = RecipeSource(
    kind="bundle",
    path="greet.sh",
    name="n",
    sha256="a" * 64,
    digest="b" * 64,
    file_sha256="c" * 64,
    platforms=("linux-64: any",),
    has_python=True,
    verifies=True,
)
IMAGE = BaseImage(agent="docker", reference=f"rockylinux@{DIGEST}")


@given(
    path=st.lists(st.sampled_from(NASTY), min_size=1, max_size=4).map("".join),
    name=st.lists(st.sampled_from(NASTY), min_size=1, max_size=4).map("".join),
    assumed=st.lists(st.sampled_from(NASTY), max_size=3).map("".join),
)
def test_a_dockerfile_means_what_went_in(path: str, name: str, assumed: str) -> None:
    source = replace(SOURCE, path=path, name=name, platforms=(assumed,))
    try:
        text = dockerfile(
            source, IMAGE, prefix="/opt/env", file="Dockerfile", mpi=HostMpi(directories=("/m",))
        )
    except InputError:
        return
    check(text)
    words = [word for word, _ in instructions(text)]
    assert words[:5] == ["ARG", "FROM", "USER", "WORKDIR", "COPY"]
    assert words[-1] == "ENTRYPOINT"
    assert words.count("FROM") == 2
    assert ["LABEL", f'org.envforge.lock.name="{name}"'] in instructions(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Written by", "# syntax=docker/dockerfile:1\n# Written by"),
        ("FROM $BASE\n", f"FROM rockylinux@{DIGEST}\n"),
        ("FROM $BASE\n", "FROM --platform=linux/amd64 $BASE\n"),
        ("COPY --from=build", "COPY --chmod=755 --from=build"),
        ("COPY greet.sh", "COPY *.sh"),
        ("COPY greet.sh", "ADD greet.sh"),
        ("ENV CONDA_PREFIX=/opt/env", "ENV CONDA_PREFIX=/opt/env $X"),
        ("ENV CONDA_PREFIX=/opt/env", "ENV CONDA_PREFIX=/opt/env\nUSER me"),
        ('LABEL org.envforge.version="', 'LABEL org.envforge.version="$X'),
        ("RUN mkdir", "RUN <<EOF mkdir"),
        ("RUN mkdir", "RUN\tmkdir"),
        ('/run"]\n', '/run"] \\\n'),
        ('/run"]\n', '/run"]'),
    ],
)
def test_each_trap_of_a_dockerfile_is_found(old: str, new: str) -> None:
    good = dockerfile(SOURCE, IMAGE, prefix="/opt/env", file="Dockerfile")
    check(good)
    assert old in good
    with pytest.raises(InputError, match="would not be read as it is meant"):
        check(good.replace(old, new, 1))
