"""Stubs: wheels of nothing but metadata, which stand for what conda packages bring.

uv is told by a URL constraint that the stub is the one distribution of that name: it sees the version that
conda chose, finds no dependencies to follow, and a requirement that the version does not meet is a conflict.

A stub is a pure function of its metadata and lies in the cache under its digest.  The path must not change
from one resolving to the next: uv keeps ten files and directories for each stub path that it has ever seen.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from envforge.errors import CouldNotError
from envforge.model.lockfile import canonical_name
from envforge.resolvers.pypi.metadata import Metadata, parse_metadata
from envforge.resolvers.pypi.request import ProvidedDistribution

__all__ = ["Stub", "stubs_for"]

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Stub:
    """A provided distribution as uv is shown it: canonical name, normal version, extras and their needs."""

    name: str
    version: Version
    distribution: ProvidedDistribution
    metadata: Metadata

    @property
    def filename(self) -> str:
        """The wheel's name."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def content(self) -> bytes:
        """The wheel: the same bytes for the same metadata."""
        info = f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, text in (
                ("METADATA", self._metadata()),
                (
                    "WHEEL",
                    "Wheel-Version: 1.0\nGenerator: envforge\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                ),
                ("RECORD", ""),
            ):
                archive.writestr(zipfile.ZipInfo(f"{info}/{name}", _EPOCH), text)
        return buffer.getvalue()

    def _metadata(self) -> str:
        lines = ["Metadata-Version: 2.1", f"Name: {self.name}", f"Version: {self.version}"]
        lines += [f"Provides-Extra: {extra}" for extra in sorted(self.metadata.extras)]
        lines += [f"Requires-Dist: {requirement}" for requirement in self.metadata.only_for_extras]
        return "\n".join(lines) + "\n"

    def constraint(self, directory: Path) -> str:
        """The line for uv; the wheel is put below ``directory`` first, where it is not there yet.

        :raises CouldNotError: if it cannot be written.
        """
        content = self.content()
        path = directory / hashlib.sha256(content).hexdigest()[:32] / self.filename
        try:
            if not path.is_file() or path.read_bytes() != content:
                _write(path, content)
        except OSError as error:
            raise CouldNotError(
                f"cannot write to the cache: {error.strerror or error}", at=str(error.filename or path)
            ) from error
        return f"{self.name} @ {path.as_uri()}"


def stubs_for(provided: Iterable[ProvidedDistribution]) -> dict[str, Stub]:
    """The stubs by canonical name, sorted.

    What has no PEP 440 version is left out: no Python tool would see such a distribution either.  Where two
    conda packages bring the same distribution, the one of that very name counts, else the first by name.
    """
    found: dict[str, Stub] = {}
    ordered = sorted(
        provided,
        key=lambda d: (
            canonical_name(d.name),
            canonical_name(d.conda_name) != canonical_name(d.name),
            d.conda_name,
        ),
    )
    for distribution in ordered:
        name = canonical_name(distribution.name)
        try:
            version = Version(distribution.version)
        except InvalidVersion:
            continue
        found.setdefault(
            name,
            Stub(
                name=name,
                version=version,
                distribution=distribution,
                metadata=parse_metadata(distribution.metadata or ""),
            ),
        )
    return found


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
