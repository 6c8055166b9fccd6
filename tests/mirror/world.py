"""Small real packages, lockfiles for them, and servers that go wrong on request."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from envforge.edges.fetch import Fetcher
from envforge.formats import conda_lock
from envforge.formats.repodata import zstd_frame
from envforge.mirror import LockfileInput, MirrorOptions, MirrorResult, mirror
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, join_specs
from envforge.reporting import Recorder

__all__ = [
    "Site", "conda_package", "input_of", "lock", "mirrored", "serve", "tree", "wheel",
]  # fmt: skip


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def conda_archive(filename: str, info: Mapping[str, bytes], payload: Mapping[str, bytes]) -> bytes:
    if filename.endswith(".tar.bz2"):
        return bz2.compress(tar_bytes({**info, **payload}))
    stem, buffer = filename.removesuffix(".conda"), io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", zstd_frame(tar_bytes(payload))),
            (f"info-{stem}.tar.zst", zstd_frame(tar_bytes(info))),
        ):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()


def conda_package(
    name: str,
    version: str = "1.0",
    *,
    build: str = "0",
    depends: Sequence[str] = (),
    subdir: str = "noarch",
    suffix: str = ".conda",
    payload: Mapping[str, bytes] | None = None,
    **index: Any,
) -> tuple[str, bytes]:
    """File name and bytes of a conda package."""
    payload = {f"share/{name}.txt": name.encode()} if payload is None else payload
    entries = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size_in_bytes": len(content),
        }
        for path, content in payload.items()
    ]
    document = {
        "name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends),
        "subdir": subdir, "timestamp": 1700000000000, "license": "BSD-3-Clause",
    } | ({"noarch": "generic"} if subdir == "noarch" else {}) | index  # fmt: skip
    filename = f"{name}-{version}-{build}{suffix}"
    info = {
        "info/index.json": json.dumps(document).encode(),
        "info/paths.json": json.dumps({"paths": entries, "paths_version": 1}).encode(),
        "info/files": "".join(f"{path}\n" for path in payload).encode(),
        "info/about.json": b"{}",
    }
    return filename, conda_archive(filename, info, payload)


def wheel(
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    body: str = "",
) -> tuple[str, bytes]:
    """File name and bytes of a pure wheel."""
    stem = f"{name.replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Requires-Dist: {text}" for text in requires]
    files = {
        f"{name.replace('-', '_')}.py": body.encode(),
        f"{stem}.dist-info/METADATA": ("\n".join(lines) + "\n\n").encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    )
    files[f"{stem}.dist-info/RECORD"] = (record + f"{stem}.dist-info/RECORD,,\n").encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content)
    return f"{stem}-py3-none-any.whl", buffer.getvalue()


@dataclass
class Site:
    """The world outside: a directory of channels and wheels, and the URL it is reached at."""

    root: Path
    url: str = ""

    def __post_init__(self) -> None:
        self.url = self.url or self.root.as_uri()

    def conda(
        self,
        name: str,
        *,
        channel: str = "forge",
        platform: str = "linux-64",
        locked: Sequence[str] | None = None,
        category: str = "main",
        **keys: Any,
    ) -> LockedPackage:
        """Publish a conda package and return its row; ``locked`` is what the lock says of ``depends``."""
        filename, content = conda_package(name, **keys)
        subdir = keys.get("subdir", "noarch")
        path = self._put(f"{channel}/{subdir}/{filename}", content)
        return LockedPackage(
            name=name,
            version=keys.get("version", "1.0"),
            manager="conda",
            platform=platform,
            url=f"{self.url}/{path}",
            sha256=hashlib.sha256(content).hexdigest(),
            md5=hashlib.md5(content).hexdigest(),
            dependencies=join_specs(keys.get("depends", ()) if locked is None else locked),
            category=category,
        )

    def wheel(
        self, name: str, *, platform: str = "linux-64", place: str = "wheels", **keys: Any
    ) -> LockedPackage:
        """Publish a wheel and return its row."""
        filename, content = wheel(name, **keys)
        return self.pip(name, filename, content, platform=platform, place=place, **keys)

    def pip(
        self,
        name: str,
        filename: str,
        content: bytes,
        *,
        platform: str = "linux-64",
        place: str = "wheels",
        version: str = "1.0",
        **_: Any,
    ) -> LockedPackage:
        """Publish any file as a pip row."""
        path = self._put(f"{place}/{filename}", content)
        return LockedPackage(
            name=name,
            version=version,
            manager="pip",
            platform=platform,
            url=f"{self.url}/{path}",
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def _put(self, relative: str, content: bytes) -> str:
        path = self.root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return relative


def lock(
    *rows: LockedPackage,
    channels: Sequence[str] = (),
    platforms: Sequence[str] = (),
    name: str | None = None,
    foreign: bool = False,
) -> Lockfile:
    """A lockfile of these rows."""
    custom = {} if foreign else {"envforge.settings": "{}"}
    return Lockfile(
        packages=rows,
        channels=tuple(LockedChannel(url=url) for url in channels),
        platforms=tuple(platforms) or tuple(sorted({row.platform for row in rows})),
        content_hash=dict.fromkeys(tuple(platforms) or sorted({row.platform for row in rows}), "0" * 64),
        custom=custom | ({"envforge.name": name} if name else {}),
    )


def input_of(lockfile: Lockfile, filename: str = "conda-lock.yml") -> LockfileInput:
    """The lockfile as if read from a file."""
    content = conda_lock.write(lockfile).encode()
    return LockfileInput(
        content=content, filename=filename, lockfile=conda_lock.read(content.decode(), source=filename)
    )


def mirrored(
    directory: Path,
    *lockfiles: Lockfile | LockfileInput,
    recorder: Recorder | None = None,
    fetcher: Fetcher | None = None,
    **options: Any,
) -> MirrorResult:
    """Mirror with little ceremony."""
    inputs = [one if isinstance(one, LockfileInput) else input_of(one) for one in lockfiles]
    return mirror(
        inputs,
        directory,
        fetcher=fetcher or Fetcher(retries=0, timeout=10),
        options=MirrorOptions(**options),
        reporter=recorder or Recorder(),
    )


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below a directory with its mode, and its content if it is a file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode & 0o7777
        found[path.relative_to(directory).as_posix()] = (mode, b"" if path.is_dir() else path.read_bytes())
    return found


@dataclass
class Faults:
    """What a server does wrong, by the end of the path; and what it was asked for.

    ``ranges`` is what it makes of a Range header: it may be ``ignored``, ``honoured``, answered with
    ``another`` part, with ``several``, a ``short`` one, an ``odd`` header, or a status.  ``cuts`` are after
    how many bytes the next answers break off.
    """

    by_suffix: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ranges: str = "ignored"
    cuts: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)

    def of(self, path: str) -> str | None:
        return next((fault for end, fault in self.by_suffix.items() if path.endswith(end)), None)


class _Handler(SimpleHTTPRequestHandler):
    faults: Faults

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self.faults.requests.append(self.path)
        self.faults.headers.append(dict(self.headers))
        fault = self.faults.of(self.path)
        if fault is None and (self.faults.cuts or self.faults.ranges != "ignored"):
            self._part(Path(self.translate_path(self.path)).read_bytes())
        elif fault is None:
            super().do_GET()
        elif fault.startswith("http"):
            self.send_response(302)
            self.send_header("Location", fault + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault.startswith("gzip"):
            self._gzip(Path(self.translate_path(self.path)).read_bytes(), pack=fault == "gzip")
        elif fault.isdigit():
            self.send_error(int(fault))
        else:
            self._half(wait=fault == "stall")

    def _part(self, content: bytes) -> None:
        kind, asked = self.faults.ranges, self.headers.get("Range")
        if asked is None or kind == "ignored":
            self._send(200, content)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if kind.isdigit() or (kind == "honoured" and start >= len(content)):
            self.send_error(int(kind) if kind.isdigit() else 416)
            return
        start = start - 7 if kind == "another" else start
        end = start + (len(content) - start + 1) // 2 if kind == "short" else len(content)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        if kind == "several":
            headers = {"Content-Type": "multipart/byteranges; boundary=x"}
        elif kind == "odd":
            headers = {"Content-Range": "bytes */*"}
        self._send(206, content[start:end], headers)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        cut = self.faults.cuts.pop(0) if self.faults.cuts else len(content)
        self.wfile.write(content[:cut])
        self.close_connection = True

    def _gzip(self, content: bytes, *, pack: bool) -> None:
        self._send(200, gzip.compress(content) if pack else content, {"Content-Encoding": "gzip"})

    def _half(self, *, wait: bool) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        if wait:
            self.faults.stalled.set()
            self.faults.gate.wait(20)
            with suppress(OSError):
                self.wfile.write(content[len(content) // 2 :])
        self.close_connection = True


@contextmanager
def serve(root: Path) -> Iterator[tuple[str, Faults]]:
    """A static web server on the loopback, and the faults that it can be told to have."""
    faults = Faults()
    handler: Callable[..., _Handler] = partial(
        type("Handler", (_Handler,), {"faults": faults}), directory=os.fspath(root)
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", faults
    finally:
        faults.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
