"""A bundle on a node that has a C library and busybox: its runtime brings all the rest, libgcc included.

The Python is Debian's, made into a conda package as conda-forge makes them: it finds its libraries by
where it is.  For aarch64 all of it is made on this machine, and the kernel starts it by qemu.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from envforge.demo.packages import File, Package, Symlink, package_bytes
from envforge.formats import conda_lock
from envforge.formats.elf import MACHINES, read_elf
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile
from envforge.model.runtime import runtime_key, runtime_text
from envforge.node.sources.bundles import RUNTIME, Bundle
from tests.conftest import Shell
from tests.labs.nodes import BareNode
from tests.labs.support import make_root

pytestmark = [pytest.mark.lab, pytest.mark.internet]
SUITE = "bookworm"
ARCHITECTURES = {"linux-64": "amd64", "linux-aarch64": "arm64"}
PYTHON = "lib/python3.11"
SITE = f"import sys, site; site.addsitedir(sys.prefix + '/{PYTHON}/site-packages')\n".encode()
"""Debian's Python looks for packages in places of its own."""
LEFT_OUT = ("test", "idlelib", "ensurepip", "__pycache__", "config-", "sitecustomize.py")
LIBRARIES = (
    "libexpat.so.1",
    "libz.so.1",
    "libcrypto.so.3",
    "libffi.so.8",
    "liblzma.so.5",
    "libbz2.so.1.0",
    "libuuid.so.1",
)


@dataclass(frozen=True)
class Machine:
    """A kind of node: its platform, Debian for it, and the bare node."""

    platform: str
    whole: Path
    node: BareNode


