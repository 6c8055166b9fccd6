"""``import FILE``: what a file says, of whatever kind its content shows it to be."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from envforge.errors import InputError
from envforge.formats import (
    conda_list,
    environment_pins,
    explicit_txt,
    hashed_requirements,
    pipfile_lock,
    pixi_lock,
    poetry_lock,
    pylock_toml,
    uv_lock,
)
from envforge.formats.recognise import recognise
from envforge.model.foreign import ForeignLock

__all__ = ["read_lock"]

_READERS: Mapping[str, Callable[..., ForeignLock]] = {
    "conda-list": conda_list.read,
    "environment": environment_pins.read,
    "explicit": explicit_txt.read,
    "pipfile": pipfile_lock.read,
    "pixi": pixi_lock.read,
    "poetry": poetry_lock.read,
    "pylock": pylock_toml.read,
    "requirements": hashed_requirements.read,
    "uv": uv_lock.read,
}


def read_lock(text: str, *, source: str, environment: str | None = None) -> ForeignLock:
    """What a file says, of whatever kind its content shows it to be.

    :param source: the file's name, for errors.
    :param environment: which environment of a ``pixi.lock``.
    :raises InputError: for a file of another kind, or one that contradicts itself.
    """
    kind = recognise(text, source=source)
    if environment is not None:
        if kind != "pixi":
            raise InputError(
                f"this is no pixi.lock, and has no environments: {kind}",
                at="--environment",
                do="leave it out",
            )
        return pixi_lock.read(text, source=source, environment=environment)
    reader = _READERS.get(kind)
    if reader is None:
        raise InputError(
            "this is a conda-lock.yml already" if kind == "conda-lock" else f"a file of kind {kind}",
            at=source,
            do=f"use it as it is: envforge install {shlex.quote(source)} --prefix PREFIX",
        )
    return reader(text, source=source)
