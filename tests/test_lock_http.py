"""A channel over http that does what servers do: refuse, break off, answer with something else."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.demo.packages import File, Package
from tests.conftest import Shell


class Server(ThreadingHTTPServer):
    """Serves a directory; ``mood`` says how."""

    mood = "well"
    directory = Path()
    asked: list[str]


class Handler(SimpleHTTPRequestHandler):
    """One request, in the server's mood."""

    server: Server

    def __init__(self, request: object, address: object, server: Server) -> None:
        super().__init__(request, address, server, directory=str(server.directory))  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        mood = self.server.mood
        if mood.isdigit():
            self.send_error(int(mood))
        elif mood == "half" and (file := self.server.directory / self.path.lstrip("/")).is_file():
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif mood == "login page":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in</html>")
        else:
            super().do_GET()

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(builder: ChannelBuilder) -> Iterator[Server]:
    builder.add(Package(name="b", version="1.0", subdir="linux-64", files={"lib/b": File(data=b"b")}))
    builder.add(
        Package(
            name="a", version="1.0", subdir="noarch", noarch="generic", files={"share/a": File(data=b"a")}
        )
    )
    builder.write_index()
    server = Server(("127.0.0.1", 0), Handler)
    server.directory, server.asked = builder.directory, []
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def spec(server: Server, envforge: Shell) -> str:
    url = f"http://127.0.0.1:{server.server_port}"
    text = f"channels: ['{url}']\ndependencies: [a]\nplatforms: [linux-64]\n"
    (envforge.cwd / "environment.yml").write_text(text)
    return url


def test_a_channel_over_http_is_locked_and_mirrored(envforge: Shell, server: Server, spec: str) -> None:
    envforge("lock")
    envforge("lock", "-U")
    done = envforge("mirror", "conda-lock.yml", "mirror", "--json")
    assert done.json["downloaded"] == 1
    assert envforge("mirror", "conda-lock.yml", "mirror", "--json").json["downloaded"] == 0


@pytest.mark.parametrize(
    ("mood", "status", "word"),
    [
        ("404", 2, "no such channel"),
        ("403", 3, "netrc"),
        ("500", 3, "answered 500"),
        ("half", 3, "half a file"),
        ("login page", 3, "cannot be read"),
    ],
)
def test_a_channel_that_fails_is_said_in_three_lines(
    envforge: Shell, server: Server, spec: str, mood: str, status: int, word: str
) -> None:
    server.mood = mood
    envforge("lock", status=None).assert_error(status, word, spec)
    assert [path.name for path in envforge.cwd.iterdir()] == ["environment.yml"]


def test_a_channel_that_is_not_there(envforge: Shell, server: Server, spec: str) -> None:
    envforge("lock", "-c", "http://127.0.0.1:9/none", status=None).assert_error(
        3, "no connection", "127.0.0.1"
    )


@pytest.mark.parametrize(
    ("mood", "word"), [("404", "404"), ("500", "500"), ("half", "half a file"), ("login page", "sha256")]
)
def test_a_mirror_from_a_channel_that_fails_has_nothing_half(
    envforge: Shell, server: Server, spec: str, mood: str, word: str
) -> None:
    envforge("lock")
    server.mood = mood
    envforge("mirror", "conda-lock.yml", "mirror", status=None).assert_error(3, word, spec)
    assert not [
        path for path in (envforge.cwd / "mirror").rglob("*") if path.is_file() and "json" in path.name
    ]
    server.mood = "well"
    envforge("mirror", "conda-lock.yml", "mirror")
    envforge("verify", "mirror")


def test_offline_resolves_from_the_cache_and_asks_nobody(envforge: Shell, server: Server, spec: str) -> None:
    envforge("lock", "--offline", status=None).assert_error(3, "--offline")
    envforge("lock")
    server.asked.clear()
    envforge("lock", "--offline", "-U")
    assert not server.asked
