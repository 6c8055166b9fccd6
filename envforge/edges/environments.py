"""Environments that another tool made: a conda environment, a virtual environment; what is installed in them.

Nothing of theirs is started.  They say less than a lockfile: a wheel that pip installed has no URL, and
often no hash.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform as machine
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envforge.edges.installed import environment_kind, record_paths, site_packages
from envforge.errors import CouldNotError, InputError
from envforge.model.graph import Asked
from envforge.model.holding import Holding
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile, canonical_name, join_specs
from envforge.model.platforms import PLATFORMS, platform_of
from envforge.model.urls import without_secrets
from envforge.reporting import Reporter

__all__ = ["read_environment"]

_LARGEST = 50_000_000  # bytes of one record; tens of thousands of files are a few million
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.!+-]*")
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?(?P<rest>[^;)]*)")
_INFO = re.compile(r"(?P<info>.*site-packages/[^/]+\.(?:dist-info|egg-info))(?:/|$)")


@dataclass
class _Found:
    rows: list[LockedPackage] = field(default_factory=list)
    sizes: dict[tuple[str, str, str], int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def add(self, row: LockedPackage, size: int | None, asked: str | None) -> None:
        self.rows.append(row)
        if size is not None:
            self.sizes[row.manager, row.name, row.platform] = size
        if asked:
            self.asked.append(Asked(name=row.name, manager=row.manager, text=asked))


def read_environment(path: Path, *, reporter: Reporter) -> Holding:
    """What is installed in the conda or virtual environment at ``path``.

    What was asked for is known where the tool wrote it down: ``requested_spec`` of a conda package, the
    ``REQUESTED`` of a wheel.

    :raises InputError: if there is no such environment.
    :raises CouldNotError: if it cannot be read.
    """
    kind = environment_kind(path)
    if kind is None:
        raise InputError("no conda or virtual environment", at=str(path), do="name the right directory")
    found = _Found()
    platform, owned = _conda(path, found) if kind == "conda" else (_here(), set())
    for folder in site_packages(path):
        _python(path, folder, platform, owned, found)
    if found.unusable:
        named = ", ".join(found.unusable[:4]) + (", …" if len(found.unusable) > 4 else "")
        reporter.note(f"{path}: {len(found.unusable)} records cannot be used, and are left out: {named}")
    channels = dict.fromkeys(row.channel for row in found.rows if row.manager == "conda")
    lockfile = Lockfile(
        packages=tuple(found.rows),
        channels=tuple(LockedChannel(url=url) for url in channels),
        platforms=(platform,),
        custom={"envforge.name": path.absolute().name},
    )
    return Holding(
        source=str(path),
        kind=kind,
        lockfile=lockfile,
        groups=("main",),
        asked=tuple(found.asked) or None,
        sizes=found.sizes,
    )


def _here() -> str:
    return platform_of(machine.system(), machine.machine())


# -- conda ---------------------------------------------------------------------------------------------


def _conda(path: Path, found: _Found) -> tuple[str, set[str]]:
    """The platform of a conda environment, and the metadata of Python packages that conda's own brought."""
    records = dict(_records(path, found))
    subdirs = Counter(str(record.get("subdir")) for record in records.values())
    native = [subdir for subdir, _ in subdirs.most_common() if subdir in PLATFORMS]
    platform = native[0] if native else _here()
    owned: set[str] = set()
    known: set[str] = set()
    for name, record in records.items():
        try:
            row, size, asked = _conda_row(record, platform), _installed(record), _requested(record)
            brought = {
                match["info"] for file in record.get("files") or () if (match := _INFO.match(str(file)))
            }
        except (InputError, KeyError, TypeError, ValueError, AttributeError):
            found.unusable.append(name)
            continue
        if row.name in known:  # what a half-done installation left
            found.unusable.append(name)
            continue
        known.add(row.name)
        found.add(row, size, asked)
        owned |= brought
    return platform, owned


def _records(environment: Path, found: _Found) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        for path in record_paths(environment):
            record = _document(path)
            if record is None:
                found.unusable.append(path.stem)
            else:
                yield path.stem, record
    except OSError as error:
        raise CouldNotError(
            f"cannot be read: {error.strerror or error}",
            at=str(environment / "conda-meta"),
            do="check who may read it",
        ) from error


