"""``image oci``: what is in the archive, that it is the same each time, and what is shared."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from envforge.image.archive import _header
from envforge.node.proving.scan import RECEIPT
from tests.bundle.real import SMALL, publish
from tests.image.conftest import Command
from tests.image.world import (
    DEBIAN,
    MACHINE,
    NAMED,
    OCI,
    Image,
    blob,
    make_base,
    packages,
    write_archive,
    write_base,
    write_saved,
)
from tests.node.world import HERE, conda, library, mirror

PREFIX = "opt/env"


@pytest.fixture
def image(envforge_here: Command, made: Path, tmp_path: Path) -> Image:
    """The environment on a base."""
    write_base(tmp_path / "base.tar")
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.oci.tar")
    return Image.read(tmp_path / "env.oci.tar")


def test_it_is_an_image_of_the_base_and_the_environment(image: Image) -> None:
    assert image.entry["platform"] == {"architecture": MACHINE, "os": "linux"}
    assert image.entry["annotations"]["org.opencontainers.image.ref.name"] == "made"
    files = image.files()
    assert files["usr/bin/sh"] == DEBIAN["usr/bin/sh"]
    assert files[f"{PREFIX}/lib/libone.so.1"] == "libone.so"
    assert files[f"{PREFIX}/etc/one.conf"] == b"prefix=/opt/env\n"
    assert files[f"{PREFIX}/share/naïve"] == "é".encode()
    assert b"/opt/env" in bytes(files[f"{PREFIX}/lib/libone.so"])  # type: ignore[arg-type]
    receipt = json.loads(files[f"{PREFIX}/{RECEIPT}"])
    assert receipt["prefix"] == receipt["generation"] == "/opt/env"
    listed = {f"{PREFIX}/{one['path']}" for one in receipt["files"] if one["kind"] != "directory"}
    assert listed | {f"{PREFIX}/{RECEIPT}"} == {name for name in files if name.startswith(PREFIX)}


def test_it_runs_as_activated_and_says_what_it_is(image: Image, made: Path) -> None:
    settings = image.config["config"]
    lock = json.loads((made / "locks" / "made.json").read_text())
    assert lock["packages"]
    assert image.environment["PATH"] == "/opt/env/bin:/base/bin"
    assert image.environment["CONDA_PREFIX"] == "/opt/env"
    assert image.environment["ONE_DATA"] == "said by one"
    assert image.environment["LANG"] == "C"
    assert settings["Entrypoint"] == ["/opt/env/.envforge/run"]
    assert settings["Cmd"] == ["bash"]
    labels = settings["Labels"]
    assert labels["base"] == "yes"
    assert labels["org.envforge.prefix"] == "/opt/env"
    receipt = bytes(image.files()[f"{PREFIX}/{RECEIPT}"])  # type: ignore[arg-type]
    assert labels["org.envforge.receipt"] == f"sha256:{hashlib.sha256(receipt).hexdigest()}"
    assert labels["org.envforge.lock"].startswith("sha256:")
    assert image.manifest["annotations"]["org.envforge.lock"] == labels["org.envforge.lock"]
    steps = [step for step in image.config["history"] if not step.get("empty_layer")]
    assert len(steps) == len(image.config["rootfs"]["diff_ids"])


def test_docker_finds_the_same_blobs(image: Image) -> None:
    (listed,) = json.loads(image.members["manifest.json"])
    assert image.members[listed["Config"]] == image.blob(image.manifest["config"])
    assert [image.members[name] for name in listed["Layers"]] == [
        image.blob(layer) for layer in image.manifest["layers"]
    ]
    assert listed["RepoTags"] == ["localhost/made:latest"]
    assert "index.json" in image.members
    assert not [name for name in image.members if name.startswith("./")]


def test_nobody_needs_to_be_somebody_to_read_it(image: Image) -> None:
    """All of the environment is root's, without a time, and open to everybody; the base is as it was."""
    own = [member for members in image.layers()[1:] for member in members]
    assert own
    for member in own:
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 315532800
        if not member.issym():
            assert member.mode & 0o444 == 0o444
            assert not member.mode & 0o7022
        if member.isdir():
            assert member.mode == 0o755
    assert not [member.name for member in own if "/.wh." in f"/{member.name}"]


