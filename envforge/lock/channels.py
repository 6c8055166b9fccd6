"""The channels that an environment is locked from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from envforge.edges.channels import channel_urls
from envforge.errors import InputError
from envforge.lock.options import LockOptions
from envforge.model.spec import EnvironmentSpec, Line
from envforge.model.urls import filled_in, redacted
from envforge.resolvers.conda.request import channel_meant, named_channel

__all__ = ["asked_channels", "channels_to_ask", "named_alone"]


def asked_channels(spec: EnvironmentSpec, options: LockOptions, base: Path) -> tuple[str, ...]:
    """The URLs of the channels, the most important first, as they are written: variables are not filled in.

    Those that are listed, on the command line or else in the specification; then those that only a line
    names (``CHANNEL::NAME``), as conda takes it.

    :param base: the directory that relative paths are relative to.
    """
    named = [name for name, _ in named_alone(spec, options, base)]
    return channel_urls([*(options.channels or spec.channels), *named], base)


def named_alone(spec: EnvironmentSpec, options: LockOptions, base: Path) -> Iterator[tuple[str, Line]]:
    """The channels that are listed nowhere, and for each the first line that names it."""
    known = list(channel_urls(options.channels or spec.channels, base))
    for line in spec.conda:
        name = named_channel(line.text)
        if name is not None and channel_meant(name, known) is None:
            known += channel_urls([name], base)
            yield name, line


def channels_to_ask(urls: tuple[str, ...]) -> tuple[str, ...]:
    """``urls`` with the values of the variables that their logins and tokens name.

    :raises InputError: for a variable that is not set.
    """
    found = []
    for url in urls:
        try:
            found.append(filled_in(url, os.environ))
        except KeyError as error:
            raise InputError(
                f"the variable {error.args[0]} is not set, and a channel's URL names it",
                at=redacted(url),
                do=f"export {error.args[0]}=…",
            ) from None
    return tuple(found)
