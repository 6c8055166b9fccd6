"""``verify IMAGE``: every kind of image, and every kind of tampering; SquashFS in two forms."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from envforge.edges.images import image_kind
from envforge.model.image import KINDS
from envforge.node.proving.images import image_facts
from envforge.node.proving.scan import RECEIPT
from tests.image.conftest import Command
from tests.image.world import DEBIAN, OCI, Image, Tree, blob, digest_of, layer, write_archive, write_base

needs_squashfs = pytest.mark.skipif(
    shutil.which("mksquashfs") is None or shutil.which("unsquashfs") is None, reason="no squashfs-tools"
)


@pytest.fixture
def image(envforge_here: Command, made: Path, tmp_path: Path) -> Image:
    write_base(tmp_path / "base.tar")
    envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.oci.tar")
    return Image.read(tmp_path / "env.oci.tar")


def with_layer(image: Image, path: Path, content: bytes, labels: Mapping[str, str] | None = None) -> None:
    """Write the image with one more layer, as somebody would who builds on it."""
    config, manifest = image.config, image.manifest
    config["rootfs"]["diff_ids"].append(digest_of(content))
    config["config"]["Labels"] |= labels or {}
    text = json.dumps(config).encode()
    manifest["layers"].append(blob(f"{OCI}layer.v1.tar", content))
    manifest["config"] = blob(f"{OCI}config.v1+json", text)
    written = json.dumps(manifest).encode()
    blobs = {
        f"sha256:{name.rpartition('/')[2]}": one for name, one in image.members.items() if "blobs/" in name
    }
    blobs |= {digest_of(one): one for one in (content, text, written)}
    write_archive(path, blobs, [blob(f"{OCI}manifest.v1+json", written)])


def test_an_image_is_its_receipt_and_its_lock(
    envforge_here: Command, image: Image, made: Path, tmp_path: Path
) -> None:
    told = envforge_here("verify", "env.oci.tar", "--json").json
    assert told["equal"]
    assert told["kind"] == "oci-archive"
    assert told["prefix"] == "/opt/env"
    assert envforge_here("verify", "env.oci.tar", "--against", made, "--json").json["against"]
    envforge_here("verify", "env.oci.tar", "--expect", told["receipt"])
    envforge_here("verify", "env.oci.tar", "--expect", "sha256:" + "0" * 64, status=1)
    with tarfile.open(image.path) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    assert envforge_here("verify", "layout", "--json").json["kind"] == "oci"
    left = {"base.tar", "cache", "env.oci.tar", "layout"}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize(
    ("tree", "kind", "path"),
    [
        ({"opt/env/share/last": b"other"}, "changed", "share/last"),
        ({"opt/env/share/more": b"1"}, "added", "share/more"),
        ({"opt/env/share/.wh.last": b""}, "missing", "share/last"),
        ({"opt/env/share/last": "p1"}, "changed", "share/last"),
        ({"opt/env/bin/one": b"#!/bin/sh\necho two\n"}, "changed", "bin/one"),
        ({"opt/env/lib/.wh..wh..opq": b"", "opt/env/lib/x": b""}, "missing", "lib/libone.so"),
        ({"opt/env/share": b"a file"}, "missing", "share/last"),
    ],
)
def test_whatever_was_laid_over_it_is_seen(
    envforge_here: Command, image: Image, tmp_path: Path, tree: Tree, kind: str, path: str
) -> None:
    with_layer(image, tmp_path / "other.tar", layer(tree))
    told = envforge_here("verify", "other.tar", "--json", status=1).json
    found = {difference["path"]: difference["kind"] for difference in told["differences"]}
    assert found[path] == kind


def test_a_layer_beside_it_is_none_of_its_business(
    envforge_here: Command, image: Image, tmp_path: Path
) -> None:
    with_layer(image, tmp_path / "other.tar", layer({"srv/data": b"1", "opt/.wh.other": b""}))
    envforge_here("verify", "other.tar")


def test_labels_are_held_against_the_receipt(envforge_here: Command, image: Image, tmp_path: Path) -> None:
    with_layer(image, tmp_path / "o.tar", layer({}), {"org.envforge.lock": f"sha256:{'1' * 64}"})
    told = envforge_here("verify", "o.tar", "--json", status=1).json
    assert [difference["path"] for difference in told["differences"]] == ["(label lock)"]
    # A recipe is printed before there is a receipt, and may be for several platforms.
    unsaid = {"org.envforge.receipt": "", "org.envforge.platform": ""}
    with_layer(image, tmp_path / "o.tar", layer({}), unsaid)
    envforge_here("verify", "o.tar")
    with_layer(image, tmp_path / "o.tar", layer({}), {"org.envforge.prefix": "/srv/none"})
    envforge_here("verify", "o.tar", status=2).assert_error(2, "there is no receipt at /srv/none")
    with_layer(image, tmp_path / "o.tar", layer({}), {"org.envforge.receipt": "x"})
    envforge_here("verify", "o.tar", status=2).assert_error(2, "is no digest")


def test_a_receipt_that_was_exchanged_is_told_from_the_lock(
    envforge_here: Command, image: Image, made: Path, tmp_path: Path
) -> None:
    """Files and receipt altered together, and the label: only the lock knows."""
    files = image.files()
    receipt = json.loads(files[f"opt/env/{RECEIPT}"])
    entry = next(one for one in receipt["files"] if one["path"] == "share/last")
    entry["sha256"], entry["size"] = digest_of(b"other").removeprefix("sha256:"), 5
    text = json.dumps(receipt).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in {RECEIPT: text, "share/last": b"other"}.items():
            info = tarfile.TarInfo(f"opt/env/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    with_layer(image, tmp_path / "o.tar", out.getvalue(), {"org.envforge.receipt": digest_of(text)})
    envforge_here("verify", "o.tar")
    told = envforge_here("verify", "o.tar", "--against", made, "--json", status=1).json
    assert [difference["path"] for difference in told["differences"]] == ["share/last"]


def test_an_image_that_is_not_ours_is_said_to_be_none(
    envforge_here: Command, made: Path, tmp_path: Path
) -> None:
    write_base(tmp_path / "base.tar")
    done = envforge_here("verify", "base.tar", status=2)
    done.assert_error(2, "no environment of envforge's is in the image")
    done = envforge_here("verify", "base.tar", "--repair", made, status=2)
    done.assert_error(2, "an image is not repaired")


def test_every_bit_of_an_image_counts(envforge_here: Command, image: Image, tmp_path: Path) -> None:
    """Of an archive, what does not end in an error or a difference is of no consequence."""
    content = image.path.read_bytes()
    for at in range(40, len(content), len(content) // 60):
        altered = bytearray(content)
        altered[at] ^= 0x10
        (tmp_path / "o.tar").write_bytes(altered)
        done = envforge_here("verify", "o.tar", status=None)
        assert done.status in (0, 1, 2), done.err
        if done.status == 0:  # padding of a tar, or what only docker reads
            assert Image.read(tmp_path / "o.tar").manifest == image.manifest


# -- SquashFS and SIF ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def squashed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``env.sqsh`` and ``root.sqsh``; do not write into it."""
    from tests.conftest import Shell
    from tests.node.world import run_all

    place = tmp_path_factory.mktemp("squashed")
    write_base(place / "base.tar", DEBIAN, {"etc/removed": b"1", "dev/null": b""}, {"etc/.wh.removed": b""})
    words = ("image", "squashfs", made, "-o")
    calls = ((*words, "env.sqsh"), (*words, "root.sqsh", "--base", "base.tar", "--prefix", "/sw/made"))
    for done in run_all(Shell(place, place), calls, umask=0o077):
        assert done.status == 0, done.err
    return place


