"""What tests of the demonstration share, and tests elsewhere may import: fixtures, and doors to the tools.

py-rattler runs in a child that leaves by ``os._exit``: at the usual end of an interpreter that used its
runtime, it sometimes crashes.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import envforge
from envforge.demo.channel import DemoChannel, build_demo_channel
from envforge.demo.index import DemoIndex, build_demo_index
from tests.conftest import once

REPOSITORY = Path(envforge.__file__).resolve().parents[1]

INSTALL = """
import asyncio, rattler
NAMES = (("__unix", "0"), ("__linux", "4.18"), ("__glibc", "2.28"))
async def main():
    virtual = [rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version),
                                             rattler.BuildString("0")) for name, version in NAMES]
    records = await rattler.solve(
        sources=[rattler.Channel(url) for url in given["channels"]],
        specs=[rattler.MatchSpec(spec, strict=False) for spec in given["specs"]],
        gateway=rattler.Gateway(cache_dir=given["cache"]), platforms=[given["platform"], "noarch"],
        virtual_packages=virtual)
    await rattler.install(records, given["prefix"], cache_dir=given["cache"])
    return {record.name.normalized: str(record.version) for record in records}
answer = asyncio.run(main())
"""


def run(
    *argv: str | Path, env: dict[str, str] | None = None, status: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run a program with no environment but ``PATH`` and ``env``; it must end with ``status``."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    variables = {"PATH": path, "HOME": os.environ.get("HOME", "/nowhere"), **(env or {})}
    done = subprocess.run(
        [str(word) for word in argv], env=variables, capture_output=True, text=True, check=False
    )
    assert status is None or done.returncode == status, f"{argv[0]}: {done.stdout}\n{done.stderr}"
    return done


def in_child(code: str, **given: Any) -> Any:
    """Run Python ``code``, which finds ``given`` and leaves what it found in ``answer``, in a child."""
    frame = f"import json, os, sys\ngiven = json.loads(sys.argv[1])\n{code}\nprint(json.dumps(answer))\n"
    script = f"{frame}sys.stdout.flush()\nos._exit(0)\n"
    done = run(sys.executable, "-c", script, json.dumps(given), env={"PYTHONPATH": str(REPOSITORY)})
    return json.loads(done.stdout.splitlines()[-1])


def conda_install(prefix: Path, channels: list[str], specs: list[str], platform: str) -> dict[str, str]:
    """Solve ``specs`` from ``channels`` and install them into ``prefix``, by py-rattler; versions by name."""
    cache = prefix.with_name(f"{prefix.name}.cache")
    answer: dict[str, str] = in_child(
        INSTALL, channels=channels, specs=specs, platform=platform, prefix=str(prefix), cache=str(cache)
    )
    # Hard links to the cache would let one test change another's files.
    shutil.rmtree(cache)
    return answer


def uv(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run uv, deaf to configuration, with no cache."""
    from uv import find_uv_bin

    online = any("http://" in str(word) for word in argv)
    options = ["--no-config", "--no-python-downloads", "--no-cache", *([] if online else ["--offline"])]
    return run(find_uv_bin(), *argv, *options)


def pip(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run pip, deaf to configuration, with no cache."""
    pytest.importorskip("pip")
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    return run(sys.executable, "-m", "pip", *argv, env=quiet)


def digests(directory: Path) -> dict[str, bytes]:
    """The bytes of every file below ``directory``."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@dataclass(kw_only=True)
class Served:
    """A directory on a loopback web server, and the paths that clients asked for."""

    url: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """Serve ``directory`` by the standard library's static web server while the block runs."""
    state = Served(url="")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            state.requests.append(self.path)

    handler = functools.partial(Handler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def demo_channel(tmp_path_factory: pytest.TempPathFactory) -> DemoChannel:
    """The demonstration channel with the interpreter that runs the tests; nobody writes to it."""
    return once(tmp_path_factory, "demo-channel", lambda root: build_demo_channel(root / "channel"))


@pytest.fixture(scope="session")
def demo_index(tmp_path_factory: pytest.TempPathFactory) -> DemoIndex:
    """The demonstration index; nobody writes to it."""
    return once(tmp_path_factory, "demo-index", lambda root: build_demo_index(root / "index"))


@pytest.fixture(scope="session")
def demo_prefix(tmp_path_factory: pytest.TempPathFactory, demo_channel: DemoChannel) -> Path:
    """A prefix with ``greet`` and all it needs, as py-rattler installs it; nobody writes to it."""

    def make(root: Path) -> Path:
        conda_install(root / "prefix", [demo_channel.url], ["greet"], demo_channel.platform)
        return root / "prefix"

    return once(tmp_path_factory, "demo-prefix", make)


@pytest.fixture
def venv(tmp_path: Path, demo_prefix: Path) -> Path:
    """A new virtual environment of the prefix's Python."""
    uv("venv", "--python", demo_prefix / "bin" / "python", tmp_path / "venv")
    return tmp_path / "venv"
