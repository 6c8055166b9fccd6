"""Where envforge keeps things, and what the environment says about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["FROM_BUNDLE", "cache_directory", "log_file", "store_layers", "use_log_file"]

FROM_BUNDLE = "ENVFORGE_FROM_BUNDLE"
"""The variable in which a bundle's header says which bundle this envforge was unpacked from."""

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
    # Absolute: programs that are started elsewhere are given paths in it.
    *lower, top = (path.absolute() for path in paths)
    return top, tuple(lower)


def use_log_file(path: Path) -> None:
    """Have the story of a failure written to ``path``, if its directory exists: beside the prefix."""
    _log[:] = [path]


def log_file(*, make: bool = True) -> Path | None:
    """Where the story of a failure goes: as told, else into the XDG state directory, which is made.

    ``None`` where there is no such place: on a node nothing is written below the home directory.

    :param make: whether there is something to say that is worth making a place for.

    :raises OSError: if the state directory cannot be made.
    """
    if _log:
        return _log[0] if _log[0].parent.is_dir() else None
    if not make or Path(sys.prefix).name == "runtime":  # out of a bundle: this is a node
        return None
    base = os.environ.get("XDG_STATE_HOME")
    path = (Path(base) if base else Path.home() / ".local" / "state") / "envforge" / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
