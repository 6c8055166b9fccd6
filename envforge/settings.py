"""Where envforge keeps things, and what the environment says about it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_directory", "log_file", "store_layers", "use_log_file"]

_log: list[Path] = []


def cache_directory() -> Path:
    """Repodata, metadata and downloads of the laptop's half: ``ENVFORGE_CACHE``, else the XDG cache."""
    named = os.environ.get("ENVFORGE_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "envforge"


def store_layers(named: tuple[Path, ...], default: Path) -> tuple[Path, tuple[Path, ...]]:
    """The layer to write to and the layers to read.

    ``--store SITE --store MINE``: the last is written to, the others are read.  Without one,
    ``ENVFORGE_STORE`` (several separated by ``:``), else ``default``.
    """
    paths = named or tuple(Path(p) for p in os.environ.get("ENVFORGE_STORE", "").split(os.pathsep) if p)
    if not paths:
        return default, ()
    return paths[-1], paths[:-1]


def use_log_file(path: Path) -> None:
    """Have the story of a failure written to ``path``: on a node, beside the prefix."""
    _log[:] = [path]


def log_file() -> Path:
    """Where the story of a failure goes: as told, else the XDG state directory."""
    if _log:
        return _log[0]
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "envforge" / "log.txt"
