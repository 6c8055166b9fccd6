"""The only module that opens sockets (py-rattler's own repodata client apart).

``requests`` does it, because it takes proxies, netrc, CA bundles and retries the way sites set them up.
A ``file:`` URL is read from disk, so that a channel or an index in a directory works like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import envforge
from envforge.errors import CouldNotError
from envforge.model.urls import redacted

__all__ = ["Downloaded", "Fetcher", "NotFoundError", "local_path"]

_CHUNK = 1 << 18
_RETRIED = (429, 500, 502, 503, 504)


class NotFoundError(CouldNotError):
    """The server, or the disk, has no such file."""


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """What arrived: hashes in lower-case hex, size in bytes."""

    sha256: str
    md5: str
    size: int


def local_path(url: str) -> Path | None:
    """The path that a ``file:`` URL names; ``None`` for any other URL."""
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


class Fetcher:
    """Reads URLs; one may be shared by threads.

    :param offline: refuse everything that would need a socket.
    :param timeout: seconds without a byte after which a server counts as dead.
    :param retries: how often a request is tried again after 429, 5xx or a lost connection.
    """

    def __init__(self, *, offline: bool = False, timeout: float = 60, retries: int = 3) -> None:
        self.offline = offline
        self.timeout = timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"envforge/{envforge.__version__}"
        # Bytes as they lie on the server: a hash is over those, whatever Content-Encoding would undo.
        self._session.headers["Accept-Encoding"] = "identity"
        policy = Retry(total=retries, backoff_factor=0.3, status_forcelist=_RETRIED, raise_on_status=False)
        adapter = HTTPAdapter(max_retries=policy, pool_maxsize=16)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def download(
        self,
        url: str,
        destination: Path,
        *,
        sha256: str | None,
        md5: str | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Downloaded:
        """Write what ``url`` holds to the new file ``destination``, hashing it on the way.

        Nothing is left at ``destination`` on failure.

        :param sha256: what the content must hash to; ``None`` only where nobody knows it yet.
        :param advance: told the number of bytes as they arrive.
        :raises NotFoundError: if there is no such file.
        :raises CouldNotError: for every other failure: connection, status, half a file, a wrong hash.
        """
        try:
            with destination.open("xb") as out:
                got = self._copy(url, out, advance)
            self._check(url, got, sha256, md5)
        except FileExistsError:
            raise
        except OSError as error:
            destination.unlink(missing_ok=True)
            raise CouldNotError(
                f"cannot write {destination}: {error.strerror or error}", at=str(destination)
            ) from error
        except BaseException:
            destination.unlink(missing_ok=True)
            raise
        return got

    def read(self, url: str, *, limit: int) -> bytes:
        """The content of a small file, at most ``limit`` bytes.

        :raises NotFoundError: if there is no such file.
        :raises CouldNotError: for every other failure, and for more than ``limit`` bytes.
        """
        content = bytearray()
        for chunk in self._chunks(url):
            content += chunk
            if len(content) > limit:
                raise CouldNotError(f"more than {limit} bytes", at=redacted(url))
        return bytes(content)

    def reachable(self, url: str, *, timeout: float = 3) -> bool:
        """Whether a server answers at ``url`` at all within ``timeout`` seconds."""
        if self.offline:
            return False
        try:
            with requests.head(url, timeout=timeout, allow_redirects=True) as answer:
                return answer.status_code < 400
        except requests.RequestException:
            return False

    def _copy(self, url: str, out: BinaryIO, advance: Callable[[int], None]) -> Downloaded:
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        for chunk in self._chunks(url):
            out.write(chunk)
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
            advance(len(chunk))
        return Downloaded(sha256=sha256.hexdigest(), md5=md5.hexdigest(), size=size)

    @staticmethod
    def _check(url: str, got: Downloaded, sha256: str | None, md5: str | None) -> None:
        for kind, want, have in (("sha256", sha256, got.sha256), ("md5", md5, got.md5)):
            if want is not None and want != have:
                raise CouldNotError(
                    f"wrong {kind}: {have} came, the lockfile says {want}",
                    at=redacted(url),
                    do="try again; if it stays so, the file was replaced on the server: envforge lock -U",
                )

    def _chunks(self, url: str) -> Iterator[bytes]:
        path = local_path(url)
        return self._disk_chunks(path) if path is not None else self._network_chunks(url)

    @staticmethod
    def _disk_chunks(path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError("no such file", at=str(path)) from error
        except OSError as error:
            raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error

    def _network_chunks(self, url: str) -> Iterator[bytes]:
        if self.offline:
            raise CouldNotError("not in the cache, and --offline forbids to fetch it", at=redacted(url))
        try:
            answer = self._session.get(url, stream=True, timeout=self.timeout)
            with closing(answer):
                _check_status(answer, url)
                yield from _whole_body(answer, url)
        except requests.RequestException as error:
            raise _translated(error, url) from error


def _check_status(answer: requests.Response, url: str) -> None:
    status = answer.status_code
    if status < 400:
        return
    what = f"the server answered {status} {answer.reason or ''}".rstrip()
    if status in (404, 410):
        raise NotFoundError(
            what, at=redacted(url), do="check the URL; if the file is gone for good: envforge lock -U"
        )
    if status in (401, 403, 407):
        raise CouldNotError(what, at=redacted(url), do="put the credentials for this host into ~/.netrc")
    raise CouldNotError(what, at=redacted(url), do="try again later")


def _whole_body(answer: requests.Response, url: str) -> Iterator[bytes]:
    announced = answer.headers.get("Content-Length")
    came = 0
    for chunk in answer.iter_content(_CHUNK):
        came += len(chunk)
        yield chunk
    if announced is not None and announced.isdigit() and came != int(announced):
        raise CouldNotError(
            f"half a file: {came} of {announced} bytes came", at=redacted(url), do="try again"
        )


def _translated(error: requests.RequestException, url: str) -> CouldNotError:
    at, host = redacted(url), urlsplit(url).hostname
    if isinstance(error, requests.exceptions.SSLError):
        return CouldNotError(
            f"no trusted connection to {host}",
            at=at,
            do="export REQUESTS_CA_BUNDLE=/path/to/your-site-ca.pem",
            story=str(error),
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return CouldNotError(f"the proxy for {host} refused", at=at, do="check https_proxy", story=str(error))
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in str(error):
        return CouldNotError(
            f"{host} sent half a file: the connection broke off", at=at, do="try again", story=str(error)
        )
    if isinstance(error, requests.exceptions.Timeout):
        return CouldNotError(f"{host} did not answer in time", at=at, do="try again", story=str(error))
    if isinstance(error, requests.exceptions.ConnectionError):
        return CouldNotError(
            f"the connection to {host} failed", at=at, do="check the network and the URL", story=str(error)
        )
    return CouldNotError(
        f"cannot fetch from {host or url!r}: {type(error).__name__}", at=at, story=str(error)
    )
