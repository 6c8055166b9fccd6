"""The receipt: what ``install`` leaves in a generation, and what ``verify`` holds it against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage
from envforge.model.manifest import check_inside

__all__ = ["BYTECODE", "Difference", "FileRecord", "Receipt", "compare"]

BYTECODE = "bytecode"
"""The key of a receipt's ``tools`` that says by which Python of another machine bytecode was made, or
``none``; not there where the environment's own Python made it."""

KINDS = ("file", "link", "directory", "special")
"""``special`` is what no package brings: a socket, a pipe, a device."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One entry of a generation.

    ``mode`` are the permission bits (``None`` for a link), ``size`` bytes and ``sha256`` are a file's
    content, ``target`` a link's text.  ``owner`` is ``conda:NAME``, ``pip:NAME`` or ``envforge``;
    ``how`` says how it came to be: ``packaged`` (byte for byte from the artifact), ``prefix`` (with the
    placeholder replaced), ``entry-point``, ``script``, ``metadata``, ``bytecode``, ``directory``.
    """

    path: str
    kind: str
    mode: int | None = None
    size: int | None = None
    sha256: str | None = None
    target: str | None = None
    owner: str = "envforge"
    how: str = "packaged"

    def __post_init__(self) -> None:
        check_inside(self.path, at="path")
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is no kind of file; one of {', '.join(KINDS)}", at="kind")

    @classmethod
    def of(cls, fields: dict[str, Any]) -> FileRecord:
        """The record of exactly these eight fields, of the right types: a third of the usual time.

        A frozen dataclass is made field by field; a receipt has 60,000 records.
        """
        record = object.__new__(cls)
        record.__dict__.update(fields)
        record.__post_init__()
        return record

    @property
    def state(self) -> tuple[str, int | None, int | None, str | None, str | None]:
        """What can be seen on disk: everything but owner and how."""
        return (self.kind, self.mode, self.size, self.sha256, self.target)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was installed, where, by what, and every file of it; the same each time, so without a date.

    ``generation`` is the path that the environment is linked for, ``prefix`` the path that people use.
    ``lock`` is :meth:`Lockfile.digest`, ``lockfile`` the sha256 of the YAML file that was shared; ``python``
    the interpreter of a virtual environment, ``scripts`` the packages whose post-link scripts were run,
    ``runtime`` the sha256 of the archive of envforge's own runtime in it, where a bundle brought one.
    """

    prefix: str
    generation: str
    platform: str
    groups: tuple[str, ...]
    lock: str
    lockfile: str | None
    tools: Mapping[str, str]
    packages: tuple[LockedPackage, ...]
    files: tuple[FileRecord, ...]
    python: str | None = None
    scripts: tuple[str, ...] = ()
    runtime: str | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One way in which a tree is not what it should be: ``changed``, ``missing`` or ``added``.

    ``unread`` is what cannot be read, so that nobody knows.  ``cause`` says by whom it came, where that is
    known: ``pip installed requests 2.32.0 (was 2.31.0)``.
    """

    kind: str
    path: str
    detail: str = ""
    owner: str = ""
    cause: str = ""


def compare(expected: Mapping[str, FileRecord], found: Mapping[str, FileRecord]) -> tuple[Difference, ...]:
    """Every path at which two trees differ, sorted by path."""
    differences = []
    for path in sorted(expected.keys() | found.keys()):
        want, have = expected.get(path), found.get(path)
        if want is None:
            differences.append(Difference(kind="added", path=path))
        elif have is None:
            differences.append(Difference(kind="missing", path=path, owner=want.owner))
        elif want.state != have.state:
            differences.append(
                Difference(kind="changed", path=path, detail=_what_differs(want, have), owner=want.owner)
            )
    return tuple(differences)


def _what_differs(want: FileRecord, have: FileRecord) -> str:
    if want.kind != have.kind:
        return f"{have.kind} instead of {want.kind}"
    if want.kind == "link":
        return f"points to {have.target!r} instead of {want.target!r}"
    parts = []
    if want.size != have.size:
        parts.append(f"{have.size} bytes instead of {want.size}")
    elif want.sha256 != have.sha256:
        parts.append("content")
    if want.mode != have.mode:
        parts.append(f"mode {have.mode or 0:o} instead of {want.mode or 0:o}")
    return ", ".join(parts)
