"""Wheels written from data, and a simple index of them (PEP 503, PEP 658) in a directory.

pip and uv use the directory from ``file://`` and from any static web server.  Wheels are not compressed:
the same wheel is the same bytes under any version of zlib.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envforge.demo.packages import write_file

__all__ = [
    "DemoIndex",
    "IndexBuilder",
    "Wheel",
    "build_demo_index",
    "demo_wheels",
    "normalized",
    "wheel_bytes",
]


def normalized(name: str) -> str:
    """The one spelling of a project's name that an index uses (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel before it is written.

    :param files: by path in the wheel; what goes to ``site-packages``.
    :param requires: ``Requires-Dist`` lines, with markers and ``; extra == "…"`` where wanted.
    :param tag: the compressed tag of the file name, ``py3-none-any`` or
        ``cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64``.
    :param console_scripts: ``MODULE:FUNCTION`` by command.
    :param scripts: files for ``bin`` by name; with ``#!python`` the installer writes its interpreter there.
    :param data: files for the prefix by their path in it.
    """

    name: str
    version: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    requires_python: str = ""
    tag: str = "py3-none-any"
    build: str = ""
    console_scripts: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, bytes] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    license: str = "BSD-3-Clause"

    @property
    def stem(self) -> str:
        """``NAME-VERSION`` as wheels spell it."""
        return f"{normalized(self.name).replace('-', '_')}-{self.version}"

    @property
    def filename(self) -> str:
        """The wheel's file name."""
        build = f"-{self.build}" if self.build else ""
        return f"{self.stem}{build}-{self.tag}.whl"

    def metadata(self) -> bytes:
        """What its ``METADATA`` says."""
        lines = ["Metadata-Version: 2.4", f"Name: {self.name}", f"Version: {self.version}"]
        lines.append(f"License-Expression: {self.license}")
        if self.requires_python:
            lines.append(f"Requires-Python: {self.requires_python}")
        lines += [f"Provides-Extra: {extra}" for extra in self.extras]
        lines += [f"Requires-Dist: {requirement}" for requirement in self.requires]
        return ("\n".join(lines) + "\n").encode()


