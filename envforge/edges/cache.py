"""Small texts that need not be fetched twice, each under the sha256 of the artifact that it was read from."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["remembered"]


def remembered(directory: Path, sha256: str | None, make: Callable[[], str]) -> str:
    """What ``make`` returned when it was asked for ``sha256`` before, or what it returns now.

    :param directory: where texts of this kind are kept.
    :param sha256: ``None`` where there is nothing to know it by: then it is made each time.
    """
    if sha256 is None:
        return make()
    file = directory / sha256[:2] / sha256
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = make()
    with suppress(OSError):  # a cache that cannot be written to is no reason to fail
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}.{id(text)}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    return text
