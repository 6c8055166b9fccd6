"""``locks/NAME.json`` of a mirror: a lockfile as a node reads it, version 1.

Goals: the same nouns as :mod:`envforge.formats.conda_lock`, read without a YAML library and several times
faster; one row a line; a function of the lockfile alone.  ``source_sha256`` ties it to the YAML file that was
shared and reviewed: it is that file's sha256.
"""

from __future__ import annotations

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._collector import collector_paused
from envforge.formats._fields import Fields
from envforge.formats._rows import read_channel, read_package, read_platform
from envforge.model.lockfile import Lockfile

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.1.0"
_REMEDY = "make the mirror again: envforge mirror conda-lock.yml DIR   # where there is network"
_TOP = frozenset(("source_sha256", "channels", "platforms", "sources", "content_hash", "custom", "packages"))


@collector_paused()
def write(lockfile: Lockfile, *, source_sha256: str) -> str:
    """The text of ``lockfile``.

    :param source_sha256: sha256 in hex of the YAML file that it was read from.
    """
    head = {
        "envforge_lock": VERSION,
        _json.NEEDS: _NEEDS,
        "source_sha256": source_sha256,
        "platforms": sorted(lockfile.platforms),
        "sources": list(lockfile.sources),
        "content_hash": dict(sorted(lockfile.content_hash.items())),
        "custom": dict(sorted(lockfile.custom.items())),
    }
    channels = ({"url": c.url, "used_env_vars": list(c.used_env_vars)} for c in lockfile.channels)
    packages = (package.to_dict() for package in lockfile.packages)
    return _json.render(head, {"channels": channels, "packages": packages})


@collector_paused()
def read(text: str) -> tuple[Lockfile, str]:
    """The lockfile in ``text``, and the sha256 of the YAML file that it was made from.

    :raises InputError: if it is none, one of a newer version, or a damaged one; the place is relative to
        the file.
    """
    _, value = _json.parse(text, kind="lock", newest=VERSION, remedy=_REMEDY)
    try:
        return _read_1(value)
    except InputError as error:
        error.do = error.do or _REMEDY
        raise


def _read_1(value: dict[str, object]) -> tuple[Lockfile, str]:
    top = Fields(value, _TOP)
    lockfile = Lockfile(
        packages=top.each("packages", read_package),
        channels=top.each("channels", read_channel),
        platforms=top.each("platforms", read_platform),
        sources=top.texts("sources"),
        content_hash=top.mapping("content_hash"),
        custom=top.mapping("custom", free=True),
    )
    return lockfile, top.sha256("source_sha256")
