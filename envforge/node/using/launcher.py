"""``.envforge/bin/envforge``: the command that a bundle brought, kept in a generation."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LAUNCHER", "write_launcher"]

LAUNCHER = ".envforge/bin/envforge"
"""Where it lies below a generation; the runtime is ``.envforge/runtime``."""

_TEXT = Path(__file__).with_name("activation") / "envforge"


def write_launcher(tree: Path, *, alone: bool = False) -> None:
    """Write the command into ``tree``, in which ``.envforge`` is; the same bytes in every environment.

    :param alone: whether the environment is there for envforge: then its ``bin`` has the command, too.
    :raises OSError: if the disk refuses.
    """
    path = tree / LAUNCHER
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.write_bytes(_TEXT.read_bytes())
    path.chmod(0o755)
    if alone:
        (tree / "bin").mkdir(exist_ok=True)
        (tree / "bin" / "envforge").symlink_to(f"../{LAUNCHER}")
