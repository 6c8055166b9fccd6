"""The only module that opens sockets (py-rattler's own repodata client apart).

``requests`` does it, because it takes proxies, netrc, CA bundles and retries the way sites set them up.
A ``file:`` URL is read from disk, so that a channel or an index in a directory works like any other.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import urlsplit

import envforge
from envforge.edges.credentials import Credentials, Login, RefusedError, certificate
from envforge.edges.partial import Downloaded, Sink, clear_partial, open_partial
from envforge.edges.scratch import is_full
from envforge.errors import CouldNotError
from envforge.model.access import Access
from envforge.model.urls import redacted

if TYPE_CHECKING:
    import requests

__all__ = ["Downloaded", "Fetcher", "NotFoundError", "local_path"]

_CHUNK = 1 << 18
_RETRIED = (429, 500, 502, 503, 504)
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+|\*)")
_PAUSE = 0.3  # seconds before going on where a connection broke off; doubled each time


class NotFoundError(CouldNotError):
    """The server, or the disk, has no such file."""


class _BrokenOffError(CouldNotError):
    """The body of an answer ended before its end: asking for the rest may help."""


class _Closes(Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class _Body:
    """A file's bytes from ``start`` to its end; ``encoded`` if the server says that they stand for others."""

    start: int
    chunks: Iterator[bytes]
    source: _Closes
    encoded: bool = False


