"""A conda channel in a directory, and the one that ``envforge demo`` and the tests use."""

from __future__ import annotations

import hashlib
import platform as host
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envforge.demo.interpreter import host_platform, python_package
from envforge.demo.library import SYMBOL, library, library_name
from envforge.demo.packages import (
    PLACEHOLDER,
    Archive,
    File,
    Json,
    Package,
    Symlink,
    json_bytes,
    noarch_python,
    package_bytes,
    write_file,
    zstd_stored,
)

__all__ = [
    "ChannelBuilder",
    "DemoChannel",
    "build_demo_channel",
    "demo_packages",
    "greet_core_package",
    "greet_package",
    "libgreet_package",
]

_GREET = '''"""Say which prefix the installed files name."""

import ctypes
import sys
from pathlib import Path

from greet_core import VERSION


def prefix_in_library():
    library = ctypes.CDLL(str(Path(sys.prefix, "lib", "@LIBRARY@")))
    symbol = ctypes.c_char.in_dll(library, "@SYMBOL@")
    return ctypes.string_at(ctypes.addressof(symbol)).decode()


def prefix_in_text():
    text = Path(sys.prefix, "etc", "greet.conf").read_text(encoding="utf-8")
    return text.strip().partition("prefix = ")[2]


def main():
    print("core", VERSION)
    print("library", prefix_in_library())
    print("text", prefix_in_text())
'''


class ChannelBuilder:
    """Puts packages and their index into a directory, which then is a channel.

    What it writes is a function of what was added, in any order: no clock is read.
    """

    def __init__(self, directory: Path) -> None:
        """Write below ``directory``, which is made when it is needed."""
        self.directory = directory
        self._records: dict[str, dict[str, dict[str, Json]]] = {"noarch": {}}

    @property
    def url(self) -> str:
        """The channel as a ``file://`` URL."""
        return self.directory.resolve().as_uri()

    def add(
        self, package: Package, *, archive: Archive = ".conda", hotfix: Mapping[str, Json] | None = None
    ) -> Path:
        """Write ``package`` into its subdir and remember its record for the index.

        :param hotfix: keys that the repodata record says differently from the package itself.
        :returns: the file written.
        :raises CouldNotError: if it cannot be written.
        """
        data = package_bytes(package, archive)
        path = self.directory / package.subdir / f"{package.stem}{archive}"
        write_file(path, data)
        self._records.setdefault(package.subdir, {})[path.name] = {
            **package.index_json(),
            "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            **(hotfix or {}),
        }
        return path

    def write_index(self) -> None:
        """Write ``repodata.json`` and ``repodata.json.zst`` of ``noarch`` and every subdir with packages.

        :raises CouldNotError: if they cannot be written.
        """
        for subdir, records in self._records.items():
            conda: dict[str, Json] = {name: row for name, row in records.items() if name.endswith(".conda")}
            legacy: dict[str, Json] = {name: row for name, row in records.items() if name not in conda}
            repodata = json_bytes(
                {
                    "info": {"subdir": subdir},
                    "packages": legacy,
                    "packages.conda": conda,
                    "removed": [],
                    "repodata_version": 1,
                }
            )
            write_file(self.directory / subdir / "repodata.json", repodata)
            write_file(self.directory / subdir / "repodata.json.zst", zstd_stored(repodata))


@dataclass(frozen=True, kw_only=True)
class DemoChannel:
    """The demonstration channel: where it is, the platform it is for and the Python version it has."""

    path: Path
    url: str
    platform: str
    python_version: str


def build_demo_channel(directory: Path) -> DemoChannel:
    """Make a channel with this interpreter as ``python``, and ``libgreet``, ``greet`` and ``greet-core``.

    :param directory: where; what is there already stays.
    :raises CouldNotError: if this interpreter cannot be repackaged, or the directory cannot be written.
    """
    builder = ChannelBuilder(directory)
    platform = host_platform()
    for package in demo_packages(platform):
        builder.add(package)
    with tempfile.TemporaryDirectory(prefix="envforge-demo-") as staging:
        builder.add(python_package(Path(staging)))
    builder.write_index()
    return DemoChannel(
        path=directory, url=builder.url, platform=platform, python_version=host.python_version()
    )


def demo_packages(platform: str) -> tuple[Package, ...]:
    """The packages of the demonstration channel for ``platform``, but for ``python``.

    :raises CouldNotError: if the library cannot be compiled.
    """
    return (libgreet_package(platform), greet_core_package(), greet_package(platform))


def libgreet_package(platform: str) -> Package:
    """``libgreet 1.2``: a library and a text file that hold the prefix, and a relative link to the library.

    :raises CouldNotError: if the library cannot be compiled.
    """
    real = library_name(platform, "1")
    return Package(
        name="libgreet",
        version="1.2",
        build="h0_0",
        subdir=platform,
        files={
            "etc/greet.conf": File(data=f"prefix = {PLACEHOLDER}\n".encode()),
            f"lib/{real}": File(data=library(platform), executable=True),
            f"lib/{library_name(platform)}": Symlink(target=real),
        },
    )


def greet_core_package(version: str = "1.4") -> Package:
    """``greet-core``: a ``noarch: python`` package that wheels of the demonstration need, too."""
    return noarch_python(
        "greet-core",
        version,
        {"greet_core/__init__.py": f'VERSION = "{version}"\nORIGIN = "conda"\n'.encode()},
    )


def greet_package(platform: str) -> Package:
    """``greet 1.0``: ``noarch: python``, with the command ``greet``, which says what ``libgreet`` holds."""
    source = _GREET.replace("@LIBRARY@", library_name(platform)).replace("@SYMBOL@", SYMBOL)
    return noarch_python(
        "greet",
        "1.0",
        {"greet/__init__.py": b"", "greet/cli.py": source.encode()},
        depends=("greet-core >=1.2", "libgreet >=1,<2", "python >=3.10"),
        requires=("greet-core>=1.2",),
        entry_points=("greet = greet.cli:main",),
    )