def _document(path: Path) -> dict[str, Any] | None:
    if not _readable(path):
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _readable(path: Path) -> bool:
    """Whether it is a file that can be read: a pipe would never end."""
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST


def _conda_row(record: Mapping[str, Any], platform: str) -> LockedPackage:
    name, version = _word(record["name"]), _word(record["version"])
    url = str(record.get("url") or "")
    if not url.partition("?")[0].endswith((".conda", ".tar.bz2")):
        file = f"{name}-{version}-{_word(record['build'])}.conda"
        url = f"{str(record['channel']).rstrip('/')}/{record.get('subdir') or platform}/{file}"
    if not url.isprintable():
        raise ValueError(url)
    return LockedPackage(
        name=name,
        version=version,
        manager="conda",
        platform=platform,
        url=without_secrets(url, tokens=True),
        sha256=_hash(record.get("sha256"), _SHA256),
        md5=_hash(record.get("md5"), _MD5),
        dependencies=join_specs(str(spec) for spec in record.get("depends") or ()),
    )


def _installed(record: Mapping[str, Any]) -> int | None:
    """The bytes of the files of a package, as far as its record says."""
    paths = (record.get("paths_data") or {}).get("paths") or ()
    sizes = [entry.get("size_in_bytes") for entry in paths]
    known = [size for size in sizes if isinstance(size, int) and 0 <= size < 1 << 50]
    return sum(known) if known else None


def _requested(record: Mapping[str, Any]) -> str | None:
    """The MatchSpec that somebody asked for: conda writes ``None`` as a text where nobody did."""
    many = record.get("requested_specs")
    text = ", ".join(map(str, many)) if isinstance(many, list) and many else str(record.get("requested_spec"))
    return text if text not in ("", "None") and text.isprintable() else None


# -- PyPI ----------------------------------------------------------------------------------------------


def _python(path: Path, folder: Path, platform: str, owned: set[str], found: _Found) -> None:
    """What pip, uv or another tool put beside what conda brought."""
    prefix = f"{folder.relative_to(path).as_posix()}/"
    known = {row.name for row in found.rows if row.manager == "pip"}
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        info = getattr(distribution, "_path", None)
        name = str(info and Path(info).name)
        if f"{prefix}{name}" in owned:
            continue
        try:
            _check_files(Path(str(info)))
            row = _python_row(distribution, platform)
            size = sum(file.size or 0 for file in distribution.files or ()) or None
            asked = row.name if distribution.read_text("REQUESTED") is not None else None
        except (InputError, KeyError, TypeError, ValueError, AttributeError, OSError):
            found.unusable.append(name)
            continue
        if row.name not in known:
            known.add(row.name)
            found.add(row, size, asked)


def _check_files(info: Path) -> None:
    """Refuse metadata that is no file, or too large, before it is read by somebody who does not ask."""
    for path in info.iterdir() if info.is_dir() else [info]:
        if not _readable(path) and not path.is_dir():
            raise ValueError(path)


def _python_row(distribution: importlib.metadata.Distribution, platform: str) -> LockedPackage:
    needs: dict[str, str] = {}
    for text in distribution.requires or ():
        match = _REQUIREMENT.match(text)
        if match is not None and "extra" not in text.partition(";")[2]:
            needs[canonical_name(match["name"])] = match["rest"].strip() or "*"
    url, sha256 = _direct_url(distribution)
    return LockedPackage(
        name=canonical_name(_word(distribution.metadata["Name"])),
        version=_word(distribution.version),
        manager="pip",
        platform=platform,
        url=url,
        sha256=sha256,
        dependencies=needs,
    )


def _direct_url(distribution: importlib.metadata.Distribution) -> tuple[str, str | None]:
    """Where a package came from that was not taken from an index (PEP 610): its URL and sha256."""
    with suppress(ValueError, RecursionError, AttributeError):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        url = without_secrets(str(origin.get("url") or ""), tokens=False)
        hashes = (origin.get("archive_info") or {}).get("hashes") or {}
        return url if url.isprintable() else "", _hash(hashes.get("sha256"), _SHA256)
    return "", None


def _word(text: object) -> str:
    if not isinstance(text, str) or not _WORD.fullmatch(text):
        raise ValueError(text)
    return text


def _hash(text: object, form: re.Pattern[str]) -> str | None:
    return text if isinstance(text, str) and form.fullmatch(text) else None
