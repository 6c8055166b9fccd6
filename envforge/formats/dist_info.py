"""What lies in a ``*.dist-info``: METADATA, WHEEL, INSTALLER, ``direct_url.json`` (PEP 376, 427, 610)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from packaging.metadata import parse_email

from envforge.formats._edges import edges_of
from envforge.model.foreign import ForeignFile, ForeignPypi
from envforge.model.lockfile import canonical_name

__all__ = ["distribution"]

_SHA256 = re.compile(r"sha256=([0-9a-fA-F]{64})")


def distribution(folder: str, texts: Mapping[str, str], *, at: str) -> ForeignPypi | None:
    """The distribution in a folder; ``None`` if it says no name or version.

    A file that is not known by URL is named as it must be called on an index, by the tags that it bears.

    :param folder: the folder's name, which stands in for METADATA that does not say it.
    """
    raw, _ = parse_email(texts.get("METADATA", ""))
    stem = folder.rpartition("/")[2].removesuffix(".dist-info")
    name, _, version = stem.partition("-")
    name, version = raw.get("name") or name, raw.get("version") or version
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not re.fullmatch(r"[^\s/\\-]+", version):
        return None
    file, source = _direct(texts.get("direct_url.json"))
    if file is None and source is None:
        file = ForeignFile(filename=_wheel_name(name, version, texts.get("WHEEL", "")))
    return ForeignPypi(
        name=canonical_name(name),
        version=version,
        files=() if file is None else (file,),
        needs=edges_of(raw.get("requires_dist", [])),
        source=source,
        seen=True,
        at=at,
    )


def _direct(text: str | None) -> tuple[ForeignFile | None, str | None]:
    """The file that was named by URL, or what else it was that was named."""
    if text is None:
        return None, None
    try:
        value: Any = json.loads(text)
        url = value["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None
    if not isinstance(url, str) or not url.isprintable():
        return None, None
    if "vcs_info" in value:
        return None, "a repository"
    if "dir_info" in value:
        return None, "a directory"
    if not re.match(r"https?://", url):
        return None, None  # a file of this machine; an index may have it, too
    archive = value.get("archive_info")
    hashes = archive.get("hashes") if isinstance(archive, dict) else None
    sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
    if not isinstance(sha256, str) and isinstance(archive, dict):
        match = _SHA256.fullmatch(str(archive.get("hash")))
        sha256 = match[1] if match else None
    usable = isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)
    url = url.partition("#")[0]
    return ForeignFile(filename=None, url=url, sha256=str(sha256).lower() if usable else None), None


def _wheel_name(name: str, version: str, text: str) -> str | None:
    """What a wheel with these tags is called; ``None`` if it does not say them."""
    tags = re.findall(r"^Tag:\s*(\S+)-(\S+)-(\S+)\s*$", text, re.MULTILINE)
    if not tags:
        return None
    parts = [".".join(sorted({tag[place] for tag in tags})) for place in range(3)]
    return f"{canonical_name(name).replace('-', '_')}-{version.replace('-', '_')}-{'-'.join(parts)}.whl"
