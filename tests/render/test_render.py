"""``envforge render singularity``: what is printed, and what is refused in words."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

import envforge as package

from .apptainer_parser import parse
from .world import (
    BASE,
    DIGEST,
    conda_row,
    envforge,
    lock_of,
    pip_row,
    rendered,
    write_lockfile,
    write_mirror,
)

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, *argv: str | Path) -> tuple[int, str, str, str]:
    outcome = envforge(capsys, "render", "singularity", *argv)
    what, at, do = outcome.err.splitlines()
    assert outcome.out == ""
    return outcome.status, what.removeprefix("envforge: "), at.strip(), do.strip()


def test_a_mirror_is_brought_in_and_only_the_environment_is_kept(capsys: Capture, digest: str) -> None:
    text, (build, image) = rendered(capsys, "mirror", "--base", BASE)
    for stage, name in ((build, "build"), (image, "image")):
        assert stage.header == {"bootstrap": "docker", "from": f"rockylinux@{DIGEST}", "stage": name}
    assert build.files == {"": [("mirror", "/envforge/mirror"), ("envforge-wheels", "/envforge/wheels")]}
    assert image.files == {
        "from build": [
            ("/opt/env", "/opt/env"),
            ("/envforge/environment.sh", "/envforge-environment.sh"),
        ]
    }
    lines = [line.strip() for line in build.sections["post"].splitlines()]
    tool = "/envforge/venv/bin/envforge"
    assert (
        f"{tool} image tree /envforge/mirror -o /opt/env --prefix /opt/env --store /envforge/store "
        f"--lock analysis --expect-lock sha256:{digest}"
    ) in lines
    assert (
        f"{tool} verify /opt/env --against /envforge/mirror --store /envforge/store --lock analysis" in lines
    )
    assert "# Locked for linux-64: __glibc=2.28" in text
    assert set(build.sections) == {"files", "post"}
    assert set(image.sections) == {"files", "post", "environment", "labels", "runscript", "test"}


def test_the_tool_comes_from_wheels_and_never_from_an_index(capsys: Capture, digest: str) -> None:
    text, (build, _) = rendered(capsys, "mirror", "--base", BASE, "--tool", "../my wheels")
    assert ("../my wheels", "/envforge/wheels") in build.files[""]
    (line,) = [line for line in text.splitlines() if "pip install" in line]
    assert "--no-index --find-links /envforge/wheels" in line
    assert f" envforge-hpc=={package.__version__}" in line
    assert "pip wheel --wheel-dir '../my wheels' PATH-OF-ENVFORGE-SOURCE" in text


def test_the_image_says_what_it_holds(capsys: Capture, digest: str) -> None:
    locked = lock_of(conda_row("python"), conda_row("zlib"), name="analysis")
    _, (_, image) = rendered(capsys, "mirror", "--base", BASE, "--prefix", "/sw/analysis")
    assert image.labels == {
        "org.envforge.version": package.__version__,
        "org.envforge.base": BASE,
        "org.envforge.lock": f"sha256:{locked.digest()}",
        "org.envforge.platform": "linux-64",
        "org.opencontainers.image.title": "analysis",
        "org.envforge.lock.name": "analysis",
        "org.envforge.lock.sha256": digest,
        "org.envforge.prefix": "/sw/analysis",
    }
    assert image.sections["runscript"].split() == ["exec", '"$@"']
    assert f"grep -q {digest} /sw/analysis/.envforge/receipt.json" in image.sections["test"]
    assert "/sw/analysis/bin/python -I -c '" in image.sections["test"]


def test_an_environment_without_python_is_not_asked_for_one(capsys: Capture, tmp_path: Path) -> None:
    write_mirror(tmp_path / "mirror", {"tools": lock_of(conda_row("zlib"))})
    _, (_, image) = rendered(capsys, "mirror", "--base", BASE)
    assert "python" not in image.sections["test"]
    assert "receipt.json" in image.sections["test"]


def test_a_lockfile_is_installed_over_the_network(capsys: Capture, tmp_path: Path) -> None:
    digest = write_lockfile(tmp_path / "a b-lock.yml", lock_of(conda_row("python"), name="x"))
    text, (build, image) = rendered(capsys, "a b-lock.yml", "--base", "localimage:/images/base.sif")
    assert (build.header["bootstrap"], build.header["from"]) == ("localimage", "/images/base.sif")
    assert build.files[""][0] == ("a b-lock.yml", "/envforge/conda-lock.yml")
    assert (
        "envforge image tree /envforge/conda-lock.yml -o /opt/env --prefix /opt/env --store /envforge/store "
        f"--expect-lock sha256:{digest}\n"
    ) in text
    assert "--lock " not in text
    assert image.labels["org.envforge.lock.name"] == "x"


def test_the_text_is_a_function_of_the_arguments(capsys: Capture, digest: str, tmp_path: Path) -> None:
    first, _ = rendered(capsys, "mirror", "--base", BASE)
    again, _ = rendered(capsys, "./mirror/", "--base", BASE)
    assert first == again
    assert str(tmp_path) not in first
    absolute, _ = rendered(capsys, str(tmp_path / "mirror"), "--base", BASE)
    assert f'"{tmp_path}/mirror" "/envforge/mirror"' in absolute


def test_a_file_is_written_and_the_next_commands_are_named(
    capsys: Capture, digest: str, tmp_path: Path
) -> None:
    outcome = envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "-o", "my env.def")
    assert outcome.status == 0
    assert outcome.out == f"my env.def written: lock analysis at /opt/env, from {BASE}\n"
    assert "python -m pip wheel --wheel-dir envforge-wheels " in outcome.err
    assert "apptainer build 'my env.sif' 'my env.def'" in outcome.err
    assert "APPTAINER_TMPDIR" in outcome.err
    text, _ = rendered(capsys, "mirror", "--base", BASE)
    assert (tmp_path / "my env.def").read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mirror", "my env.def"]

    wheels = tmp_path / "envforge-wheels"
    wheels.mkdir()
    (wheels / f"envforge_hpc-{package.__version__}-py3-none-any.whl").touch()
    outcome = envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "-o", "my env.def")
    assert "pip wheel" not in outcome.err
    quiet = envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "-o", "my env.def", "--quiet")
    assert quiet.err == ""


def test_the_wheels_are_looked_for_beside_the_output(capsys: Capture, digest: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "-o", "out/env.def")
    build, _ = parse((tmp_path / "out/env.def").read_text(encoding="utf-8"))
    assert build.files[""][1] == ("out/envforge-wheels", "/envforge/wheels")


def test_a_dry_run_writes_nothing(capsys: Capture, digest: str, tmp_path: Path) -> None:
    outcome = envforge(
        capsys, "render", "singularity", "mirror", "--base", BASE, "-o", "env.def", "--dry-run"
    )
    assert outcome.out.startswith("env.def would be written")
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


def test_json(capsys: Capture, digest: str) -> None:
    text, _ = rendered(capsys, "mirror", "--base", BASE)
    outcome = envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "--json")
    document = json.loads(outcome.out)
    assert document["recipe"] == text
    assert document["base"] == BASE
    assert document["lock"] == f"sha256:{digest}"
    assert document["lock_name"] == "analysis"
    assert document["output"] is None
    assert document["next"][-1] == "APPTAINER_TMPDIR=${TMPDIR:-/tmp} apptainer build env.sif env.def"
    outcome = envforge(capsys, "render", "singularity", "mirror", "--base", BASE, "--json", "-o", "x.def")
    document = json.loads(outcome.out)
    assert document["output"] == "x.def"
    assert document["next"][-1] == "APPTAINER_TMPDIR=${TMPDIR:-/tmp} apptainer build x.sif x.def"


def test_without_a_base_the_forms_are_shown(capsys: Capture, digest: str) -> None:
    assert refused(capsys, "mirror") == (
        2,
        "no base image was named",
        "at: --base",
        "do: --base docker:NAME@sha256:HEX | --base localimage:PATH | --base oci-archive:PATH",
    )


def test_a_tag_alone_is_refused_with_the_way_to_its_digest(capsys: Capture, digest: str) -> None:
    assert refused(capsys, "mirror", "--base", "docker:ghcr.io/a/python:3.12-slim") == (
        2,
        "ghcr.io/a/python:3.12-slim may be another image tomorrow: a base is named by its digest",
        "at: --base docker:ghcr.io/a/python:3.12-slim",
        (
            "do: skopeo inspect --format '{{.Digest}}' docker://ghcr.io/a/python:3.12-slim   "
            "# then --base docker:ghcr.io/a/python@sha256:…"
        ),
    )
    assert "docker://debian:latest " in refused(capsys, "mirror", "--base", "docker:debian")[3]


def test_a_tag_beside_a_digest_is_remembered_in_a_comment(capsys: Capture, digest: str) -> None:
    text, (build, _) = rendered(
        capsys, "mirror", "--base", f"docker://localhost:5000/team/python:3.12-slim@{DIGEST}"
    )
    assert build.header["from"] == f"localhost:5000/team/python@{DIGEST}"
    assert "# The digest of the base stood under the tag 3.12-slim." in text


@pytest.mark.parametrize(
    ("base", "what"),
    [
        ("debian", "'debian' is no base image"),
        ("library://debian", "'library://debian' is no base image"),
        ("localimage:", "'localimage:' is no base image"),
        ("docker:", "'' is no name of a docker image"),
        ("docker:a b", "'a b' is no name of a docker image"),
        (f"docker:user:secret@host/x@{DIGEST}", "no digest"),
        ("docker:debian@sha256:123", "'sha256:123' is no digest"),
        ("docker:debian@sha512:" + "0" * 128, "is no digest"),
        ("localimage:/data/base#1.sif", "holds '#'"),
        ("localimage:/data/base\n%setup", "a line break"),
        ("localimage:/data/{{ x }}.sif", "two braces"),
        ("localimage:/data/base.sif\\", "a backslash at its end"),
        ("oci-archive:base.tar:v1", "without a tag and without a colon"),
    ],
)
def test_a_bad_base_is_refused(capsys: Capture, digest: str, base: str, what: str) -> None:
    status, said, _, _ = refused(capsys, "mirror", "--base", base)
    assert status == 2
    assert what in said


@pytest.mark.parametrize(
    "prefix",
    [
        "", "env", "/", "/opt/", "/opt//env", "/opt/../x", "/opt/my env", "/opt/$x", "/opt/.env", "/opt/-e",
        "/opt/e\n", "/opt/é",
    ],
)  # fmt: skip
def test_a_prefix_is_absolute_and_plain(capsys: Capture, digest: str, prefix: str) -> None:
    status, what, at, do = refused(capsys, "mirror", "--base", BASE, "--prefix", prefix)
    assert (status, at, do) == (
        2,
        "at: --prefix",
        "do: --prefix /opt/env   # absolute; letters, digits and ._+@=- only",
    )
    assert what == f"{prefix!r} cannot be a prefix in an image"


@pytest.mark.parametrize("prefix", ["/tmp", "/tmp/env", "/home/me/env", "/proc/x", "/envforge/env"])
def test_a_prefix_is_not_where_something_is_mounted(capsys: Capture, digest: str, prefix: str) -> None:
    status, what, _, _ = refused(capsys, "mirror", "--base", BASE, "--prefix", prefix)
    assert status == 2
    assert what.startswith(f"/{prefix.split('/')[1]} in an image belongs to")
    rendered(capsys, "mirror", "--base", BASE, "--prefix", "/tmpfs/env")


def test_a_source_must_be_there_and_be_one(capsys: Capture, tmp_path: Path) -> None:
    assert refused(capsys, "mirror", "--base", BASE) == (
        2,
        "no such bundle, mirror, lockfile or prefix",
        "at: mirror",
        "do: name a bundle, a mirror, a conda-lock.yml or a prefix",
    )
    (tmp_path / "empty").mkdir()
    assert refused(capsys, "empty", "--base", BASE)[1] == "there is no mirror here"
    (tmp_path / "image.sif").write_bytes(b"\xff\xfe\0")
    assert refused(capsys, "image.sif", "--base", BASE)[:3] == (
        2,
        "not a text file (UTF-8)",
        "at: image.sif",
    )
    (tmp_path / "environment.yml").write_text("dependencies: [python]\n", encoding="utf-8")
    assert refused(capsys, "environment.yml", "--base", BASE)[0] == 2


def test_of_several_locks_one_is_named(capsys: Capture, tmp_path: Path) -> None:
    digests = write_mirror(
        tmp_path / "mirror", {"one": lock_of(conda_row("a")), "two": lock_of(conda_row("b"))}
    )
    assert refused(capsys, "mirror", "--base", BASE) == (
        2,
        "the mirror has 2 locks",
        f"at: {Path('mirror/locks')}",
        "do: say which: --lock one|two",
    )
    text, _ = rendered(capsys, "mirror", "--base", BASE, "--lock", "two")
    assert f"--lock two --expect-lock sha256:{digests['two']}" in text
    write_lockfile(tmp_path / "conda-lock.yml", lock_of(conda_row("a")))
    assert refused(capsys, "conda-lock.yml", "--lock", "one", "--base", BASE)[1] == (
        "--lock chooses among the locks of a mirror"
    )


def test_what_could_not_be_installed_is_not_rendered(capsys: Capture, tmp_path: Path) -> None:
    write_mirror(tmp_path / "mac", {"x": lock_of(conda_row("a", platform="osx-arm64"))})
    assert (
        refused(capsys, "mac", "--base", BASE)[1]
        == "the lockfile has no Linux platform, and images run Linux"
    )
    both = lock_of(conda_row("a"), conda_row("b", platform="linux-aarch64"))
    write_mirror(tmp_path / "half", {"x": both}, without="b-1.0-h0_0.conda")
    text, _ = rendered(capsys, "half", "--base", BASE)
    assert "linux-64:" in text
    assert "linux-aarch64" not in text
    write_mirror(tmp_path / "none", {"x": lock_of(conda_row("a"))}, without="a-1.0-h0_0.conda")
    assert refused(capsys, "none", "--base", BASE)[:2] == (3, "the mirror lacks a-1.0-h0_0.conda")


def test_a_build_has_neither_local_files_nor_secrets(capsys: Capture, tmp_path: Path) -> None:
    wheel = pip_row("w", "https://host/$TOKEN/w-1.0-py3-none-any.whl")
    for number, row in enumerate((conda_row("a", channel="file:///srv/channel"), wheel)):
        write_lockfile(tmp_path / f"{number}-lock.yml", lock_of(conda_row("python"), row))
        status, what, _, do = refused(capsys, f"{number}-lock.yml", "--base", BASE)
        assert status == 2
        assert what.startswith(f"{row.filename} cannot be downloaded inside a build")
        assert do == "do: envforge bundle LOCKFILE, then: envforge render singularity BUNDLE"


def test_an_output_that_cannot_be_written(capsys: Capture, digest: str) -> None:
    status, what, at, _ = refused(capsys, "mirror", "--base", BASE, "-o", "no/such/env.def")
    assert (status, at) == (3, f"at: {Path('no/such/env.def')}")
    assert what.startswith("cannot write: ")


def test_what_has_no_base_yet_is_said(capsys: Capture, digest: str) -> None:
    outcome = envforge(
        capsys, "render", "singularity", "mirror", "--base", "oci-archive:base.tar", "-o", "x.def"
    )
    assert "note: base.tar is not here yet; the build needs it" in outcome.err


def test_the_template_lies_in_the_package() -> None:
    assert (files("envforge") / "templates" / "singularity.def.j2").is_file()
