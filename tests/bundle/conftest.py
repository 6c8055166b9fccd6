"""Bundles that are made once: of the demonstration, with a runtime, and the environment that one made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.formats import conda_lock
from tests.bundle.world import Node
from tests.conftest import Journey, Shell, once
from tests.runtime.conftest import Site
from tests.runtime.conftest import site as site  # the fixture


@pytest.fixture(scope="session")
def runtime_lock(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lockfile of a runtime that can be made without network."""

    def make(directory: Path) -> Path:
        (directory / "runtime.yml").write_text(conda_lock.write(site.lock))
        return directory / "runtime.yml"

    return once(tmp_path_factory, "runtime-lock", make)


@dataclass(frozen=True)
class Carried:
    """A bundle of the demonstration with its runtime, and the node to which it was carried.

    Nothing is changed, but whoever proves something has a scratch directory there for a while. What is
    installed is the environment at ``prefix``; ``told`` is what the bundle said meanwhile, and ``left`` the
    names that were at both places, and beside the generation, when it had ended.
    """

    laptop: Shell
    node: Node
    bundle: Path
    prefix: Path
    told: str
    left: list[str]


@pytest.fixture(scope="session")
def carried(journey: Journey, runtime_lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Carried:
    """The bundle, and the environment that ``sh BUNDLE --prefix P`` made of it."""

    def make(root: Path) -> Carried:
        laptop, node = Shell(root / "home", root / "laptop"), Node(root / "node", ("sh",))
        for place in (laptop.home, laptop.cwd, node.place):
            place.mkdir()
        bundle = laptop.cwd / "greet.sh"
        laptop("bundle", journey.mirror, "--runtime-lock", runtime_lock, "-o", bundle)
        done = node(bundle, "--prefix", "env")
        assert done.status == 0, done.err
        prefix = node.place / "env"
        left = [
            path.name
            for place in (laptop.cwd, node.place, prefix.resolve().parent)
            for path in place.iterdir()
        ]
        return Carried(
            laptop=laptop, node=node, bundle=bundle, prefix=prefix, told=done.err, left=sorted(left)
        )

    return once(tmp_path_factory, "carried", make)
