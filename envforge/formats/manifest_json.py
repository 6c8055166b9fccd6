"""``manifest.json`` of a mirror: every file by path, size, sha256 and origin, version 1.

Goals: standard library only; one file a line, sorted by path; a function of the mirror's content alone; no
path, lock or channel of it can name a place outside the mirror.
"""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._fields import Fields, describe, printable
from envforge.model.manifest import Manifest, MirrorChannel, MirrorFile

__all__ = ["VERSION", "read", "write"]

VERSION = 1
_NEEDS = "0.1.0"
_REMEDY = "carry the mirror again, or make it again: envforge mirror conda-lock.yml DIR"
_TOP = frozenset(("locks", "channels", "files"))
_CHANNEL = frozenset(("name", "url"))
_FILE = frozenset(("path", "sha256", "size", "url"))
_NAME = re.compile(r"[^/\\\s]+")


def write(manifest: Manifest) -> str:
    """The text of ``manifest``."""
    head = {"envforge_manifest": VERSION, _json.NEEDS: _NEEDS, "locks": list(manifest.locks)}
    channels = ({"name": channel.name, "url": channel.url} for channel in manifest.channels)
    files = (_file_dict(file) for file in sorted(manifest.files, key=lambda file: file.path))
    return _json.render(head, {"channels": channels, "files": files})


def _file_dict(file: MirrorFile) -> dict[str, object]:
    record: dict[str, object] = {"path": file.path, "sha256": file.sha256, "size": file.size}
    return record if file.url is None else record | {"url": file.url}


def read(text: str) -> Manifest:
    """The manifest in ``text``.

    :raises InputError: if it is none, one of a newer version, or a damaged one; the place is relative to
        the file.
    """
    _, value = _json.parse(text, kind="manifest", newest=VERSION, remedy=_REMEDY)
    try:
        return _read_1(value)
    except InputError as error:
        error.do = error.do or _REMEDY
        raise


def _read_1(value: dict[str, object]) -> Manifest:
    top = Fields(value, _TOP)
    files = top.each("files", _file)
    _json.check_unique("files", [file.path for file in files])
    return Manifest(locks=top.each("locks", _name), channels=top.each("channels", _channel), files=files)


def _name(value: object) -> str:
    """A name that becomes that of a file or directory."""
    name = printable(value)
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InputError(f"{describe(value)} where a name is needed")
    return name


def _channel(value: object) -> MirrorChannel:
    channel = Fields(value, _CHANNEL)
    name = channel.matching("name", _NAME, "a name")
    if name in (".", ".."):
        raise channel.wrong("name", "a name")
    return MirrorChannel(name=name, url=channel.text("url"))


def _file(value: object) -> MirrorFile:
    file = Fields(value, _FILE)
    return MirrorFile(
        path=file.text("path"),
        sha256=file.sha256("sha256"),
        size=file.number("size"),
        url=file.text("url") if "url" in file else None,
    )
