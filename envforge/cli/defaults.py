"""What settings say where a specification and the command line are silent, and what they do not allow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from envforge.errors import InputError
from envforge.model.access import Access
from envforge.model.spec import EnvironmentSpec
from envforge.model.urls import redacted
from envforge.settings import Settings, load_settings

__all__ = ["check_allowed", "network", "with_defaults"]


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

    :param urls: of channels, without secrets.
    :raises InputError: for the first that is not allowed.
    """
    allowed = settings.found.get("allowed-channels")
    if allowed is None:
        return
    # Where the engine lives the names of channels are known; a node knows URLs only.
    known = {_url(text) for text in allowed.value}
    for url in urls:
        if url.rstrip("/") not in known:
            raise InputError(
                f"the channel {redacted(url)} may not be used here",
                at=f"allowed-channels, {allowed.origin}",
                do=f"use one of: {' '.join(sorted(map(redacted, known)))}",
            )


def _url(text: str) -> str:
    """The URL of a channel as people write it: a URL, a path, or a name on anaconda.org."""
    if "://" in text:
        return text.rstrip("/")
    if text.startswith(("/", ".", "~")):
        return Path(text).expanduser().absolute().as_uri()
    return f"https://conda.anaconda.org/{text.strip('/')}"
