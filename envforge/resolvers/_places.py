"""Where artifacts are looked for, in the words of uv."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from envforge.edges.fetch import local_path
from envforge.errors import InputError
from envforge.model.urls import redacted, with_login

__all__ = ["PYPI", "Places", "certificates"]

PYPI = "https://pypi.org/simple"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Indexes, and directories or pages of artifacts.

    ``indexes`` are simple index URLs; the first is the default index, the others are searched before it,
    and a project is taken from the first index that has it.  Empty means PyPI.  A ``file:`` URL is a
    simple index in a directory, or a directory of wheels.
    ``index_of`` are projects, by canonical name, and the URL of the one index each is taken from.
    ``find_links`` are URLs of directories or pages that are looked at beside the indexes.
    """

    indexes: tuple[str, ...] = ()
    index_of: tuple[tuple[str, str], ...] = ()
    find_links: tuple[str, ...] = ()

    @property
    def pinned(self) -> dict[str, str]:
        """The one index of each project that has one."""
        return dict(self.index_of)

    def options(self) -> tuple[list[str], dict[str, str]]:
        """Options and variables for uv, but for ``index_of``, which it takes from a project's file only.

        The URLs go by way of the environment: every user of the machine can read a command line.

        :raises InputError: for what is no URL, or a directory that is not there.
        """
        checked = [_checked(index, "an index") for index in self.indexes]
        folders = [index for index in checked if is_folder(index)]
        pages = [index for index in checked if index not in folders]
        links = [_checked(url, "a directory or page of artifacts") for url in self.find_links]
        variables = {}
        if pages:
            variables["UV_DEFAULT_INDEX"] = pages[0]
        if pages[1:]:
            variables["UV_INDEX"] = " ".join(pages[1:])
        if folders or links:
            variables["UV_FIND_LINKS"] = ",".join(one.replace(",", "%2C") for one in (*folders, *links))
        return (["--no-index"] if folders and not pages else []), variables

    def with_login(self, url: str) -> str:
        """``url`` with the credentials of the place on the same host, for the one who fetches it."""
        return with_login(url, [*self.indexes, *self.find_links, *self.pinned.values()])

    def for_builds(self) -> tuple[str, ...]:
        """The indexes that build requirements come from, and the directories of this machine."""
        folders = tuple(url for url in self.find_links if local_path(url) is not None)
        return (*(self.indexes or (PYPI,)), *folders) if folders else self.indexes


def is_folder(url: str) -> bool:
    """Whether a ``file:`` URL is a directory of wheels and no simple index."""
    path = local_path(url)
    return path is not None and any(path.glob("*.whl"))


def certificates() -> dict[str, str]:
    """A site's certificates where only ``requests`` has been told of them."""
    if "SSL_CERT_FILE" in os.environ:
        return {}
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return {"SSL_CERT_FILE": bundle} if bundle and Path(bundle).is_file() else {}


def check_places(places: Iterable[str]) -> None:
    """Refuse what is not the URL of an index, or names a directory that is not there."""
    for url in places:
        _checked(url, "an index")


def _checked(url: str, what: str) -> str:
    path = local_path(url)
    if urlsplit(url).scheme not in ("http", "https", "file") or any(c.isspace() for c in url):
        raise InputError(
            f"{redacted(url)!r} is not the URL of {what}",
            do="write https://HOST/simple or file:///DIRECTORY/simple",
        )
    if path is not None and not path.is_dir() and not (what != "an index" and path.is_file()):
        kind = what.removeprefix("an ").removeprefix("a ")
        raise InputError(f"the {kind} is not a directory", at=str(path), do="check the URL of the index")
    return url
