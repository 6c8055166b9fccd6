"""``import PREFIX``: what is there, in a conda environment, a virtual environment or an archive of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envforge.edges.installed import InstalledTexts, environment_kind, is_archive, read_installed
from envforge.errors import InputError
from envforge.formats.conda_meta import asked_for, files_of, parse_record, record
from envforge.formats.dist_info import distribution
from envforge.importing.specifying import channels_of
from envforge.model.foreign import ForeignConda, ForeignLock, ForeignPypi
from envforge.model.lockfile import canonical_name

__all__ = ["is_installed", "read_prefix"]

_SEEDED = ("pip", "setuptools", "wheel")
"""What a virtual environment is made with; it counts only where something needs it."""
_VERSION = re.compile(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", re.MULTILINE)


def is_installed(path: Path) -> bool:
    """Whether ``path`` is an environment, or an archive that may hold one."""
    if path.is_dir():
        if environment_kind(path) is None:
            raise InputError(
                "neither a conda environment nor a virtual environment: no conda-meta, no pyvenv.cfg",
                at=str(path),
                do="name the directory in which bin/ lies, or a file",
            )
        return True
    return is_archive(path) is not None


def read_prefix(path: Path, *, host: str) -> ForeignLock:
    """What is installed at ``path``, and what was asked for where that is known.

    :param path: a directory, or an archive such as conda-pack makes.
    :param host: the platform of a virtual environment that is on this machine.
    :raises InputError: if it is no environment, or one that is damaged.
    """
    texts = read_installed(path)
    values = {name: parse_record(text, at=f"{path}: {name}") for name, text in sorted(texts.records.items())}
    found = [record(value, at=f"{path}: conda-meta/{name}") for name, value in values.items()]
    platform = _platform(found, host, path)
    conda = tuple(_of_channel(one, platform) for one in found)
    owned = {file for value in values.values() for file in files_of(value) if ".dist-info/" in file}
    pypi = _distributions(texts, owned, path)
    asked = asked_for(texts.history or "", (one.name for one in conda))
    venv = _VERSION.search(texts.venv or "")
    return ForeignLock(
        kind="a conda environment" if texts.records else "a virtual environment",
        conda=conda,
        pypi=pypi,
        channels=channels_of(conda),
        platforms=(platform,),
        python=venv[1] if venv and not texts.records else None,
        asked_conda=asked,
    )


def _platform(found: Sequence[ForeignConda], host: str, path: Path) -> str:
    platforms = sorted({one.platform for one in found} - {"noarch"})
    if len(platforms) > 1:
        raise InputError(
            f"packages for {' and '.join(platforms)} in one environment", at=str(path), do="name another one"
        )
    return platforms[0] if platforms else host


def _of_channel(one: ForeignConda, platform: str) -> ForeignConda:
    from dataclasses import replace

    return replace(one, platform=platform)


def _distributions(texts: InstalledTexts, owned: set[str], path: Path) -> tuple[ForeignPypi, ...]:
    """What pip or uv installed: the distributions that no conda package owns."""
    found: dict[str, ForeignPypi] = {}
    for folder, files in sorted(texts.distributions.items()):
        if any(f"{folder}/{name}" in owned for name in files):
            continue
        one = distribution(folder, files, at=f"{path}: {folder}")
        if one is not None:
            found.setdefault(one.name, one)
    needed = {edge.name for one in found.values() for edge in one.needs or () if edge.marker is None}
    seeded = [] if texts.records else [name for name in _SEEDED if name not in needed]
    return tuple(one for name, one in sorted(found.items()) if canonical_name(name) not in seeded)
