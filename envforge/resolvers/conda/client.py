"""py-rattler's client for channels: told of a site's mirrors, certificates and logins."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envforge.edges.credentials import Credentials
from envforge.edges.fetch import Fetcher, NotFoundError, local_path
from envforge.edges.scratch import owner_mark
from envforge.model.access import Access
from envforge.resolvers.certificates import certificates

if TYPE_CHECKING:
    from rattler import Client

__all__ = ["BroughtChannels", "conda_client"]

_PUBLIC = frozenset(("conda.anaconda.org", "repo.anaconda.com", "prefix.dev", "repo.prefix.dev"))


def conda_client(access: Access, channels: Sequence[str], *, refused: bool = False) -> Client:
    """A client for ``channels`` (URLs); one of them has ``refused`` us, and the keyring is asked, too.

    py-rattler looks for logins in its own file, in netrc and in the machine's keyring as ``pixi`` writes it;
    it is told here of those that it would not find.
    """
    from rattler import Client, Config
    from rattler.networking import (
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        MirrorMiddleware,
        OciMiddleware,
        RetryMiddleware,
    )

    own = certificates(access)
    if own is not None:  # read when a client is made, and there is no option that takes a file
        os.environ["SSL_CERT_FILE"] = own
    headers = _headers(access, channels, refused=refused)
    mirrors = {
        origin: [_without_login(place) for place in places] for origin, places in access.mirrors.items()
    }
    try:
        if not headers and not mirrors:
            return Client.default_client()
        return Client(
            [
                RetryMiddleware(),
                MirrorMiddleware(mirrors),
                AddHeadersMiddleware(lambda host, _path: headers.get(host)),
                AuthenticationMiddleware(),
                OciMiddleware(),
            ]
        )
    except ValueError:  # no CA certificates on this machine: take those that py-rattler brings
        return Client.from_config(Config.from_toml('tls-root-certs = "webpki"'))


def _headers(access: Access, channels: Sequence[str], *, refused: bool) -> dict[str, dict[str, str]]:
    """What to show to each host, for logins that py-rattler does not find by itself."""
    credentials = Credentials(access)
    found = {}
    for url in (place for channel in channels for place in access.places(channel)):
        host = urlsplit(url).hostname or ""
        login = credentials.of(url)
        if url in channels and login is not None:
            continue  # in the URL, in netrc or in py-rattler's own file
        if login is None and refused and host and host not in _PUBLIC and urlsplit(url).scheme != "file":
            login = credentials.from_keyring(url)
        if login is not None and login.header is not None:
            found[host] = {"Authorization": login.header}
    return found


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class BroughtChannels:
    """Channels that py-rattler's client cannot read where they are: its repodata is brought to ``directory``.

    It takes no client certificate, and no mirror that is a directory.
    """

    def __init__(self, directory: Path, fetcher: Fetcher) -> None:
        self._directory = directory
        self._fetcher = fetcher
        self._places: dict[str, str] = {}
        self._fresh: set[Path] = set()
        self._lock = Lock()

    def place(self, channel: str, platform: str) -> str:
        """The URL at which the engine finds the channel: its own, or that of what was brought here.

        :raises CouldNotError: if it cannot be brought.
        """
        access = self._fetcher.access
        first = access.places(channel)[0]
        if first != channel and local_path(first) is not None:
            return first
        if not any(access.client_certificate(place) for place in access.places(channel)):
            return channel
        folder = self._directory / hashlib.sha256(channel.encode()).hexdigest()[:16]
        with self._lock:
            for subdir in (platform, "noarch"):
                self._bring(f"{channel}/{subdir}/repodata.json", folder / subdir / "repodata.json")
        self._places[folder.as_uri()] = channel
        return folder.as_uri()

    def origin(self, url: str) -> str:
        """The URL that a lockfile says for an artifact that the engine found at ``url``."""
        for place, channel in self._places.items():
            if url.startswith(f"{place}/"):
                return channel + url[len(place) :]
        return self._fetcher.access.origin(url)

    def _bring(self, url: str, path: Path) -> None:
        """Once a command; without network what an earlier command brought."""
        if path in self._fresh or (self._fetcher.offline and path.is_file()):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{owner_mark()}")
        try:
            try:
                self._fetcher.download(url, beside, sha256=None, with_md5=False)
            except NotFoundError:
                if path.parent.name == "noarch":  # which every channel has
                    raise
                beside.write_text("{}")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        self._fresh.add(path)