@pytest.fixture(scope="module", params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> Machine:
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        pytest.skip("needs root on x86-64")
    for program in ("patchelf", "mmdebstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install {program}")
    emulator = None
    if request.param == "linux-aarch64":
        emulator = shutil.which("qemu-aarch64-static")
        if emulator is None:
            pytest.skip("qemu is missing: apt-get install qemu-user-static")
    arch = ARCHITECTURES[request.param]
    root = make_root("python-root.sh", f"python-{SUITE}-{arch}", SUITE, arch)
    return Machine(request.param, root / "whole", BareNode(root / "bare", emulator))


def relocated(path: Path, rpath: str, work: Path) -> File:
    """A program or library that finds what it is linked to by where it is."""
    copy = work / "elf"
    shutil.copyfile(path, copy)
    subprocess.run(["patchelf", "--force-rpath", "--set-rpath", rpath, str(copy)], check=True)
    return File(data=copy.read_bytes(), executable=True)


def python_of(machine: Machine, work: Path) -> Package:
    """Debian's Python as a conda package."""
    usr = machine.whole / "usr"
    files: dict[str, File | Symlink] = {
        "bin/python3.11": relocated(usr / "bin/python3.11", "$ORIGIN/../lib", work),
        "bin/python": Symlink(target="python3.11"),
        "bin/python3": Symlink(target="python3.11"),
        f"{PYTHON}/sitecustomize.py": File(data=SITE),
        f"{PYTHON}/site-packages/README.txt": File(data=b"packages go here\n"),
    }
    for path in sorted((usr / PYTHON).rglob("*")):
        name = path.relative_to(usr / PYTHON).as_posix()
        if path.is_file() and not any(part.startswith(LEFT_OUT) for part in name.split("/")):
            shared = ".so" in path.name
            file = relocated(path, "$ORIGIN/../..", work) if shared else File(data=path.read_bytes())
            files[f"{PYTHON}/{name}"] = file
    return Package(
        name="python", version="3.11.2", build="0_cpython", subdir=machine.platform, files=files,
        depends=("libraries", "libgcc"),
    )  # fmt: skip


def library_of(machine: Machine, name: str, wanted: Mapping[str, str], work: Path) -> Package:
    found = {}
    for library in wanted:
        path = next(p for p in machine.whole.rglob(library) if p.is_file())
        found[f"lib/{library}"] = relocated(path.resolve() if path.is_symlink() else path, "$ORIGIN", work)
    return Package(name=name, version="1.0", subdir=machine.platform, files=found)


def row_of(package: Package, folder: Path) -> LockedPackage:
    """Put a package into a channel, and lock it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package.stem}.conda"
    path.write_bytes(package_bytes(package, ".conda"))
    return LockedPackage(
        name=package.name,
        version=package.version,
        manager="conda",
        platform=package.subdir,
        url=path.as_uri(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        md5=hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
    )


@pytest.fixture(scope="module")
def bundle(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose environment is that Python, and whose runtime is made of it."""
    root = tmp_path_factory.mktemp("laptop")
    packages = [
        python_of(machine, root),
        library_of(machine, "libraries", dict.fromkeys(LIBRARIES, ""), root),
        library_of(machine, "libgcc", {"libgcc_s.so.1": ""}, root),
    ]
    rows = [row_of(package, root / "conda/made" / machine.platform) for package in packages]
    lockfile = Lockfile(
        packages=tuple(rows),
        channels=(LockedChannel(url=(root / "conda/made").as_uri(), used_env_vars=()),),
        platforms=(machine.platform,),
        custom={runtime_key(machine.platform): runtime_text(rows)},
    )
    (root / "site.conda-lock.yml").write_text(conda_lock.write(lockfile))
    made = Shell(root, root)("bundle", "site.conda-lock.yml", "-o", "site.sh", status=None)
    if made.status == 3 and "PIP_INDEX_URL" in made.err:
        pytest.skip(f"the runtime's wheels are not reached: {made.err.splitlines()[0]}")
    assert made.status == 0, made.err
    return root / "site.sh"


def runtime_files(bundle: Path) -> Iterator[tuple[str, bytes]]:
    opened = Bundle(bundle)
    member = opened.members[RUNTIME]
    with bundle.open("rb") as file:
        file.seek(member.offset)
        packed = io.BytesIO(file.read(member.size))
    with tarfile.open(fileobj=packed, mode="r:gz") as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            if content is not None:
                yield entry.name, content.read()


def test_everything_in_the_runtime_is_for_the_machine(machine: Machine, bundle: Path) -> None:
    found = {name: elf for name, data in runtime_files(bundle) if (elf := read_elf(io.BytesIO(data)))}
    assert {elf.machine for elf in found.values()} == {MACHINES[machine.platform]}
    assert "runtime/bin/python3" in found
    assert any(name.endswith("rattler.abi3.so") for name in found), sorted(found)
    # What a library is linked to is there, or is the C library's: nothing is the node's to bring.
    brought = {name.rpartition("/")[2] for name in found}
    c_library = {path.name for path in (machine.node.root / "usr/lib").rglob("*.so*")}
    assert {name for elf in found.values() for name in elf.needed} <= brought | c_library
    assert "libgcc_s.so.1" in brought - c_library


def test_it_installs_where_there_is_nothing_else(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    shutil.copy(bundle, tmp_path)
    node, prefix = machine.node, str(tmp_path / "env")
    done = node(tmp_path, "sh", "site.sh", "--prefix", prefix)
    if done.status == 77:
        pytest.skip(done.err.strip().splitlines()[-1])
    assert done.status == 0, done.err
    own = f"{prefix}/.envforge/bin/envforge"
    assert node(tmp_path, own, "verify", prefix).status == 0
    said = "import ctypes, hashlib, platform, sys; print(platform.machine(), sys.prefix)"
    done = node(tmp_path, f"{prefix}/bin/python", "-c", said)
    assert done.status == 0, done.err
    kind, where = done.out.split()
    assert (kind, where) == ({"linux-64": "x86_64", "linux-aarch64": "aarch64"}[machine.platform], prefix)
    for words in (("history", prefix), ("run", prefix, "--", "python", "-c", "import zlib")):
        done = node(tmp_path, own, *words)
        assert done.status == 0, (words, done.err)
