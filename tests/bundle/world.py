"""Bundles written from data: a header, and a tar whose runtime is a program that records what it is told."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envforge.demo.interpreter import host_platform
from envforge.formats import bundle_header
from envforge.model.bundle import ALIGNMENT, HEADER_SIZE, Header
from tests.conftest import Ended

__all__ = ["HERE", "RECORDER", "SHELLS", "TOOLS", "Node", "recorded", "runtime", "write_bundle"]

HERE = host_platform()
TOOLS = (
    "sh", "tar", "gzip",
    "sha256sum", "tail", "head", "dd", "mkdir", "mv", "rm", "cat", "chmod", "uname", "df",
)  # fmt: skip
"""All that a node need have."""

RECORDER = """\
#!/bin/sh
# Instead of Python: writes down the words it is given, and does what FAKE says.
[ "$*" != "-I -c " ] || exit 0
[ -z "${RECORD-}" ] || printf '%s\\0' "$0" "$@" >"$RECORD"
eval "${FAKE-}"
"""

_SHELLS: dict[str, Sequence[str]] = {
    "dash": ("dash",),
    "bash": ("bash",),
    "bash as sh": ("bash", "--posix"),
    "busybox": ("busybox", "sh"),
    "ksh": ("ksh",),
    "zsh as sh": ("zsh", "--emulate", "sh"),
}
SHELLS = {name: argv for name, argv in _SHELLS.items() if shutil.which(argv[0])}
"""The shells of this machine, by name."""


def runtime(python: str = RECORDER) -> bytes:
    """A ``runtime.tar.gz`` with ``python`` as the program ``runtime/bin/python3``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("runtime", "runtime/bin"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        _add(tar, "runtime/bin/python3", python.encode(), mode=0o755)
    return gzip.compress(packed.getvalue(), mtime=0)


def _add(tar: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))


def write_bundle(
    path: Path, *, packed: bytes | None = None, manifest: bytes = b"{}\n", more: bytes = b"", **values: Any
) -> Header:
    """Write a bundle to ``path``.

    :param packed: its ``runtime.tar.gz``; none if empty.
    :param more: the data of one more member.
    :param values: of the header.
    """
    packed = runtime() if packed is None else packed
    first = HEADER_SIZE + ALIGNMENT
    padded = -(-len(packed) // ALIGNMENT) * ALIGNMENT
    if packed:
        values |= {"runtime": hashlib.sha256(packed).hexdigest(), "runtime_at": first}
        values |= {"runtime_size": len(packed)}
    usual: dict[str, Any] = {
        "version": "0.2.0", "platform": HERE, "name": "greet", "kib": 1, "files": 1, "lock": "1" * 64,
        "manifest": hashlib.sha256(manifest).hexdigest(),
        "manifest_at": first + (padded + ALIGNMENT if packed else 0),
        "manifest_size": len(manifest),
    }  # fmt: skip
    header = Header(**usual | values)
    with path.open("wb") as file:
        file.write(bundle_header.write(header))
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            if packed:
                _add(tar, "runtime.tar.gz", packed)
            _add(tar, "manifest.json", manifest)
            if more:
                _add(tar, "more", more)
    return header


def recorded(record: Path) -> list[str]:
    """The words that the runtime was given, the program's own path first."""
    return record.read_bytes().decode().split("\0")[:-1]


@dataclass(frozen=True)
class Node:
    """A directory whose ``bin`` holds links to the tools of a node, and no other program is on PATH."""

    place: Path
    shell: Sequence[str]
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """Where the runtime writes down the words it is given."""
        return self.place / "record"

    @property
    def words(self) -> list[str]:
        """What the runtime was given; it must have been started, from a scratch directory."""
        program, *words = recorded(self.record)
        self.record.unlink()
        assert re.search(r"/\.work-sh-[^/]+-\d+/runtime/bin/python3$", program), program
        assert words[:4] == ["-I", "-B", "-m", "envforge"]
        return words[4:]

    @property
    def program(self) -> list[str]:
        """The shell, by its whole path, and its options."""
        found = shutil.which(self.shell[0])
        assert found is not None
        return [found, *self.shell[1:]]

    def provide(self, *, busybox: bool = False, lacks: str = "") -> Path:
        """Fill ``bin``, with what this machine has or with busybox."""
        programs = self.place / "bin"
        programs.mkdir(exist_ok=True)
        for tool in TOOLS:
            (programs / tool).unlink(missing_ok=True)
            found = shutil.which("busybox" if busybox else tool)
            assert found is not None, tool
            if tool != lacks:
                (programs / tool).symlink_to(found)
        return programs

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"PATH": str(self.place / "bin"), "RECORD": str(self.record), **self.variables, **(more or {})}

    def __call__(
        self,
        bundle: str | Path,
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        **more: Any,
    ) -> Ended:
        """``sh BUNDLE WORD…``"""
        if not (self.place / "bin").exists():
            self.provide(busybox=self.shell[0] == "busybox")
        done = subprocess.run(
            [*before, *self.program, os.fspath(bundle), *map(str, words)],
            cwd=cwd or self.place,
            env=self.environment(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **{"stdin": subprocess.DEVNULL} | more,
        )
        return Ended(done.returncode, done.stdout, done.stderr)