def wheel_bytes(wheel: Wheel) -> bytes:
    """The wheel, whole; the same bytes for the same argument on any machine."""
    members = _members(wheel)
    record = f"{wheel.stem}.dist-info/RECORD"
    lines = [f"{name},{_record_hash(data)},{len(data)}\n" for name, data in members.items()]
    members[record] = "".join([*lines, f"{record},,\n"]).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            executable = name.startswith(f"{wheel.stem}.data/scripts/")
            entry.create_system, entry.external_attr = 3, (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _members(wheel: Wheel) -> dict[str, bytes]:
    """Everything in the wheel but ``RECORD``, the metadata last, as installers like it."""
    pythons, abis, platforms = (part.split(".") for part in wheel.tag.split("-"))
    tags = [f"{python}-{abi}-{name}" for python in pythons for abi in abis for name in platforms]
    pure = str(wheel.tag.endswith("-none-any")).lower()
    lines = ["Wheel-Version: 1.0", "Generator: envforge-demo", f"Root-Is-Purelib: {pure}"]
    lines += [f"Tag: {tag}" for tag in tags]
    if wheel.build:
        lines.append(f"Build: {wheel.build}")
    members = dict(sorted(wheel.files.items()))
    members |= {f"{wheel.stem}.data/data/{path}": data for path, data in sorted(wheel.data.items())}
    members |= {f"{wheel.stem}.data/scripts/{path}": data for path, data in sorted(wheel.scripts.items())}
    folder = f"{wheel.stem}.dist-info"
    members[f"{folder}/METADATA"] = wheel.metadata()
    members[f"{folder}/WHEEL"] = ("\n".join(lines) + "\n").encode()
    if wheel.console_scripts:
        commands = "".join(f"{name} = {target}\n" for name, target in sorted(wheel.console_scripts.items()))
        members[f"{folder}/entry_points.txt"] = f"[console_scripts]\n{commands}".encode()
    return members


def _record_hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


class IndexBuilder:
    """Puts wheels below ``files/`` of a directory and pages about them below ``simple/``."""

    def __init__(self, directory: Path) -> None:
        """Write below ``directory``, which is made when it is needed."""
        self.directory = directory
        self._links: dict[str, dict[str, str]] = {}

    @property
    def url(self) -> str:
        """The index as a ``file://`` URL, for ``--index-url``."""
        return (self.directory / "simple").resolve().as_uri()

    def add(self, wheel: Wheel, *, yanked: str | None = None) -> Path:
        """Write ``wheel`` with its metadata beside it and remember the link to it.

        :param yanked: why its page says that it should not be used any more.
        :returns: the file written.
        :raises CouldNotError: if it cannot be written.
        """
        data, metadata = wheel_bytes(wheel), wheel.metadata()
        path = self.directory / "files" / wheel.filename
        write_file(path, data)
        write_file(path.with_name(f"{path.name}.metadata"), metadata)
        core = f"sha256={hashlib.sha256(metadata).hexdigest()}"
        attributes = {
            "href": f"../../files/{path.name}#sha256={hashlib.sha256(data).hexdigest()}",
            "data-core-metadata": core,
            "data-dist-info-metadata": core,
        }
        if wheel.requires_python:
            attributes["data-requires-python"] = wheel.requires_python
        if yanked is not None:
            attributes["data-yanked"] = yanked
        text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
        self._links.setdefault(normalized(wheel.name), {})[path.name] = f"<a {text}>{path.name}</a>"
        return path

    def write_index(self) -> None:
        """Write the page of every project and the list of all of them.

        :raises CouldNotError: if one cannot be written.
        """
        simple = self.directory / "simple"
        for project, links in self._links.items():
            write_file(
                simple / project / "index.html", _page(project, [links[name] for name in sorted(links)])
            )
        projects = [f'<a href="{project}/">{project}</a>' for project in sorted(self._links)]
        write_file(simple / "index.html", _page("Simple index", projects))


def _page(title: str, links: list[str]) -> bytes:
    head = (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta name="pypi:repository-version" content="1.1">\n'
        f"<title>{title}</title>\n</head>\n<body>\n"
    )
    return (head + "".join(f"{link}<br>\n" for link in links) + "</body>\n</html>\n").encode()


@dataclass(frozen=True, kw_only=True)
class DemoIndex:
    """The demonstration index: its directory, and its URL for ``--index-url``."""

    path: Path
    url: str


_CLIENT = b'''"""Say where the parts of the client come from."""

import greet_core
import greet_wire


def main():
    print("core", greet_core.VERSION, "from", greet_core.ORIGIN)
    print("wire", greet_wire.VERSION)
'''


def demo_wheels() -> tuple[Wheel, ...]:
    """``greet-client`` and ``greet-wire``, and a ``greet-core`` newer than the one of the channel.

    Whoever resolves ``greet-client`` without minding what conda provides gets the newer one.
    """
    return (
        Wheel(
            name="greet-client",
            version="2.0",
            requires=("greet-core>=1", "greet-wire"),
            requires_python=">=3.10",
            files={"greet_client/__init__.py": b"", "greet_client/cli.py": _CLIENT},
            console_scripts={"greet-client": "greet_client.cli:main"},
        ),
        Wheel(
            name="greet-core",
            version="1.9",
            files={"greet_core/__init__.py": b'VERSION = "1.9"\nORIGIN = "pypi"\n'},
        ),
        Wheel(name="greet-wire", version="0.3", files={"greet_wire/__init__.py": b'VERSION = "0.3"\n'}),
    )


def build_demo_index(directory: Path) -> DemoIndex:
    """Make an index with the wheels of :func:`demo_wheels` in ``directory``.

    :raises CouldNotError: if it cannot be written.
    """
    builder = IndexBuilder(directory)
    for wheel in demo_wheels():
        builder.add(wheel)
    builder.write_index()
    return DemoIndex(path=directory, url=builder.url)
