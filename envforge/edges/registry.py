"""Pulling an image out of a registry, blob by blob and by digest, into an OCI layout on disk.

Protocol: OCI distribution-spec 1.1 (``/v2/NAME/manifests/DIGEST``, ``/v2/NAME/blobs/DIGEST``) with the tokens
that docker's registries hand out.  A login is taken from where it is for every other server: that of the host
that gives tokens, else the registry's own; else from where container tools keep theirs.  Without a tag there
is nothing that could change: what is there already is not asked for again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from envforge.edges.credentials import Credentials, Login, RefusedError
from envforge.edges.fetch import Fetcher
from envforge.edges.hashing import file_sha256
from envforge.edges.registry_logins import registry_login
from envforge.edges.scratch import make_directory, scratch, write_beside
from envforge.errors import CouldNotError, InputError
from envforge.model.oci import INDEXES, MANIFESTS, Descriptor

__all__ = ["Registry"]

_DOCUMENT_LIMIT = 16 << 20
_TOKEN_SECONDS = 45.0
"""How long a token is used: registries promise a minute."""
_CHALLENGE = re.compile(r'([a-z_]+)="([^"]*)"')
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+)(:\d+)?")


class Registry:
    """One repository of a registry.

    :param name: as docker writes it: ``rockylinux`` is that of Docker Hub, ``ghcr.io/owner/name`` another's.
    :param layout: the directory whose ``blobs`` are filled; made where it is not there.
    """

    def __init__(self, name: str, layout: Path, fetcher: Fetcher) -> None:
        host, repository = _split(name)
        scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
        self._host = f"{scheme}://{host}"
        self._repository = repository
        self._layout = layout
        self._fetcher = fetcher
        self._granted = float("-inf")

    def have_manifest(self, digest: str) -> None:
        """Have a manifest or index in the layout.

        :raises CouldNotError: if it cannot be had, or is another one.
        """
        path = self._place(digest)
        if path.is_file() and f"sha256:{file_sha256(path)}" == digest:
            return
        self._log_in()
        url = f"{self._url}/manifests/{digest}"
        try:
            content = self._fetcher.read(url, limit=_DOCUMENT_LIMIT)
        except RefusedError as error:
            error.do = f"docker login {urlsplit(self._host).netloc}   # or podman, or skopeo; or ~/.netrc"
            raise
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise CouldNotError(
                "the registry sent another manifest than was asked for", at=url, do="try again"
            )
        with scratch(path.parent) as work:
            (work / "blob").write_bytes(content)
            (work / "blob").replace(path)

    def have_blob(self, descriptor: Descriptor, advance: Callable[[int], None] = lambda _: None) -> None:
        """Have a blob in the layout.

        :param advance: told of bytes as they come.
        :raises CouldNotError: if it cannot be had, or is another one.
        """
        path = self._place(descriptor.digest)
        if path.is_file() and path.stat().st_size == descriptor.size:
            if file_sha256(path) == descriptor.hex:
                advance(descriptor.size)
                return
            path.unlink()
        self._log_in()
        with scratch(path.parent) as work:
            url = f"{self._url}/blobs/{descriptor.digest}"
            self._fetcher.download(url, work / "blob", sha256=descriptor.hex, with_md5=False, advance=advance)
            (work / "blob").replace(path)

    @property
    def _url(self) -> str:
        return f"{self._host}/v2/{quote(self._repository)}"

    def _place(self, digest: str) -> Path:
        marker = self._layout / "oci-layout"
        if not marker.exists():
            make_directory(self._layout)
            write_beside(marker, '{"imageLayoutVersion":"1.0.0"}')
        folder = make_directory(self._layout / "blobs" / "sha256")
        return folder / digest.removeprefix("sha256:")

    def _log_in(self) -> None:
        if time.monotonic() - self._granted < _TOKEN_SECONDS:
            return
        headers = {"Accept": ", ".join(MANIFESTS + INDEXES)}
        asked = ""
        try:
            self._fetcher.read(f"{self._host}/v2/", limit=_DOCUMENT_LIMIT)
        except RefusedError as error:
            asked = error.challenge
        if asked.lower().startswith("bearer "):
            headers["Authorization"] = f"Bearer {self._token(dict(_CHALLENGE.findall(asked)))}"
        elif asked and (login := self._login(self._host)) is not None and login.header:
            headers["Authorization"] = login.header
        self._fetcher.grant(self._host, headers)
        self._granted = time.monotonic()

    def _login(self, *urls: str) -> Login | None:
        credentials = Credentials(self._fetcher.access)
        found = next(filter(None, map(credentials.of, urls)), None)
        return found or registry_login(urlsplit(self._host).netloc, self._repository)

    def _token(self, asked: dict[str, str]) -> str:
        realm = asked.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("https", "http") or (
            parts.scheme == "http" and self._host.startswith("https")
        ):
            raise CouldNotError(
                "the registry asks to log in at no usable place", at=self._host, do="try again"
            )
        query = {"scope": f"repository:{self._repository}:pull"}
        if "service" in asked:
            query["service"] = asked["service"]
        login = self._login(realm, self._host)
        shown = None if login is None else login.header
        self._fetcher.grant(realm, {} if shown is None else {"Authorization": shown})
        url = f"{realm}{'&' if parts.query else '?'}{urlencode(query)}"
        try:
            answer = json.loads(self._fetcher.read(url, limit=_DOCUMENT_LIMIT))
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError, RecursionError) as error:
            raise CouldNotError("the registry's login gives no token", at=realm, do="try again") from error
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise CouldNotError("the registry's login gives no token", at=realm, do="try again")
        return token


def _split(name: str) -> tuple[str, str]:
    """Host and repository of a name."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name
    if first in ("docker.io", "index.docker.io"):
        return "registry-1.docker.io", rest if "/" in rest else f"library/{rest}"
    if not rest:
        raise InputError(f"{name!r} is no name of a docker image", at="--base")
    return first, rest
