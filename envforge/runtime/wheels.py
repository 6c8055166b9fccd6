"""The runtime's wheels: pinned by the release, by file name and hash, and fetched through a simple index."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from envforge.edges.fetch import Fetcher, NotFoundError, local_path
from envforge.errors import CouldNotError
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.urls import redacted, with_login

__all__ = ["PYPI", "find_wheel", "indexes_of_environment", "pinned_wheels"]

PYPI = "https://pypi.org/simple"
_PAGE_LIMIT = 64 << 20
_SOMEWHERE = "https://pypi.org/simple"


def pinned_wheels(platform: str) -> tuple[LockedPackage, ...]:
    """The wheels that this release of envforge runs with on ``platform``; their URLs name an index only."""
    pinned = json.loads((files("envforge") / "runtime" / "wheels.json").read_bytes())
    return tuple(
        LockedPackage(
            name=wheel["name"],
            version=wheel["version"],
            manager="pip",
            platform=platform,
            url=f"{_SOMEWHERE}/{wheel['name']}/{wheel['filename']}",
            sha256=wheel["sha256"],
        )
        for wheel in pinned["platforms"].get(platform, ())
    )


def indexes_of_environment() -> tuple[str, ...]:
    """The indexes that pip would look at: ``PIP_INDEX_URL``, else PyPI, and ``PIP_EXTRA_INDEX_URL``."""
    first = os.environ.get("PIP_INDEX_URL", "").split() or [PYPI]
    return (*first, *os.environ.get("PIP_EXTRA_INDEX_URL", "").split())


def find_wheel(row: LockedPackage, indexes: Sequence[str], fetcher: Fetcher) -> str:
    """The URL of a pinned wheel in the first index that has a file of its name.

    Which one it is does not matter: its hash is known.

    :raises CouldNotError: if none has it; an index that could not be read says why.
    """
    failed: CouldNotError | None = None
    for index in dict.fromkeys(indexes):
        page = f"{index.rstrip('/')}/{canonical_name(row.name)}/"
        folder = local_path(page)
        try:
            url = page if folder is None else (folder / "index.html").as_uri()
            content = fetcher.read(url, limit=_PAGE_LIMIT)
        except NotFoundError:
            continue
        except CouldNotError as error:
            failed = failed or error
            continue
        found = _Links.of(content.decode("utf-8", "replace"), url).get(row.filename)
        if found is not None:
            return with_login(found, indexes)
    if failed is not None:
        raise failed
    raise CouldNotError(
        f"no index has {row.filename}, which this release of envforge needs for a runtime",
        at=", ".join(redacted(index) for index in indexes),
        do="export PIP_INDEX_URL=… of an index that has it",
    )


class _Links(HTMLParser):
    """The links of an index page (PEP 503): URLs by file name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = self.base = page
        self.found: dict[str, str] = {}

    @classmethod
    def of(cls, text: str, page: str) -> dict[str, str]:
        links = cls(page)
        links.feed(text)
        return links.found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if not target:
            return
        url = urldefrag(urljoin(self.base, target)).url
        from_disk = urlsplit(self.page).scheme == "file"
        if tag == "base":
            self.base = url
        elif tag == "a" and urlsplit(url).scheme in ("http", "https", *(["file"] if from_disk else [])):
            self.found.setdefault(unquote(urlsplit(url).path.rpartition("/")[2]), url)
