"""A package index that is made on the spot: deterministic wheels, in a directory and over loopback."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

__all__ = ["Index", "Wheel"]

_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One wheel; ``requires`` are Requires-Dist lines."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    tag: str = "py3-none-any"
    requires_python: str | None = None
    extras: tuple[str, ...] = ()
    uploaded: str | None = None

    @property
    def stem(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def filename(self) -> str:
        return f"{self.stem}-{self.tag}.whl"

    @property
    def metadata(self) -> str:
        lines = ["Metadata-Version: 2.1", f"Name: {self.name}", f"Version: {self.version}"]
        if self.requires_python is not None:
            lines.append(f"Requires-Python: {self.requires_python}")
        lines += [f"Provides-Extra: {extra}" for extra in self.extras]
        lines += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        return "\n".join(lines) + "\n"

    @cached_property
    def content(self) -> bytes:
        buffer = BytesIO()
        info = f"{self.stem}.dist-info"
        tags = "\n".join(f"Tag: {tag}" for tag in [self.tag])
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in (
                (f"{self.name.replace('-', '_')}.py", f"version = {self.version!r}\n"),
                (f"{info}/METADATA", self.metadata),
                (f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n{tags}\n"),
                (f"{info}/RECORD", ""),
            ):
                archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
        return buffer.getvalue()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass
class Index:
    """A PEP 503 tree ``root/simple/NAME/index.html`` beside ``root/files``; also served, then as JSON too.

    ``statuses`` maps the beginning of a path to the status that the server answers instead, ``bodies`` a path
    to content type and body.  ``hash_kind`` is ``none`` for an index without hashes.  ``parts`` gives where a
    part begins, and the part, of what a Range header asks for; without it the whole is sent.
    """

    root: Path
    hash_kind: str = "sha256"
    metadata: bool = True
    login: str | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    parts: Callable[[str, bytes], tuple[int, bytes]] | None = None
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    files: dict[str, list[Wheel]] = field(default_factory=dict)

    def add(self, *wheels: Wheel) -> Index:
        (self.root / "files").mkdir(parents=True, exist_ok=True)
        for wheel in wheels:
            (self.root / "files" / wheel.filename).write_bytes(wheel.content)
            if self.metadata:
                (self.root / "files" / f"{wheel.filename}.metadata").write_text(wheel.metadata)
            self.files.setdefault(wheel.name, []).append(wheel)
            page = self.root / "simple" / wheel.name / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(self._page(wheel.name))
        return self

    @property
    def file_url(self) -> str:
        return (self.root / "simple").as_uri()

    def add_sdist(self, name: str, version: str) -> None:
        """An archive that must not even be looked into."""
        page = self.root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(
            f'<a href="../../files/{name}-{version}.tar.gz#sha256={"0" * 64}">{name}-{version}.tar.gz</a>'
        )

    def _hashes(self, wheel: Wheel) -> dict[str, str]:
        if self.hash_kind == "none":
            return {}
        return {self.hash_kind: hashlib.new(self.hash_kind, wheel.content).hexdigest()}

    def _page(self, name: str) -> str:
        links = []
        for wheel in self.files[name]:
            anchor = "".join(f"#{kind}={value}" for kind, value in self._hashes(wheel).items())
            extra = ' data-core-metadata="true"' if self.metadata else ""
            if wheel.requires_python is not None:
                extra += f' data-requires-python="{html.escape(wheel.requires_python)}"'
            links.append(f'<a href="../../files/{wheel.filename}{anchor}"{extra}>{wheel.filename}</a><br>')
        return "<!DOCTYPE html><html><body>\n" + "\n".join(links) + "\n</body></html>\n"

    def _document(self, name: str) -> bytes:
        rows = []
        for wheel in self.files[name]:
            row: dict[str, object] = {
                "filename": wheel.filename,
                "url": f"../../files/{wheel.filename}",
                "hashes": self._hashes(wheel),
                "core-metadata": self.metadata,
                "size": len(wheel.content),
            }
            if wheel.requires_python is not None:
                row["requires-python"] = wheel.requires_python
            if wheel.uploaded is not None:
                row["upload-time"] = wheel.uploaded
            rows.append(row)
        versions = sorted({wheel.version for wheel in self.files[name]})
        meta = {"api-version": "1.1"}
        return json.dumps({"meta": meta, "name": name, "versions": versions, "files": rows}).encode()

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, content type and body for one GET."""
        self.asked.append(path)
        for start, status in self.statuses.items():
            if path.startswith(start):
                return status, "text/plain", b"no"
        if self.login is not None:
            token = base64.b64encode(self.login.encode()).decode()
            if headers.get("Authorization") != f"Basic {token}":
                return 401, "text/plain", b"who are you"
        if path in self.bodies:
            return (200, *self.bodies[path])
        if path.startswith("/files/"):
            file = self.root / "files" / path.rsplit("/", 1)[-1]
            return (
                (200, "application/octet-stream", file.read_bytes())
                if file.is_file()
                else (404, "text/plain", b"")
            )
        name = path.removeprefix("/simple/").strip("/")
        if name not in self.files:
            return 404, "text/plain", b"no such project"
        if _JSON in headers.get("Accept", ""):
            return 200, _JSON, self._document(name)
        return 200, "text/html", self._page(name).encode()

    @contextmanager
    def served(self) -> Iterator[str]:
        """The URL of the simple index while a server on the loopback interface answers."""
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                status, kind, body = index.answer(self.path, dict(self.headers))
                whole = len(body)
                if status == 200 and index.parts is not None and "Range" in self.headers:
                    start, body = index.parts(self.headers["Range"].removeprefix("bytes="), body)
                    status = 206
                index.sent += len(body)
                self.send_response(status)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{whole}")
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - likewise
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            login = "" if self.login is None else f"{self.login}@"
            yield f"http://{login}127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
