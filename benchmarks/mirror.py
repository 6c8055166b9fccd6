"""How long does ``envforge mirror`` take, beside curl, for the same URLs, and how much memory does it need?

    python -m benchmarks.mirror [--wheels 24] [--conda 24] [--size 48] [--rate 0] [--repetitions 5] [--at DIR]
    python -m benchmarks.mirror --memory [--wheels 8] [--conda 0] [--size 64] [--large 4500]

Packages of random bytes lie on a server on the loopback, a process of its own that sends them with
``sendfile``; --rate says how many megabytes in a second it sends to all together, 0 as many as it can.
In turn they are fetched into an empty directory by

    curl              curl --parallel --parallel-max 8: takes what comes, and writes it down
    and sha256sum     the same, and then what anybody has to do who wants to know what came: one sha256 each
    envforge mirror   eight at once; sha256 of all and md5 of conda packages, and the indexes

Printed are medians and the median of the ratios of each round.  With ``--memory`` there are fewer and larger
files, one of ``--large`` megabytes among them, and what is printed is the greatest resident size of
``envforge mirror``: from nothing, when there is nothing to do, and when it goes on with a half of the large
file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from benchmarks._timing import Contestant, about_this_machine, compete, environment, print_table
from envforge.formats import conda_lock
from envforge.formats.repodata import zstd_frame
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile
from tests.mirror.world import conda_package, wheel

_MB = 1_000_000
_BLOCK = 1 << 20


class _Line:
    """A line that takes so many bytes in a second, shared by all; as many as it can with a rate of 0."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free = 0.0

    def wait(self, amount: int) -> None:
        if not self._rate:
            return
        with self._lock:
            self._free = max(self._free, time.monotonic() - 0.01) + amount / self._rate
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    line: _Line

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        with (self.root / self.path.lstrip("/")).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(size - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError):
                while start < size:
                    self.line.wait(min(_BLOCK, size - start))
                    start += os.sendfile(self.connection.fileno(), file.fileno(), start, _BLOCK)