def unpacked(path: Path, where: Path) -> Path:
    argv = ["unsquashfs", "-d", str(where), str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    return where


@needs_squashfs
def test_a_squashfs_is_the_content_of_the_prefix(
    envforge_here: Command, squashed: Path, made: Path, tmp_path: Path
) -> None:
    root = unpacked(squashed / "env.sqsh", tmp_path / "x")
    assert (root / "etc/one.conf").read_text() == "prefix=/opt/env\n"
    assert (root / "lib/libone.so.1").readlink() == Path("libone.so")
    for base, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = (Path(base) / name).lstat()
            assert status.st_mtime == 315532800
            assert status.st_mode & 0o444 == 0o444
    told = envforge_here("verify", squashed / "env.sqsh", "--against", made, "--json").json
    assert told["equal"]
    assert told["kind"] == "squashfs"
    facts = image_facts(squashed / "env.sqsh")
    assert (facts.kind, facts.prefix) == ("environment", "/opt/env")


@needs_squashfs
def test_a_root_has_the_base_and_what_runtimes_mount_over(
    envforge_here: Command, squashed: Path, tmp_path: Path
) -> None:
    root = unpacked(squashed / "root.sqsh", tmp_path / "x")
    assert (root / "usr/bin/sh").read_bytes() == DEBIAN["usr/bin/sh"]
    assert (root / "bin").readlink() == Path("usr/bin")
    assert not (root / "etc/removed").exists()
    for name in ("dev", "proc", "sys", "tmp", "etc/hosts", "etc/resolv.conf", "etc/passwd"):
        assert (root / name).exists(), name
    lines = (root / "ch/environment").read_text().splitlines()
    assert "CONDA_PREFIX=/sw/made" in lines
    assert "PATH=/sw/made/bin:/base/bin" in lines
    assert (root / "sw/made/etc/one.conf").read_text() == "prefix=/sw/made\n"
    assert image_facts(squashed / "root.sqsh").kind == "root"
    told = envforge_here("verify", squashed / "root.sqsh", "--json").json
    assert told["equal"]
    assert told["prefix"] == "/sw/made"


@needs_squashfs
def test_a_squashfs_has_the_same_bytes_each_time(
    envforge_here: Command, squashed: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "not permitted")))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    envforge_here("image", "squashfs", made, "-o", "again.sqsh", "--store", "other", "-j", 1)
    assert (tmp_path / "again.sqsh").read_bytes() == (squashed / "env.sqsh").read_bytes()
    words = ("--base", squashed / "base.tar", "--prefix", "/sw/made")
    envforge_here("image", "squashfs", made, "-o", "again.sqsh", *words, "-j", 3)
    assert (tmp_path / "again.sqsh").read_bytes() == (squashed / "root.sqsh").read_bytes()


