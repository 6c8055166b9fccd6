"""What the other side has already, from whatever tells of it: for ``bundle --since``."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from envforge.errors import InputError

__all__ = ["what_is_there"]


def what_is_there(old: str, platform: str, groups: Collection[str]) -> tuple[frozenset[str], str, str | None]:
    """The sha256 of every artifact that ``old`` has for ``platform``, its own digest, and its runtime's.

    :param old: a bundle, a mirror, its manifest, a lockfile, or ``REVISION:PATH`` of one of the last two.
    :param groups: which groups of a lockfile were installed; a bundle says that itself.
    :raises InputError: if it is none of these, or a bundle for another platform.
    """
    path = Path(old)
    if path.is_dir():
        path = path / "manifest.json"
    if path.is_file():
        from envforge.node.sources.bundles import Bundle, is_bundle

        if is_bundle(path):
            bundle = Bundle(path)
            _check_platform(bundle.contents.platform, platform, old)
            rows = bundle.lock()[0].rows(platform, bundle.contents.groups)
            digests = frozenset(row.sha256 for row in rows if row.sha256)
            return digests, bundle.header.manifest, bundle.contents.runtime
        return _of_text(path.read_bytes(), str(path), platform, groups)
    if ":" in old:
        from envforge.edges.git import read_blob

        return _of_text(read_blob(old), old, platform, groups)
    raise InputError(
        "there is nothing of that name", at=f"--since {old}", do="name a bundle, a manifest or a lockfile"
    )


def _check_platform(its: str, platform: str, old: str) -> None:
    if its != platform:
        raise InputError(
            f"the older bundle is for {its}, and this one for {platform}",
            at=f"--since {old}",
            do=f"name a bundle for {platform}",
        )


def _of_text(
    content: bytes, place: str, platform: str, groups: Collection[str]
) -> tuple[frozenset[str], str, str | None]:
    digest = hashlib.sha256(content).hexdigest()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("neither a bundle nor a text", at=place, do="name a manifest or lockfile") from error
    if text.lstrip().startswith("{"):
        from envforge.formats import manifest_json

        files = manifest_json.read(text).files
        return frozenset(file.sha256 for file in files if file.url is not None), digest, None
    from envforge.formats import conda_lock

    lockfile = conda_lock.read(text, source=place)
    rows = (row for row in lockfile.packages if row.platform == platform and row.category in groups)
    return frozenset(row.sha256 for row in rows if row.sha256), digest, None
