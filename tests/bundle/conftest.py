"""Bundles that are made once: of the demonstration, with a runtime, and the environment that one made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.formats import conda_lock
from tests.bundle.world import Node
from tests.conftest import Journey, Shell
from tests.runtime.conftest import Site
from tests.runtime.conftest import site as site  # the fixture


@pytest.fixture(scope="session")
def runtime_lock(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lockfile of a runtime that can be made without network."""
    path = tmp_path_factory.mktemp("runtime") / "runtime.yml"
    path.write_text(conda_lock.write(site.lock))
    return path


@dataclass(frozen=True)
class Carried:
    """A bundle of the demonstration with its runtime, and the node to which it was carried.

    Nothing is changed; what is installed there is the environment at ``prefix``, and what the bundle said
    meanwhile is written down in ``told``.
    """

    laptop: Shell
    node: Node
    bundle: Path
    prefix: Path
    told: Path


@pytest.fixture(scope="session")
def carried(journey: Journey, runtime_lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """The bundle, and the environment that ``sh BUNDLE --prefix P`` made of it."""
    # Each worker has its own: the mirror is another one, under another path.
    root = tmp_path_factory.mktemp("carried")
    carried = Carried(
        laptop=Shell(root / "home", root / "laptop"),
        node=Node(root / "node", ("sh",)),
        bundle=root / "laptop" / "greet.sh",
        prefix=root / "node" / "env",
        told=root / "told",
    )
    _make(carried, journey, runtime_lock)
    return carried


def _make(carried: Carried, journey: Journey, runtime_lock: Path) -> None:
    for place in (carried.laptop.home, carried.laptop.cwd, carried.node.place):
        place.mkdir()
    carried.laptop("bundle", journey.mirror, "--runtime-lock", runtime_lock, "-o", carried.bundle)
    done = carried.node(carried.bundle, "--prefix", "env")
    assert done.status == 0, done.err
    carried.told.write_text(done.err)
