"""What a shell may complete a word to: platforms, and the packages of the lockfile at hand.

It runs at every press of a key: no engine and no YAML is imported here.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from envforge.model.platforms import PLATFORMS

__all__ = ["formats", "packages", "platforms", "sources"]

_LOCKFILE = Path("conda-lock.yml")
_LARGEST = 100_000_000
_FORMATS = ("environment", "explicit", "pipfile", "pixi", "pylock", "requirements")
_NAME = re.compile(rb"^- name: ['\"]?([A-Za-z0-9_][A-Za-z0-9_.-]*)['\"]?\s*$", re.MULTILINE)
_PLATFORM = re.compile(rb"^  - ([a-z]+-[a-z0-9]+)\s*$", re.MULTILINE)


def platforms(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The platforms of the lockfile at hand, or all that can be locked for."""
    head = _content()[:100_000]
    locked = [found.decode() for found in _PLATFORM.findall(head)]
    known = [name for name in dict.fromkeys(locked) if name in PLATFORMS]
    return [name for name in known or PLATFORMS if name.startswith(incomplete)]


def formats(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The formats of other tools that a lockfile can be exported to."""
    return [name for name in _FORMATS if name.startswith(incomplete)]


def packages(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    """The packages of the lockfile at hand: ``conda-lock.yml`` here, or what ``-l`` names."""
    source = context.params.get("source")
    names = {found.decode() for found in _NAME.findall(_content(Path(source) if source else _LOCKFILE))}
    return sorted(name for name in names if name.startswith(incomplete))


def sources(
    context: click.Context,  # noqa: ARG001
    parameter: click.Parameter,  # noqa: ARG001
    incomplete: str,
) -> list[CompletionItem]:
    """Files and directories, by the shell itself."""
    return [CompletionItem(incomplete, type="file")]


def _content(path: Path = _LOCKFILE) -> bytes:
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= _LARGEST else b""
    except OSError:
        return b""
