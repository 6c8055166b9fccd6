"""Envforge's own files in a runtime: what a node's commands can come to need, and nothing of the laptop's.

A table says what stays behind.  A test follows every import of every command that works on a node, and holds
that the table is right in both directions: nothing that is needed is in it, and all the rest is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["LAPTOP", "every_file", "own_files"]

LAPTOP = {
    "cli/(bundle|demo|export|import|keygen|lock|mirror|render|share)": "commands of the laptop",
    "cli/(git_driver|git_setup|merging|locked|since|specs)": "git, and what only those read",
    "bundle|demo|importing|layout|lock|mirror|render|resolvers|runtime": "the verbs of these commands",
    "export|git_setup|merge|share|sign": "and those of one file",
    "edges/(building|cache|ranged|repository)": "building sdists, repodata, packages in part, git's settings",
    "formats/(conda_list|conda_lock|environment_pins|environment_yml|explicit_txt|hashed_requirements|pipfile"
    "|pipfile_lock|pixi_lock|pixi_manifest|pixi_toml|poetry_lock|pylock_toml|pyproject_toml"
    "|requirements_txt|uv_lock)": "specifications and lockfiles: a node reads lock.json",
    "formats/_(edges|halves|merges|pip_lines|pixi_platforms|pixi_reading|plain_yaml|poetry_ranges"
    "|poetry_tables|requirement|selectors|tables|toml|uv_tables|yaml)": "what these have in common",
    "formats/(conda_meta|dist_info|dockerfile|elf|elf_stripped|recognise|repodata|simple_index"
    "|singularity)": "what is written, or looked at, on the laptop",
    "model/(foreign|markers|moments)": "their nouns",
}
"""Modules and folders below ``envforge/`` that no node's command needs, as patterns, and why."""

_LAPTOP = re.compile("|".join(f"(?:{pattern})" for pattern in LAPTOP))
_TEXTS = ("py.typed", "templates/bundle.sh", "templates/probe.sh")
"""Beside modules and what shells read; the other templates make recipes."""
_OF_SHELLS = "node/using/activation/"


def own_files() -> dict[str, bytes]:
    """Envforge's own files by their path below ``envforge/``.

    They come from the package's resources, because an editable install has no list of them.
    """
    return {name: content for name, content in every_file().items() if _is_of_a_node(name)}


def _is_of_a_node(name: str) -> bool:
    parts = name.removesuffix(".py").split("/")
    if any(_LAPTOP.fullmatch("/".join(parts[: end + 1])) for end in range(len(parts))):
        return False
    return name.endswith(".py") or name in _TEXTS or name.startswith(_OF_SHELLS)


def every_file() -> dict[str, bytes]:
    """All of envforge's files by their path below ``envforge/``, but for bytecode; lines end with ``\\n``."""
    return dict(_files(files("envforge"), ""))


def _files(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from () if entry.name == "__pycache__" else _files(entry, f"{path}{entry.name}/")
        else:
            yield f"{path}{entry.name}", entry.read_bytes().replace(b"\r\n", b"\n")
