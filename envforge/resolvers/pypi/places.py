"""Where artifacts are looked for, in the words of uv."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit, urlunsplit

from envforge.edges.credentials import Credentials
from envforge.edges.fetch import local_path
from envforge.errors import InputError
from envforge.model.access import Access
from envforge.model.urls import redacted, with_login

__all__ = ["PYPI", "Places", "is_folder"]

PYPI = "https://pypi.org/simple"


@dataclass(frozen=True, kw_only=True)
class Places:
    """Indexes, and directories or pages of artifacts.

    ``indexes`` are simple index URLs; the first is the default index, the others are searched before it,
    and a project is taken from the first index that has it.  Empty means PyPI.  A ``file:`` URL is a
    simple index in a directory, or a directory of wheels.
    ``index_of`` are projects, by canonical name, and the URL of the one index each is taken from.
    ``find_links`` are URLs of directories or pages that are looked at beside the indexes.
    ``access`` says where a site has what lies at these URLs; ``refused`` is whether a host has refused us,
    so that the keyring is to be asked, too.
    """

    indexes: tuple[str, ...] = ()
    index_of: tuple[tuple[str, str], ...] = ()
    find_links: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)
    refused: bool = False

    @property
    def pinned(self) -> dict[str, str]:
        """The one index of each project that has one."""
        return dict(self.index_of)

    def options(self) -> tuple[list[str], dict[str, str]]:
        """Options and variables for uv, but for ``index_of``, which it takes from a project's file only.

        The URLs go by way of the environment: every user of the machine can read a command line.

        :raises InputError: for what is no URL, or a directory that is not there.
        """
        checked = [self.fetched(_checked(index, "an index")) for index in self.indexes]
        if not checked and self.access.places(PYPI) != (PYPI,):
            checked = [self.fetched(PYPI)]
        folders = [index for index in checked if is_folder(index)]
        pages = [index for index in checked if index not in folders]
        links = [self.fetched(_checked(url, "a directory or page of artifacts")) for url in self.find_links]
        variables = {}
        if pages:
            variables["UV_DEFAULT_INDEX"] = pages[0]
        if pages[1:]:
            variables["UV_INDEX"] = " ".join(pages[1:])
        if folders or links:
            variables["UV_FIND_LINKS"] = ",".join(one.replace(",", "%2C") for one in (*folders, *links))
        return (["--no-index"] if folders and not pages else []), variables

    def fetched(self, url: str) -> str:
        """Where uv is to fetch ``url``, with the login that is needed there."""
        place = self.access.places(url)[0]
        parts = urlsplit(place)
        if parts.scheme == "file" or "@" in parts.netloc:
            return place
        credentials = Credentials(self.access)
        login = credentials.of(place) or (credentials.from_keyring(place) if self.refused else None)
        if login is None or not login.user:
            return place
        netloc = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@{parts.netloc}"
        return urlunsplit(parts._replace(netloc=netloc))

    def origin(self, url: str) -> str:
        """What a lockfile says for the ``url`` of an artifact: without login and fragment."""
        parts = urlsplit(url)
        plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        return self.access.origin(plain)

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
