"""The specification behind a file: what somebody asked for, or what may have been asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envforge.formats._draft import PYPI
from envforge.formats._halves import roots
from envforge.formats.environment_pins import channel_name
from envforge.model.foreign import ForeignConda, ForeignLock
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.platforms import PLATFORMS
from envforge.model.spec import EnvironmentSpec, Line
from envforge.model.urls import without_secrets

__all__ = ["channels_of", "specification"]


def specification(lock: ForeignLock, lockfile: Lockfile, source: str) -> EnvironmentSpec:
    """A specification that ``lockfile`` satisfies.

    What was asked for, where the file says it; else each package of ``main`` that no other one needs, by its
    name alone: locking again keeps the locked versions.  Where no conda package brings a Python, one is asked
    for, because wheels need it.
    """
    main = [row for row in lockfile.packages if row.category == "main"]
    conda = [row for row in main if row.manager == "conda"]
    pip = [row for row in main if row.manager == "pip"]
    asked = list(lock.asked_conda) or [
        _line(row) for row in roots(lockfile, "conda", "main", lockfile.platforms)
    ]
    if pip and not any(re.match(r"python\b", text) for text in asked):
        asked.insert(0, _python(lock, conda))
    channels = [channel_name(channel.url) for channel in lockfile.channels] or ["conda-forge"]
    indexes = tuple(without_secrets(url, tokens=False) for url in lock.indexes)
    lines = list(lock.asked_pip) or [
        canonical_name(row.name) for row in roots(lockfile, "pip", "main", lockfile.platforms)
    ]
    return EnvironmentSpec(
        name=lockfile.custom.get("envforge.name"),
        channels=tuple(channels),
        platforms=tuple(platform for platform in lockfile.platforms if platform in PLATFORMS),
        conda=tuple(Line(text=text, at=source) for text in dict.fromkeys(asked)),
        pip=tuple(Line(text=text, at=source) for text in dict.fromkeys(lines)),
        indexes=() if indexes in ((), (PYPI,)) else indexes,
        sources=(source,),
    )


def channels_of(conda: Sequence[ForeignConda]) -> tuple[str, ...]:
    """The channels that packages came from, the one with most of them first."""
    counts: dict[str, int] = {}
    for one in conda:
        if one.url is not None:
            channel = one.url.split("?")[0].rsplit("/", 2)[0]
            counts[channel] = counts.get(channel, 0) + 1
    return tuple(sorted(counts, key=lambda url: (-counts[url], url)))


def _line(row: LockedPackage) -> str:
    if row.name == "python":
        return "python=" + ".".join(row.version.split(".")[:2])
    return row.name


def _python(lock: ForeignLock, conda: Sequence[LockedPackage]) -> str:
    own = next((row for row in conda if row.name == "python"), None)
    if own is not None:
        return _line(own)
    if lock.python is not None:
        return "python=" + ".".join(lock.python.split(".")[:2])
    return f"python {lock.requires_python}" if lock.requires_python else "python"
