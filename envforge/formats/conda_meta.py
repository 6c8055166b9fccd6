"""What lies in an environment's ``conda-meta``: a record a package, and the history of what was asked for.

Follows conda's ``PrefixRecord`` and ``History``; micromamba and pixi write the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from envforge.errors import InputError
from envforge.formats._fields import Fields, describe
from envforge.formats.explicit_txt import from_url
from envforge.model.foreign import ForeignConda

__all__ = ["asked_for", "files_of", "parse_record", "record"]

_REMEDY = "the environment is damaged: make it again, or name another one"
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_ACTION = re.compile(r"#\s*(?P<action>[a-z]+) specs:\s*(?P<specs>.*)")
_NAME = re.compile(r"(?:[^\s=<>!~\[\]]+::)?([A-Za-z0-9_][A-Za-z0-9_.-]*)")
_CHANNEL = re.compile(r"^(?P<channel>\S+?)(?:/(?:noarch|[a-z]+-[a-z0-9_]+))?::(?P<rest>.*)$")
_PINNED = re.compile(r"(?P<name>[^\s=<>!~\[]+)==?(?P<version>[^=\s\[]+)=(?P<build>[^=\s\[]+)")
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}


def parse_record(text: str, *, at: str) -> dict[str, Any]:
    """One record.

    :raises InputError: if it is no JSON mapping.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("not a record of conda's: no JSON", at=at, do=_REMEDY) from None
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a record is needed", at=at, do=_REMEDY)
    return value


def record(value: dict[str, Any], *, at: str) -> ForeignConda:
    """The package that a record is of, as far as the record goes.

    :raises InputError: if it lacks a name, a version or a build.
    """
    fields = Fields(value, frozenset(value))
    try:
        name, version, build = (fields.text(key) for key in ("name", "version", "build"))
        depends = fields.texts("depends") if "depends" in fields else ()
    except InputError as error:
        error.do = _REMEDY
        raise error.inside(at) from None
    subdir = _text(value, "subdir") or "noarch"
    url = _url(value, subdir)
    hashes = {kind: _text(value, kind) for kind in _HEX}
    found = {kind: text for kind, text in hashes.items() if text and _HEX[kind].fullmatch(text)}
    if url is not None:
        from_url(url, subdir, at)
    return ForeignConda(
        name=name,
        version=version,
        build=build,
        platform=subdir,
        url=url,
        sha256=found.get("sha256"),
        md5=found.get("md5"),
        depends=depends,
        at=at,
    )


def _text(value: dict[str, Any], key: str) -> str | None:
    text = value.get(key)
    return text if isinstance(text, str) and text.isprintable() else None


def _url(value: dict[str, Any], subdir: str) -> str | None:
    """Where the package came from; a cache of this machine is no such place."""
    url, channel, filename = (_text(value, key) for key in ("url", "channel", "fn"))
    if url and re.match(r"(https?|s3|oci)://", url):
        return url
    if channel and re.match(r"https?://", channel) and filename:
        base = channel.rstrip("/").removesuffix(f"/{subdir}")
        return f"{base}/{subdir}/{filename}"
    return url if url and re.match(r"file://.*/(noarch|[a-z]+-[a-z0-9_]+)/[^/]+$", url) else None


def files_of(value: dict[str, Any]) -> Iterator[str]:
    """The files that a package owns, relative to the prefix."""
    files = value.get("files")
    for path in files if isinstance(files, list) else ():
        if isinstance(path, str):
            yield path


def asked_for(history: str, installed: Iterable[str]) -> tuple[str, ...]:
    """What a person asked for, as far as it is still there: the specs of every command, the last one counts.

    :param history: the text of ``conda-meta/history``.
    :param installed: the names of the packages that are there.
    """
    found: dict[str, str] = {}
    for line in history.splitlines():
        match = _ACTION.fullmatch(line.strip())
        if match is None or match["action"] not in ("update", "install", "create", "remove", "uninstall"):
            continue
        quoted = [one or other for one, other in _QUOTED.findall(match["specs"])]
        for spec in quoted or [part.strip() for part in match["specs"].split(",")]:
            name = _NAME.match(spec)
            if name is None or "://" in spec or not spec.isprintable():
                continue
            if match["action"] in ("remove", "uninstall"):
                found.pop(name[1].lower(), None)
            else:
                found[name[1].lower()] = _plain(spec)
    there = set(installed)
    return tuple(spec for name, spec in found.items() if name in there)


def _plain(spec: str) -> str:
    """A spec as environment.yml takes it: ``conda-forge/linux-64::zlib==1.3=0`` names no subdir there."""
    match = _CHANNEL.match(spec)
    channel, rest = (match["channel"], match["rest"]) if match else ("", spec)
    pinned = _PINNED.fullmatch(rest)
    if pinned is not None:
        rest = f"{pinned['name']}={pinned['version']}={pinned['build']}"
    return f"{channel}::{rest}" if channel else rest
