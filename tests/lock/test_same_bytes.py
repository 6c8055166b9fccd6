"""The same specification and the same records give the same bytes, whatever else differs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from envforge.demo.index import Wheel
from envforge.formats import conda_lock
from tests.conftest import Shell
from tests.lock.world import World, brings, lines, package

SHUFFLES = 4


@pytest.fixture
def wide(world: World) -> World:
    """Several platforms, groups, both halves, and builds between which the solver must choose."""
    world.platforms = ("linux-64", "linux-aarch64", "osx-arm64")
    world.add_python()
    for name in ("a", "b", "c"):
        world.add(*(package(name, version, "d", "e >=1") for version in ("1.0", "1.1", "2.0")))
    world.add(
        # Between builds that were made in the same second and need the same, the channel's order decides.
        *(package("d", "1.0", build=f"x_{n}", build_number=n, timestamp=1_700_000_000 + n) for n in range(3)),
        *(package("d", "1.0", build=f"y_{n}", build_number=n, timestamp=1_600_000_000 + n) for n in range(3)),
        *(package("e", "1.0", f"m {kind}", build=f"{kind}_0") for kind in ("one", "two", "three")),
        *(package("m", kind) for kind in ("one", "two", "three")),
        brings("arrays", "1.5", "arrays", extras=("deep",)),
    )
    world.add_wheels(
        Wheel(name="w", version="1.0", requires=("x", "arrays[x]")),
        *(Wheel(name="x", version=version) for version in ("1.0", "1.5", "2.0")),
        Wheel(name="deep", version="1.0"),
    )
    world.conda = [*lines("python", "a", "arrays"), *lines("b", "c", group="dev", start=4)]
    world.pip = [*lines("w", start=7), *lines("x<2", group="docs", start=8)]
    return world


def test_the_order_of_lines_and_records_and_the_caches_state(wide: World) -> None:
    first = conda_lock.write(wide.lock())
    for seed in range(SHUFFLES):
        chance = random.Random(seed)
        for part in (wide.conda, wide.pip):
            chance.shuffle(part)
        wide.platforms = tuple(chance.sample(wide.platforms, len(wide.platforms)))
        for path in wide.channel.directory.rglob("repodata.json"):
            document = json.loads(path.read_text())
            records = list(document["packages.conda"].items())
            chance.shuffle(records)
            document["packages.conda"] = dict(records)
            path.write_text(json.dumps(document))
        if seed % 2:
            (wide.root / "cache").rename(wide.root / f"cold-{seed}")
        assert conda_lock.write(wide.lock()) == first, seed


def test_locking_again_is_a_function_of_the_lock_before(wide: World) -> None:
    """The order of its rows is not in it: they are read in one order, whatever the file has."""
    lockfile = wide.lock()
    text = conda_lock.write(lockfile)
    head, _, body = text.partition("package:\n")
    rows = body.split("- name:")[1:]
    random.Random(1).shuffle(rows)
    shuffled = conda_lock.read(f"{head}package:\n- name:{'- name:'.join(rows)}", source="x")
    wide.ask("e")
    assert conda_lock.write(wide.lock(shuffled)) == conda_lock.write(wide.lock(lockfile))


@contextmanager
def served(directory: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(directory)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_another_machine(envforge: Shell, wide: World, tmp_path: Path) -> None:
    """Other processes, with other threads, seeds, time zones, languages, masks and directories."""
    threads = {"RAYON_NUM_THREADS": "1", "TOKIO_WORKER_THREADS": "1", "UV_CONCURRENT_DOWNLOADS": "1"}
    machines = [
        ({"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", **threads}, 0o077),
        ({"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C"}, 0o022),
        ({"PYTHONHASHSEED": "3", "COLUMNS": "40", "NO_COLOR": "1"}, 0o002),
    ]
    with served(wide.root) as url:
        texts = set()
        for number, (env, umask) in enumerate(machines):
            place = tmp_path / f"machine-{number}"
            place.mkdir()
            (place / "environment.yml").write_text(
                f"channels: ['{url}/channel']\n"
                "platforms: [linux-64, osx-arm64, linux-aarch64]\n"
                f"dependencies: [python, a, arrays, b, {{pip: ['--index-url {url}/index/simple', w]}}]\n"
            )
            cache = tmp_path / f"cache-{number}" if number else tmp_path / "cache"
            envforge("lock", cwd=place, env={**env, "ENVFORGE_CACHE": str(cache)}, umask=umask)
            texts.add((place / "conda-lock.yml").read_bytes())
    assert len(texts) == 1
