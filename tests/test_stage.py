"""``stage``: on the disk of the node that it is used on, once, and only the path on stdout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from envforge.edges.scratch import owner_mark
from tests.bundle.real import SMALL, publish
from tests.conftest import Shell
from tests.node.world import conda, library, run_all

SIF = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + bytes(600)


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of one name, and a delta from one to the other."""
    root = tmp_path_factory.mktemp("carried")
    shell = Shell(root, root)
    stays = conda(library("stays", {"share/stays": bytes(100_000)}))
    locks = [
        publish(root / text, stays, conda(library("a", {"share/a": text.encode()}, version=text)))
        for text in ("1.0", "2.0")
    ]
    calls = [(*SMALL, "one.sh", locks[0]), (*SMALL, "two.sh", locks[1])]
    done = run_all(shell, [*calls, (*SMALL, "delta.sh", locks[1], "--since", "one.sh")])
    assert [one.status for one in done] == [0] * 3
    return root


def test_the_path_alone_and_nothing_twice(envforge: Shell, carried: Path) -> None:
    first, again, told, dry, other, verified = run_all(
        envforge,
        [
            ("stage", carried / "one.sh", "--to", "local disk/deep"),
            ("stage", carried / "one.sh", "--to", "local disk/deep"),
            ("stage", carried / "one.sh", "--to", "local disk/deep", "--json"),
            ("stage", carried / "two.sh", "--to", "local disk/deep", "--dry-run"),
            ("stage", carried / "two.sh", "--to", "local disk/deep", "--json"),
            ("verify", "local disk/deep", "--json"),
        ],
    )
    assert (first.status, first.err) == (0, "")
    (path,) = first.out.splitlines()
    assert Path(path).parent == envforge.cwd / "local disk/deep"
    assert (Path(path) / "share/a").read_text() == "1.0"
    assert again.out == first.out
    assert told.json == {"path": path, "changed": False, "nodes": 1, "dry_run": False}
    # Another bundle of that name has a place of its own, and nothing is kept that is not used.
    assert dry.out.strip() == other.json["path"] != path
    assert (Path(path) / "share/a").read_text() == "1.0"
    assert (Path(other.json["path"]) / "share/a").read_text() == "2.0"
    for place in (path, other.json["path"]):
        assert not list(Path(f"{place}.generations").glob("[!0-9a-f]*"))
    assert verified.status != 0
    envforge("verify", path, "--against", carried / "one.sh", "--store", "proof")


def test_many_tasks_of_a_node(envforge: Shell, carried: Path) -> None:
    argv = [sys.executable, "-m", "envforge", "stage", str(carried / "one.sh"), "--to", "here", "--json"]
    variables = envforge.environment()
    tasks = [
        subprocess.Popen(argv, cwd=envforge.cwd, env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    said = [task.communicate()[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0] * 6
    assert sum('"changed": true' in one for one in said) == 1
    assert len({path.name for path in (envforge.cwd / "here").iterdir()}) == 2  # the link, the generations


def test_who_waits_long_enough_is_told_to_try_again(envforge: Shell, carried: Path) -> None:
    place = Path(envforge("stage", carried / "one.sh", "--to", "here", "--dry-run").out.strip())
    place.parent.mkdir()
    turn = place.with_name(f".{place.name}.turn")
    turn.symlink_to(f"{owner_mark()}-00000000")
    busy = envforge("stage", carried / "one.sh", "--to", "here", "--wait", "0.1", status=75)
    busy.assert_error(75, "somebody else", str(turn))
    turn.unlink()
    turn.symlink_to(f"{owner_mark().rpartition('-')[0]}-1-00000000")  # of a process that is gone
    envforge("stage", carried / "one.sh", "--to", "here", "--wait", "0.1")


def test_a_delta_is_completed_from_the_stores_that_are_named(envforge: Shell, carried: Path) -> None:
    envforge("install", carried / "one.sh", "--prefix", "p")
    words = ("stage", carried / "delta.sh", "--to", "here")
    envforge(*words, status=3).assert_error(3, "neither in the bundle nor in the store: stays-1.0-0.conda")
    assert not list((envforge.cwd / "here").glob("made*"))
    done = envforge(*words, "--store", "p.generations/store")
    assert (Path(done.out.strip()) / "share/a").read_text() == "2.0"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to somebody else")
def test_what_somebody_else_has_put_there_is_not_used(envforge: Shell, carried: Path) -> None:
    path = Path(envforge("stage", carried / "one.sh", "--to", "here").out.strip())
    os.chown(path, 12345, 12345, follow_symlinks=False)
    refused = envforge("stage", carried / "one.sh", "--to", "here", status=2)
    refused.assert_error(2, "somebody else made what is there", "--to DIR")
    assert refused.out == ""


@pytest.fixture
def images(envforge: Shell) -> dict[str, Path]:
    """Something of each kind, as far as its beginning goes."""
    (envforge.cwd / "oci-layout").write_text("{}")
    with tarfile.open(envforge.cwd / "an image.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(envforge.cwd / "oci-layout", "oci-layout")
    contents = {"env.sqsh": b"hsqs" + os.urandom(3_000_000), "env.sif": SIF}
    for name, content in contents.items():
        (envforge.cwd / name).write_bytes(content)
    return {name: envforge.cwd / name for name in (*contents, "an image.tar")}


def test_an_image_is_copied_and_its_hash_is_kept(envforge: Shell, images: dict[str, Path]) -> None:
    done = run_all(
        envforge, [("stage", name, "--to", "local", "--json") for name in images for _ in range(2)]
    )
    assert [one.status for one in done] == [0] * 6, [one.err for one in done]
    assert [one.json["changed"] for one in done] == [True, False] * 3
    for name, image in images.items():
        copy = envforge.cwd / "local" / name
        assert copy.read_bytes() == image.read_bytes()
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        assert (envforge.cwd / f"local/{name}.sha256").read_text() == f"{digest}  {name}\n"
    # Another image of the same name and size takes its place.
    images["env.sqsh"].write_bytes(b"hsqs" + os.urandom(3_000_000))
    envforge("stage", "env.sqsh", "--to", "local")
    assert (envforge.cwd / "local/env.sqsh").read_bytes() == images["env.sqsh"].read_bytes()


def test_an_image_that_is_not_what_is_said_of_it(envforge: Shell, images: dict[str, Path]) -> None:
    note = envforge.cwd / "env.sqsh.sha256"
    note.write_text(f"{'0' * 64}  env.sqsh\n")
    words = ("stage", "env.sqsh", "--to", "local")
    envforge(*words, status=2).assert_error(2, "env.sqsh.sha256 says 0000000000000000")
    assert not list((envforge.cwd / "local").iterdir())
    note.write_text(f"{'0' * 64}  other.sqsh\n")
    envforge(*words, status=2).assert_error(2, "not of the file beside it")
    (envforge.cwd / "letter").write_text("Dear Ada")
    envforge("stage", "letter", "--to", "local", status=2).assert_error(2, "neither a bundle nor an image")
    envforge("stage", "nothing", "--to", "local", status=2).assert_error(2, "No such file")
    shutil.rmtree(envforge.cwd / "local")
    envforge("stage", "env.sif", "--to", "letter/below", status=3).assert_error(3, "letter")