def local_path(url: str) -> Path | None:
    """The path that a ``file:`` URL names; ``None`` for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    from urllib.request import url2pathname  # which loads an HTTP client

    return Path(url2pathname(parts.path))


class Fetcher:
    """Reads URLs; one may be shared by threads.

    :param offline: refuse everything that would need a socket.
    :param timeout: seconds without a byte after which a server counts as dead.
    :param retries: how often a request is tried again after 429, 5xx or a lost connection; a download that
        got on before the connection was lost has as many tries again.
    :param access: where a site has what lies elsewhere, and what hosts want to be shown.
    """

    def __init__(
        self, *, offline: bool = False, timeout: float = 60, retries: int = 3, access: Access | None = None
    ) -> None:
        self.offline = offline
        self.access = access or Access()
        self._credentials = Credentials(self.access)
        self.timeout = timeout
        self._retries = retries
        self._granted: dict[str, Mapping[str, str]] = {}

    @cached_property
    def _session(self) -> requests.Session:
        """Made for the first request: what needs none does not pay for loading it."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util.retry import Retry

        session = requests.Session()
        session.headers["User-Agent"] = f"envforge/{envforge.__version__}"
        # Bytes as they lie on the server: a hash is over those, whatever Content-Encoding would undo.
        session.headers["Accept-Encoding"] = "identity"
        if self.access.certificates:
            session.verify = self.access.certificates
        policy = Retry(self._retries, backoff_factor=0.3, status_forcelist=_RETRIED, raise_on_status=False)
        adapter = HTTPAdapter(max_retries=policy, pool_maxsize=64)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def grant(self, url: str, headers: Mapping[str, str]) -> None:
        """Send ``headers`` with every later request to the host of ``url``, and with none to another one."""
        self._granted[urlsplit(url).netloc] = headers

    def download(
        self,
        url: str,
        destination: Path,
        *,
        sha256: str | None,
        md5: str | None = None,
        with_md5: bool = True,
        resume: bool = False,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Downloaded:
        """Write what ``url`` holds to the file ``destination``, hashing it on the way.

        :param sha256: what the content must hash to; ``None`` only where nobody knows it yet.
        :param with_md5: whether the md5 is of interest if there is none to hold it against.
        :param resume: ``destination`` may be there and hold how the file begins: then the rest is asked for,
            and if the sha256 shows that this was of something else, all of it, once.  What came is left
            there if the connection breaks off, the disk is full, or ``advance`` raises.  Without, it must
            not exist, and nothing is left at it on failure.
        :param advance: told the number of bytes as they are there; a negative one when some are given up.
        :raises NotFoundError: if there is no such file.
        :raises CouldNotError: for every other failure: connection, status, half a file, a wrong hash.
        """
        url = self.locate(url, sha256)
        resume = resume and sha256 is not None
        keep = resume
        try:
            with open_partial(destination) if resume else destination.open("x+b") as file:
                sink = Sink(file, advance, with_md5=with_md5 or md5 is not None)
                got = self._fill(sink, url, sha256)
            keep = False
            self._check(url, got, sha256, md5)
        except FileExistsError:
            raise
        except OSError as error:
            clear_partial(destination, keep=keep)
            raise CouldNotError(
                f"cannot write {destination}: {error.strerror or error}",
                at=str(destination),
                do="make room on that disk, then the same command again"
                if is_full(error)
                else "check who may write there",
            ) from error
        except BaseException:
            clear_partial(destination, keep=keep)
            raise
        return got

    def locate(self, url: str, sha256: str | None) -> str:  # noqa: ARG002 - for those that know more places
        """Where what ``url`` names can be read: at a URL of a kind that this class opens.

        :param sha256: what its content must hash to, if that is known.
        """
        return url

    def _fill(self, sink: Sink, url: str, sha256: str | None) -> Downloaded:
        """Bring what ``sink`` lacks, or all if what it holds proves to be something else."""
        got = sink.downloaded()
        if sink.size and got.sha256 == sha256:  # only its last name was missing
            return got
        got = self._bring(sink, url, pieces=sha256 is not None)
        if sha256 is not None and got.sha256 != sha256 and sink.pieced:
            sink.restart()
            got = self._bring(sink, url, pieces=True)
        if sha256 is not None and got.sha256 != sha256 and sink.encoded:
            # A hash is over the bytes as they lie on the server.  This one seems to pack whatever it sends.
            sink.restart()
            got = self._bring(sink, url, pieces=False, decode=True)
        return got

    def _bring(self, sink: Sink, url: str, *, pieces: bool, decode: bool = False) -> Downloaded:
        """Ask for what ``sink`` lacks until all is there, or nothing more comes.

        :param pieces: whether what came of one answer may be completed from another.
        """
        failures, furthest = 0, sink.size
        while True:
            try:
                with self._opened(url, sink.size if pieces else 0, decode=decode) as body:
                    if body.start != sink.size:
                        sink.restart()
                    sink.pieced = sink.pieced or body.start > 0
                    sink.encoded = body.encoded
                    for chunk in body.chunks:
                        sink.write(chunk)
                return sink.downloaded()
            except _BrokenOffError:
                if sink.size > furthest + _CHUNK:
                    failures, furthest = 0, sink.size
                failures += 1
                if failures > self._retries:
                    if not pieces:
                        sink.restart()
                    raise
                time.sleep(_PAUSE * 2 ** (failures - 1))

    def read(self, url: str, *, limit: int, accept: str | None = None) -> bytes:
        """The content of a small file, at most ``limit`` bytes.

        :param accept: the media types that are wanted, where a server has the file in several.
        :raises NotFoundError: if there is no such file.
        :raises CouldNotError: for every other failure, and for more than ``limit`` bytes.
        """
        for attempt in range(self._retries + 1):
            content = bytearray()
            try:
                with self._opened(url, 0, decode=True, accept=accept) as body:
                    for chunk in body.chunks:
                        content += chunk
                        if len(content) > limit:
                            raise CouldNotError(f"more than {limit} bytes", at=redacted(url))
                return bytes(content)
            except _BrokenOffError:
                if attempt == self._retries:
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def reachable(self, url: str, *, timeout: float = 3) -> bool:
        """Whether a server answers at ``url`` at all within ``timeout`` seconds."""
        if self.offline:
            return False
        import requests

        try:
            with requests.head(url, timeout=timeout, allow_redirects=True) as answer:
                return answer.status_code < 400
        except requests.RequestException:
            return False

    @staticmethod
    def _check(url: str, got: Downloaded, sha256: str | None, md5: str | None) -> None:
        for kind, want, have in (("sha256", sha256, got.sha256), ("md5", md5, got.md5)):
            if want is not None and want != have:
                raise CouldNotError(
                    f"wrong {kind}: {have} came, the lockfile says {want}",
                    at=redacted(url),
                    do="try again; if it stays so, the file was replaced on the server: envforge lock -U",
                )

    @contextmanager
    def _opened(self, url: str, start: int, *, decode: bool, accept: str | None = None) -> Iterator[_Body]:
        """What ``url`` holds, from ``start`` on if the server can do that; else all of it.

        :param decode: undo the Content-Encoding, if there is one.
        """
        *others, last = self.access.places(url)
        for place in others:
            with suppress(CouldNotError):
                body = self._body(place, start, decode=decode, accept=accept)
                break
        else:
            body = self._body(last, start, decode=decode, accept=accept)
        with closing(body.source):
            yield body

    def _body(self, url: str, start: int, *, decode: bool, accept: str | None) -> _Body:
        path = local_path(url)
        if path is not None:
            source = _on_disk(path)
            return _Body(start=start, chunks=_disk_chunks(source, path, start), source=source)
        if self.offline:
            what, do = "not in the cache, and --offline forbids to fetch it", "run it once without --offline"
            raise CouldNotError(what, at=redacted(url), do=do)
        import requests

        try:
            answer = self._get(url, start, accept)
        except requests.RequestException as error:
            raise _translated(error, url) from error
        _check_status(answer, url)
        came = start if answer.status_code == 206 else 0
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        chunks = _whole_body(answer, url, came, decode=decode)
        return _Body(start=came, chunks=chunks, encoded=encoded, source=answer)

    def _get(self, url: str, start: int, accept: str | None) -> requests.Response:
        if start:
            answer = self._ask(url, {"Range": f"bytes={start}-"})
            fits = answer.status_code == 206 and _range(answer)[0] == start
            if fits or answer.status_code in (200, 404, 410):
                return answer
            # Past the end, another part, several parts, or a server that thinks ranges are an attack.
            answer.close()
        return self._ask(url, {} if accept is None else {"Accept": accept})

    def _ask(self, url: str, headers: dict[str, str]) -> requests.Response:
        login = self._credentials.of(url)
        answer = self._ask_as(login, url, headers)
        if answer.status_code in (401, 403) and login is None:
            login = self._credentials.from_keyring(url)
            if login is not None:
                answer.close()
                answer = self._ask_as(login, url, headers)
        return answer

    def _ask_as(self, login: Login | None, url: str, headers: dict[str, str]) -> requests.Response:
        shown = login.header if login is not None else None
        granted = self._granted.get(urlsplit(url).netloc, {})

        def authorized(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(granted)
            # Both are dropped by requests where an answer leads to another host.
            if shown is not None and "Authorization" not in granted:
                request.headers["Authorization"] = shown
            return request

        return self._session.get(
            login.applied(url) if login is not None else url,
            stream=True,
            timeout=self.timeout,
            headers=headers,
            auth=authorized,
            cert=certificate(self.access.client_certificate(url)),
        )


def _on_disk(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError("no such file", at=str(path)) from error
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error


def _disk_chunks(file: BinaryIO, path: Path, start: int) -> Iterator[bytes]:
    try:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error


def _check_status(answer: requests.Response, url: str) -> None:
    status = answer.status_code
    if status < 400:
        return
    answer.close()
    what = f"the server answered {status} {answer.reason or ''}".rstrip()
    if status in (404, 410):
        raise NotFoundError(
            what, at=redacted(url), do="check the URL; if the file is gone for good: envforge lock -U"
        )
    if status in (401, 403, 407):
        refused = RefusedError(what, at=redacted(url), do="put the credentials for this host into ~/.netrc")
        refused.challenge = answer.headers.get("WWW-Authenticate", "")
        raise refused
    raise CouldNotError(what, at=redacted(url), do="try again later")


def _range(answer: requests.Response) -> tuple[int | None, int | None]:
    """Where a part begins, and the size of the whole, as far as the server says."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match["start"]), None if match["size"] == "*" else int(match["size"])


def _whole_body(answer: requests.Response, url: str, start: int, *, decode: bool) -> Iterator[bytes]:
    """The bytes of an answer, whose first is the file's byte ``start``, to the end of the file."""
    import urllib3

    announced = answer.headers.get("Content-Length", "")
    expected = int(announced) + start if announced.isdigit() else None
    if answer.status_code == 206:
        expected = _range(answer)[1] or expected
    came = start
    try:
        for chunk in answer.raw.stream(_CHUNK, decode_content=decode):
            came += len(chunk)
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        late = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        raise _broken_off(error, url, late=late) from error
    encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
    if expected is not None and came != expected and not (decode and encoded):
        raise _BrokenOffError(
            f"half a file: {came} of {expected} bytes came", at=redacted(url), do="try again"
        )


def _broken_off(error: Exception, url: str, *, late: bool) -> CouldNotError:
    host, at = urlsplit(url).hostname, redacted(url)
    what = f"{host} did not answer in time" if late else f"{host} sent half a file: the connection broke off"
    return _BrokenOffError(what, at=at, do="try again", story=str(error))


_TOLD = (
    ("SSLError", "no trusted connection to {}", "export REQUESTS_CA_BUNDLE=/path/to/your-site-ca.pem"),
    ("ProxyError", "the proxy for {} refused", "check https_proxy"),
    ("Timeout", "{} did not answer in time", "try again"),
    ("ConnectionError", "the connection to {} failed", "check the network and the URL"),
)
"""What the errors of requests mean, the narrowest first."""


def _translated(error: requests.RequestException, url: str) -> CouldNotError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    host = urlsplit(url).hostname
    what, do = f"cannot fetch from {host or url!r}: {type(error).__name__}", None
    for kind, told, helps in _TOLD:
        if kind in kinds:
            what, do = told.format(host), helps
            break
    return CouldNotError(what, at=redacted(url), do=do, story=str(error))
