"""``sh BUNDLE --squashfs FILE``: one file instead of tens of thousands, made where there is no envforge."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.bundle.conftest import Carried
from tests.bundle.conftest import carried as carried
from tests.bundle.conftest import runtime_lock as runtime_lock
from tests.bundle.world import Node
from tests.runtime.conftest import site as site

MKSQUASHFS, UNSQUASHFS = shutil.which("mksquashfs"), shutil.which("unsquashfs")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node with squashfs-tools beside the tools that every node has."""
    if MKSQUASHFS is None or UNSQUASHFS is None:
        pytest.skip("no squashfs-tools")
    (tmp_path / "node").mkdir()
    node = Node(tmp_path / "node", ("sh",))
    programs = node.provide()
    (programs / "mksquashfs").symlink_to(MKSQUASHFS)
    (programs / "unsquashfs").symlink_to(UNSQUASHFS)
    return node


def test_a_bundle_makes_one_file_and_leaves_nothing_else(carried: Carried, node: Node) -> None:
    """Without the runtime, which makes it larger than a test has time for."""
    bundle = node.place.parent / "greet.sh"
    os.link(carried.bundle, bundle)
    done = node(bundle, "--prefix", "/sw/greet", "--squashfs=env.sqsh", "--no-runtime")
    assert done.status == 0, done.err
    assert "-B env.sqsh:/sw/greet:image-src=/" in done.err
    assert sorted(os.listdir(node.place)) == ["bin", "env.sqsh"]
    assert sorted(os.listdir(bundle.parent)) == ["greet.sh", "node"]

    verified = carried.laptop("verify", node.place / "env.sqsh", "--against", carried.bundle, "--json").json
    assert verified["equal"]
    assert verified["prefix"] == "/sw/greet"


def test_a_node_without_mksquashfs_says_so(carried: Carried, tmp_path: Path) -> None:
    if any(Path(place, "mksquashfs").exists() for place in ("/usr/sbin", "/sbin", "/usr/local/sbin")):
        pytest.skip("this machine has mksquashfs in sbin")
    (tmp_path / "node").mkdir()
    node = Node(tmp_path / "node", ("sh",))
    done = node(carried.bundle, "--squashfs", "env.sqsh")
    done.assert_error(3, "there is no mksquashfs here", "squashfs-tools")
    assert os.listdir(node.place) == ["bin"]