def serve(root: Path, rate: int) -> None:
    """Serve a directory, say the port, and go on until killed."""
    _Handler.root, _Handler.line = root, _Line(rate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextlib.contextmanager
def served(root: Path, rate: int) -> Iterator[str]:
    """The URL of a server in a process of its own."""
    argv = [sys.executable, "-m", "benchmarks.mirror", "--serve", str(root), "--rate", str(rate)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


def write_package(path: Path, kind: str, number: int, megabytes: int) -> LockedPackage:
    """A wheel or conda package with ``megabytes`` that cannot be packed; its row, with a path for a URL."""
    name = f"{kind}{number}"
    if kind == "conda":
        filename, small = conda_package(name, subdir="linux-64", payload={})
        member = f"pkg-{filename.removesuffix('.conda')}.tar.zst"
    else:
        filename, small = wheel(name)
        member = f"{name}.bin"
    file = path / filename
    with zipfile.ZipFile(io.BytesIO(small)) as old, zipfile.ZipFile(file, "w", allowZip64=True) as new:
        for entry in old.infolist():
            if entry.filename != member:
                new.writestr(entry, old.read(entry))
        with new.open(member, "w", force_zip64=True) as out:
            if kind == "conda":
                out.write(zstd_frame(b""))
            for _ in range(megabytes):
                out.write(os.urandom(_MB))
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with file.open("rb") as again:
        while chunk := again.read(_BLOCK):
            sha256.update(chunk)
            if kind == "conda":
                md5.update(chunk)
    return LockedPackage(
        name=name,
        version="1.0",
        manager="conda" if kind == "conda" else "pip",
        platform="linux-64",
        url=f"/chan/linux-64/{filename}" if kind == "conda" else f"/wheels/{filename}",
        sha256=sha256.hexdigest(),
        md5=md5.hexdigest() if kind == "conda" else None,
    )


def lockfile(rows: list[LockedPackage], url: str) -> str:
    """The lockfile of these packages, which lie on the server at ``url``."""
    locked = Lockfile(
        packages=tuple(replace(row, url=url + row.url) for row in rows),
        channels=(LockedChannel(url=f"{url}/chan"),),
        platforms=("linux-64",),
        content_hash={"linux-64": "0" * 64},
        custom={"envforge.settings": "{}"},
    )
    return conda_lock.write(locked)


def contestants(work: Path, urls: list[str]) -> list[Contestant]:
    """What is compared."""
    config, out = work / "curl.txt", work / "out"
    config.write_text("".join(f'url = "{url}"\noutput = "{out}/{Path(url).name}"\n' for url in urls))
    jobs = str(len(os.sched_getaffinity(0)))

    def empty() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    curl = ["curl", "-sS", "--fail", "--parallel", "--parallel-max", "8", "--config", str(config)]
    hashing = ["sh", "-c", f"find {out} -type f -print0 | xargs -0 -n1 -P{jobs} sha256sum >/dev/null"]
    ours = [sys.executable, "-m", "envforge", "mirror", str(work / "conda-lock.yml"), str(out), "--quiet"]
    return [
        Contestant(name="curl --parallel", parts={"all": curl}, prepare=empty),
        Contestant(name="curl, then sha256sum", parts={"curl": curl, "sha256sum": hashing}, prepare=empty),
        Contestant(name="envforge mirror", parts={"all": ours}, prepare=empty),
    ]


def peak(argv: list[str], home: Path) -> tuple[float, float]:
    """Seconds, and megabytes of the greatest resident size, of a process and its children."""
    tell = (
        "import resource,subprocess,sys\n"
        "status = subprocess.run(sys.argv[1:]).returncode\n"
        "print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", tell, *argv],
        env=environment({"HOME": str(home)}), capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    status, kilobytes = done.stdout.split()[-2:]
    if status != "0":
        sys.exit(done.stdout + done.stderr)
    return seconds, int(kilobytes) * 1024 / _MB


def print_memory(work: Path, rows: list[LockedPackage]) -> None:
    """Measure ``envforge mirror`` three times, with all to do, nothing, and half a large file."""
    out = work / "out"
    argv = [sys.executable, "-m", "envforge", "mirror", str(work / "conda-lock.yml"), str(out), "--quiet"]
    large = next(row for row in rows if row.name == "large0")

    def report(name: str) -> None:
        seconds, megabytes = peak(argv, work)
        print(f"{name:<40}{seconds:>8.1f} s{megabytes:>8.0f} MB at most", flush=True)

    report("all of it")
    report("nothing to do: all of it hashed")
    (landed,) = out.glob(f"pypi/files/{large.sha256}/*.whl")
    (out / ".envforge-mirror").mkdir()
    half = out / ".envforge-mirror" / f"part-{large.sha256}"
    landed.rename(half)
    os.truncate(half, half.stat().st_size // 2)
    report("the second half of the large file")
    print(
        f"this process, which made the files: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000} MB"
    )


def main() -> None:
    """Make the packages, serve them, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--wheels", type=int, default=24)
    parser.add_argument("--conda", type=int, default=24)
    parser.add_argument("--size", type=int, default=48, help="megabytes of each")
    parser.add_argument("--large", type=int, default=4500, help="megabytes of the large one, with --memory")
    parser.add_argument("--rate", type=int, default=0, help="megabytes in a second; 0: as many as it can")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--at", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.rate * _MB)
        return
    with tempfile.TemporaryDirectory(dir=options.at) as directory:
        work = Path(directory).resolve()
        folders = {"conda": work / "site/chan/linux-64", "wheel": work / "site/wheels"}
        for folder in folders.values():
            folder.mkdir(parents=True)
        rows = [write_package(folders["wheel"], "wheel", n, options.size) for n in range(options.wheels)]
        rows += [write_package(folders["conda"], "conda", n, options.size) for n in range(options.conda)]
        if options.memory:
            rows.append(write_package(folders["wheel"], "large", 0, options.large))
        size = sum(path.stat().st_size for path in (work / "site").rglob("*") if path.is_file())
        with served(work / "site", options.rate) as url:
            text = lockfile(rows, url)
            (work / "conda-lock.yml").write_text(text)
            urls = [row.url for row in conda_lock.read(text, source="the benchmark's").packages]
            print(f"{len(rows)} files, {size / 1e9:.2f} GB; {about_this_machine(work)}", flush=True)
            if options.memory:
                print_memory(work, rows)
                return
            found = compete(contestants(work, urls), options.repetitions, work)
        print_table(found, {"curl": "curl --parallel", "and sha256sum": "curl, then sha256sum"})


if __name__ == "__main__":
    main()