@needs_squashfs
def test_what_was_altered_in_a_squashfs_is_seen(
    envforge_here: Command, squashed: Path, tmp_path: Path
) -> None:
    root = unpacked(squashed / "env.sqsh", tmp_path / "x")
    (root / "share/last").write_text("other")
    shutil.copyfile(squashed / "env.sqsh", tmp_path / "o.sqsh")
    trailer = (squashed / "env.sqsh").read_bytes()[-4096:]
    subprocess.run(["mksquashfs", root, tmp_path / "o.sqsh", "-noappend"], check=True, capture_output=True)
    envforge_here("verify", "o.sqsh", status=2).assert_error(2, "no environment of envforge's")
    with (tmp_path / "o.sqsh").open("ab") as file:
        file.write(trailer)
    told = envforge_here("verify", "o.sqsh", "--json", status=1).json
    assert [difference["path"] for difference in told["differences"]] == ["share/last"]


@needs_squashfs
@pytest.mark.parametrize("link", ["sw", "sw/made"])
def test_a_link_in_an_image_leads_to_no_file_of_this_machine(
    envforge_here: Command, squashed: Path, tmp_path: Path, link: str
) -> None:
    """What is proven is what the image holds, and not what happens to be at that path here."""
    root = unpacked(squashed / "root.sqsh", tmp_path / "x")
    (root / link).rename(tmp_path / "outside")
    (root / link).symlink_to(tmp_path / "outside")
    subprocess.run(["mksquashfs", root, tmp_path / "o.sqsh", "-noappend"], check=True, capture_output=True)
    with (tmp_path / "o.sqsh").open("ab") as file:
        file.write((squashed / "root.sqsh").read_bytes()[-4096:])
    done = envforge_here("verify", "o.sqsh", status=None)
    assert done.status in (2, 3), done.out


def write_sif(path: Path, squashfs: bytes, labels: Mapping[str, str]) -> Path:
    """A SIF as Apptainer writes it: two data objects, the root and the labels."""
    document = json.dumps({"data": {"attributes": {"labels": dict(labels)}}, "type": "container"}).encode()
    objects = [(0x4006, document, b""), (0x4004, squashfs, struct.pack("<ii", 1, 2))]
    table, data, at = b"", b"", 4096 + 585 * 2
    for number, (kind, content, extra) in enumerate(objects):
        row = (kind, 1, number + 1, 0, 0, at, len(content), len(content), 0, 0, 0, 0, b"", extra)
        table += struct.pack("<i?IIIqqqqqqq128s384s", *row)
        data += content
        at += len(content)
    head = struct.pack(
        "<32s10s3s3s16sqqqqqqqq",
        b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC", b"01", b"02", b"", 0, 0, 0, 2, 4096, len(table),
        4096 + len(table), len(data),
    )  # fmt: skip
    path.write_bytes(head.ljust(4096, b"\0") + table + data)
    return path


@needs_squashfs
def test_a_sif_is_read_where_its_root_is(
    envforge_here: Command, squashed: Path, made: Path, tmp_path: Path
) -> None:
    labels = image_facts(squashed / "root.sqsh").labels()
    sif = write_sif(tmp_path / "env.sif", (squashed / "root.sqsh").read_bytes(), labels)
    told = envforge_here("verify", sif, "--against", made, "--json").json
    assert told["equal"]
    assert told["kind"] == "sif"
    write_sif(sif, (squashed / "root.sqsh").read_bytes(), {})
    envforge_here("verify", sif, status=2).assert_error(2, "no environment of envforge's")
    content = sif.read_bytes()
    for cut in (100, 4200, 6000, len(content) - 20000):
        sif.write_bytes(content[:cut])
        assert envforge_here("verify", sif, status=None).status in (2, 3)


@needs_squashfs
def test_the_kind_of_an_image_is_told_by_its_content(
    envforge_here: Command, squashed: Path, image: Image, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a text")
    (tmp_path / "folder").mkdir()
    with tarfile.open(tmp_path / "saved", "w") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
    found = {
        image_kind(path)
        for path in (
            tmp_path / "env.oci.tar",
            tmp_path / "saved",
            squashed / "env.sqsh",
            write_sif(tmp_path / "env.sif", b"", {}),
        )
    }
    assert found | {"oci"} == set(KINDS)
    for name in ("text", "folder", "nothing"):
        assert image_kind(tmp_path / name) is None
