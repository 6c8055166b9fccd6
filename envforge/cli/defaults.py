"""What settings say where a specification and the command line are silent, and what they do not allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from envforge.edges.channels import channel_urls
from envforge.errors import InputError
from envforge.model.access import Access
from envforge.model.lockfile import Lockfile
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import public_url
from envforge.settings import Settings, load_settings

__all__ = ["check_allowed", "check_lockfile", "network", "with_defaults"]


def network() -> Access:
    """How hosts are reached, as the settings say."""
    return Access.of(load_settings())


def with_defaults(spec: EnvironmentSpec, settings: Settings) -> EnvironmentSpec:
    """``spec`` with the channels and indexes of ``settings`` where it names none and needs some."""
    if spec.conda and not spec.channels:
        spec = replace(spec, channels=settings.texts("channels"))
    if spec.pip and not spec.indexes:
        spec = replace(spec, indexes=settings.texts("indexes"))
    return spec


def check_allowed(urls: Iterable[str], settings: Settings) -> None:
    """Refuse channels that are not among those which a site allows, if it says which.

    :param urls: of channels.
    :raises InputError: for the first that is not allowed.
    """
    allowed = settings.found.get("allowed-channels")
    if allowed is None:
        return
    known = [_public(url) for url in channel_urls(allowed.value, Path())]
    for url in map(_public, urls):
        if url not in known:
            raise InputError(
                f"the channel {url} may not be used here",
                at=f"allowed-channels, {allowed.origin}",
                do=f"use one of: {' '.join(known)}",
            )


def check_lockfile(lockfile: Lockfile, settings: Settings) -> None:
    """Refuse a lockfile with packages of channels that a site does not allow.

    :raises InputError: as :func:`check_allowed`.
    """
    check_allowed(sorted({row.channel for row in lockfile.packages if row.manager == "conda"}), settings)


def _public(url: str) -> str:
    return public_url(url, conda=True).rstrip("/")
