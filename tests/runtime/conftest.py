"""A runtime that is made once: of the demonstration's Python, and of the wheels that are installed here."""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest

from envforge.demo.channel import DemoChannel
from envforge.edges.fetch import Fetcher
from envforge.edges.store import Store
from envforge.model.lockfile import LockedPackage, Lockfile
from envforge.model.runtime import RUNTIME_PLATFORMS
from envforge.reporting import Reporter
from envforge.runtime import MadeRuntime, make_runtime
from tests.conftest import bytecode, once
from tests.node import world

HERE = world.HERE
SKIPPED = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")


@dataclass(frozen=True)
class Site:
    """Artifacts in a directory, and the lockfile of a runtime that names them."""

    lock: Lockfile

    def make(self, work: Path) -> MadeRuntime:
        """Make the runtime below ``work``, with a store of its own."""
        (work / "work").mkdir(parents=True)
        return make_runtime(
            Lockfile(packages=(), channels=(), platforms=(HERE,)),
            HERE,
            None,
            work=work / "work",
            store=Store(work / "store"),
            fetcher=Fetcher(offline=True),
            reporter=Reporter(),
            runtime_lock=self.lock,
        )


def stripped(library: bytes) -> bytes:
    """A shared library without what follows the last byte that a loader maps.

    Of py-rattler's that is a third, names of functions, which every bundle would pack, and every node unpack
    and hash.
    """
    start, size, count = *struct.unpack_from("<Q", library, 32), *struct.unpack_from("<HH", library, 54)
    ends = [0]
    for at in range(start, start + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", library, at)
        ends += [offset + length] if kind == 1 else []
    # No sections: their headers, which no loader reads, lay behind.
    return library[:40] + bytes(8) + library[48:60] + bytes(4) + library[64 : max(ends)]


def installed_wheel(name: str, tag: str, directory: Path) -> LockedPackage:
    """The wheel that an installed project came from, put together again.

    With bytecode, which wheels may bring: else every start of a runtime compiles what it imports.
    """
    found = distribution(name)
    stem = f"{name.replace('-', '_')}-{found.version}"
    path = directory / f"{stem}-{tag}.whl"
    files = {
        file.as_posix(): Path(str(found.locate_file(file))).read_bytes()
        for file in found.files or ()
        if ".." not in file.parts and file.suffix != ".pyc" and file.name not in SKIPPED
    }
    files |= {file: stripped(data) for file, data in files.items() if file.endswith(".so")}
    files |= bytecode({file: data for file, data in files.items() if file.endswith(".py")})
    record = []
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(file), data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(data)}")
        record.append(f"{stem}.dist-info/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/RECORD"), "\n".join(record) + "\n")
    return LockedPackage(
        name=name,
        version=found.version,
        manager="pip",
        platform=HERE,
        url=path.as_uri(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


@pytest.fixture(scope="session")
def site(channel: DemoChannel, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """What a site with a runtime of its own has."""
    if HERE not in RUNTIME_PLATFORMS:
        pytest.skip(f"no runtime for {HERE}")
    return once(tmp_path_factory, "site", lambda directory: _make_site(directory, channel))


def _make_site(directory: Path, channel: DemoChannel) -> Site:
    machine = "x86_64" if HERE == "linux-64" else "aarch64"
    python = world.python(channel)
    folder = directory / HERE
    folder.mkdir()
    (folder / python.row.filename).write_bytes(python.data)
    rows = (
        LockedPackage(
            name="python",
            version=python.row.version,
            manager="conda",
            platform=HERE,
            url=(folder / python.row.filename).as_uri(),
            sha256=python.row.sha256,
            md5=python.row.md5,
        ),
        installed_wheel("click", "py3-none-any", directory),
        installed_wheel("py-rattler", f"cp310-abi3-manylinux_2_28_{machine}", directory),
    )
    return Site(Lockfile(packages=rows, channels=(), platforms=(HERE,)))


@pytest.fixture(scope="session")
def made(site: Site, tmp_path_factory: pytest.TempPathFactory) -> MadeRuntime:
    """The runtime."""
    return once(tmp_path_factory, "runtime", site.make)


@pytest.fixture(scope="session")
def unpacked(made: MadeRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime's ``python3``, unpacked by tar and then moved to somewhere else."""

    def make(root: Path) -> Path:
        subprocess.run(["tar", "xzf", str(made.path)], cwd=root, check=True)
        (root / "there is").mkdir()
        (root / "runtime").rename(root / "there is" / "a place")
        return root / "there is" / "a place" / "bin" / "python3"

    return once(tmp_path_factory, "unpacked", make)
