"""Small channels of records, and the real ones where there are any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conda.world import Asking, Records


@pytest.fixture
def channel(tmp_path: Path) -> Records:
    """Of that name there is one outside, too, which has files; here records are enough."""
    return Records(tmp_path / "channel")


@pytest.fixture
def ask(channel: Records, tmp_path: Path) -> Asking:
    return Asking(tmp_path / "cache", channel.url)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a directory, and says nothing about it."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def real_channels() -> Iterator[str]:
    """Where real channels are served: those of the directory that ENVFORGE_REAL_CHANNELS names."""
    named = os.environ.get("ENVFORGE_REAL_CHANNELS")
    if not named or not Path(named, "conda-forge", "noarch").is_dir():
        pytest.skip("ENVFORGE_REAL_CHANNELS names no directory of channels")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=named))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def real(real_channels: str, tmp_path_factory: pytest.TempPathFactory) -> Asking:
    """Asks about the real conda-forge; loaded once."""
    return Asking(tmp_path_factory.mktemp("cache"), f"{real_channels}/conda-forge")