def test_what_the_base_has_is_left_alone(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar", DEBIAN, {"opt": None, "opt/other": b"1"})
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.oci.tar")
    names = {m.name for members in Image.read(tmp_path / "env.oci.tar").layers()[2:] for m in members}
    assert "opt" not in names
    assert "opt/env" in names


def test_the_bytes_are_those_of_the_lock_and_the_base_alone(
    envforge_here: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another store, another place, another umask, files copied instead of linked, another order of work."""
    write_base(tmp_path / "base.tar")
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "one.tar", "-j", 1)
    (tmp_path / "elsewhere").mkdir()
    mirror(tmp_path / "elsewhere" / "mirror", *packages(), custom=NAMED)
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "not permitted")))
    before = os.umask(0o077)
    try:
        words = ("elsewhere/mirror", "--base", "oci-archive:base.tar", "-o", "elsewhere/two.tar")
        envforge_here("image", "oci", *words, "--store", "elsewhere/store", "-j", 4)
    finally:
        os.umask(before)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "elsewhere" / "two.tar").read_bytes()
    assert (tmp_path / "elsewhere" / "two.tar").stat().st_mode & 0o777 == 0o644


def test_one_changed_package_changes_two_layers(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    """The layer that it is in, and the last, which has the receipt."""
    mirror(tmp_path / "changed", *packages("2"), custom=NAMED)
    envforge_here("image", "oci", made, "-o", "old.tar")
    told = envforge_here("image", "oci", "changed", "-o", "new.tar", "--json").json
    old = {layer["digest"] for layer in Image.read(tmp_path / "old.tar").manifest["layers"]}
    new = [layer["digest"] for layer in Image.read(tmp_path / "new.tar").manifest["layers"]]
    assert [digest for digest in new if digest not in old] == [
        layer["digest"] for layer in told["layers"] if layer["digest"] not in old
    ]
    assert len(set(new) - old) == 2
    assert len(new) > 6


def test_a_large_package_has_a_layer_of_its_own(envforge_here: Command, tmp_path: Path) -> None:
    big = conda(library("big", {"lib/big": os.urandom(17 << 20)}), ".tar.bz2")
    mirror(tmp_path / "mirror", big, *packages())
    told = envforge_here("image", "oci", "mirror", "-o", "env.tar", "--json").json
    names = [layer["name"] for layer in told["layers"]]
    assert names[0] == "conda:big"
    assert names[-1] == "the environment"
    first = Image.read(tmp_path / "env.tar").layers()[0]
    assert {member.name for member in first if member.isfile()} == {
        f"{PREFIX}/lib/big",
        f"{PREFIX}/conda-meta/big-1.0-0.json",
    }


def test_alone_nothing_is_there_to_start_it_with(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    done = envforge_here("image", "oci", made, "-o", "env.tar", "--prefix", "/sw/made")
    assert "nothing runs in it" in done.err
    image = Image.read(tmp_path / "env.tar")
    assert "Entrypoint" not in image.config["config"]
    names = [member.name for member in image.layers()[0]]
    assert names[:2] == ["sw", "sw/made"]


def test_the_time_can_be_said(
    envforge_here: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is when the image was made, and no part of the layers."""
    envforge_here("image", "oci", made, "-o", "one.tar")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    envforge_here("image", "oci", made, "-o", "two.tar")
    one, two = Image.read(tmp_path / "one.tar"), Image.read(tmp_path / "two.tar")
    assert one.config["created"] == "1980-01-01T00:00:00Z"
    assert two.config["created"] == "2023-11-14T22:13:20Z"
    assert one.manifest["layers"] == two.manifest["layers"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    envforge_here("image", "oci", made, "-o", "three.tar", status=2).assert_error(2, "SOURCE_DATE_EPOCH")


def test_a_blob_may_be_larger_than_a_tar_can_say_in_octal() -> None:
    for size in (0, (1 << 33) - 1, 1 << 33, 1 << 40):
        member = tarfile.TarInfo.frombuf(_header("blobs/sha256/x", size), "utf-8", "strict")
        assert (member.name, member.size, member.mode) == ("blobs/sha256/x", size, 0o644)


def test_a_dry_run_writes_nothing(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar")
    before = sorted(os.listdir(tmp_path))
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", "--dry-run", "--json")
    assert done.json["packages"] == 22
    assert done.json["output"] is None
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", ["layout", "docker", "plain", "nested", "silent"])
def test_a_base_may_come_in_many_forms(envforge_here: Command, made: Path, tmp_path: Path, name: str) -> None:
    base = make_base(docker=name == "docker", packed=name != "plain")
    path = tmp_path / "base"
    if name == "nested":
        other = make_base(({"other": b"1"},), architecture="s390x")
        platforms = ({"architecture": "s390x", "os": "linux"}, {"architecture": MACHINE, "os": "linux"})
        entries = [
            other.entry | {"platform": platforms[0]},
            base.entry | {"platform": platforms[1]},
            base.entry | {"platform": {"architecture": "unknown", "os": "unknown"}},
        ]
        inner = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        entry = blob(f"{OCI}index.v1+json", inner)
        write_archive(path, base.blobs | other.blobs | {entry["digest"]: inner}, [entry])
    else:
        write_archive(path, base.blobs, [base.entry])
    if name == "layout":
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "layout", filter="data")
        path = tmp_path / "layout"
    envforge_here("image", "oci", made, "--base", path, "-o", "env.oci.tar")
    image = Image.read(tmp_path / "env.oci.tar")
    assert image.files()["usr/bin/sh"] == DEBIAN["usr/bin/sh"]
    assert image.config["architecture"] == MACHINE


def test_what_docker_saved_is_a_base_and_is_verified(
    envforge_here: Command, made: Path, tmp_path: Path
) -> None:
    write_saved(tmp_path / "base.tar")
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "one.oci.tar")
    envforge_here("image", "oci", made, "--base", "docker-archive:base.tar", "-o", "two.oci.tar")
    assert (tmp_path / "one.oci.tar").read_bytes() == (tmp_path / "two.oci.tar").read_bytes()
    image = Image.read(tmp_path / "one.oci.tar")
    assert image.files()["usr/bin/sh"] == DEBIAN["usr/bin/sh"]
    with tarfile.open(tmp_path / "saved.tar", "w") as tar:  # the same without what makes it OCI's
        for name, content in image.members.items():
            if name not in ("index.json", "oci-layout"):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    assert envforge_here("verify", "saved.tar", "--json").json["kind"] == "docker-archive"


@pytest.mark.parametrize("name", ["compression.zstd", "backports.zstd"])
def test_layers_in_zstd_are_read_where_python_can(
    envforge_here: Command, made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base(zstd=pytest.importorskip(name))
    write_archive(tmp_path / "base.tar", base.blobs, [base.entry])
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.oci.tar")
    envforge_here("verify", "env.oci.tar")
    monkeypatch.setattr("envforge.edges.oci._zstd", lambda: None)
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.oci.tar", status=3)
    done.assert_error(3, "which this Python cannot read", "pip install backports.zstd")


def test_a_prefix_is_a_source_where_its_store_has_everything(
    envforge_here: Command, made: Path, tmp_path: Path
) -> None:
    lockfile = publish(tmp_path / "site", *packages(), name="made")
    envforge_here(*SMALL, "made.sh", lockfile)
    envforge_here("install", "made.sh", "--prefix", "p/env")
    envforge_here("image", "oci", "p/env", "-o", "of-prefix.tar", "--store", "other")
    envforge_here("image", "oci", "made.sh", "-o", "of-bundle.tar")
    assert (tmp_path / "of-prefix.tar").read_bytes() == (tmp_path / "of-bundle.tar").read_bytes()
    envforge_here("install", made, "--prefix", "p/mirrored")
    done = envforge_here("image", "oci", "p/mirrored", "-o", "x.tar", "--store", "empty", status=2)
    done.assert_error(2, "are not in its store", "name the bundle, mirror or lockfile")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--prefix", "/home/me/env"), 2, "/home in an image belongs to the machine"),
        (("--prefix", "relative"), 2, "cannot be a prefix in an image"),
        (("-p", "linux-s390x"), 2, "linux-s390x"),
        (("--base", "docker:debian:12"), 2, "may be another image tomorrow"),
        (("--base", "nothing.tar"), 2, "is no base image"),
        (("--group", "dev"), 2, "dev"),
        (("-o", "missing/env.tar"), 2, "no such directory"),
        (("-o", "mirror-like"), 2, "it is no image"),
    ],
)
def test_what_cannot_be_is_said_first(
    envforge_here: Command, made: Path, tmp_path: Path, words: tuple[str, ...], status: int, said: str
) -> None:
    (tmp_path / "mirror-like").write_text("a text")
    done = envforge_here("image", "oci", made, "-o", "env.tar", *words, status=status)
    done.assert_error(status, said)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["mirror-like"]


def test_the_platform_is_the_locks_own(envforge_here: Command, made: Path) -> None:
    done = envforge_here("image", "oci", made, "-o", "env.tar", "--json")
    assert done.json["platform"] == HERE
