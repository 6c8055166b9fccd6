"""Channels as people write them, and the URLs that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["channel_urls"]

_ALIAS = "https://conda.anaconda.org"
_ANACONDA = "https://repo.anaconda.com"
_DEFAULTS = (f"{_ANACONDA}/pkgs/main", f"{_ANACONDA}/pkgs/r")


def channel_urls(channels: Iterable[str], base: Path) -> tuple[str, ...]:
    """The URLs that channels stand for, in their order, each once.

    :param channels: URLs, paths (``./channel``, ``/srv/channel``), names on anaconda.org, ``defaults`` and
        its parts (``pkgs/main``).
    :param base: the directory that a relative path is relative to.
    """
    return tuple(dict.fromkeys(url for channel in channels for url in _urls(channel, base)))


def _urls(channel: str, base: Path) -> tuple[str, ...]:
    if channel == "defaults":
        return _DEFAULTS
    if "://" in channel:
        return (channel.rstrip("/"),)
    if channel.startswith((".", "/", "~")):
        return ((base / Path(channel).expanduser()).resolve().as_uri(),)
    name = channel.strip("/")
    return (f"{_ANACONDA if name.startswith('pkgs/') else _ALIAS}/{name}",)
