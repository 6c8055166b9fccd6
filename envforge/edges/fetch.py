"""The only module that opens sockets (py-rattler's own repodata client apart).

``requests`` does it, because it takes proxies, netrc, CA bundles and retries the way sites set them up.
A ``file:`` URL is read from disk, so that a channel or an index in a directory works like any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import envforge
from envforge.edges.answers import (
    CHUNK,
    Body,
    BrokenOffError,
    NotFoundError,
    check_status,
    disk_chunks,
    is_encoded,
    on_disk,
    range_of,
    translated,
    whole_body,
)
from envforge.edges.credentials import Credentials, Login, certificate
from envforge.edges.partial import Downloaded, Sink, clear_partial, open_partial
from envforge.edges.scratch import is_full
from envforge.errors import CouldNotError
from envforge.model.access import Access
from envforge.model.urls import redacted

if TYPE_CHECKING:
    import requests

__all__ = ["Downloaded", "Fetcher", "NotFoundError", "local_path"]

_RETRIED = (429, 500, 502, 503, 504)
_PAUSE = 0.3  # seconds before going on where a connection broke off; doubled each time


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
            except BrokenOffError:
                if sink.size > furthest + CHUNK:
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
            except BrokenOffError:
                if attempt == self._retries:
                    raise
                time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def part(self, url: str, span: str) -> tuple[bytes, int] | None:
        """A part of a file, and the size of the whole; ``None`` where only whole files are given away.

        :param span: which bytes, as HTTP writes it: ``0-99``, or ``-100`` for the last hundred.
        :raises NotFoundError: if there is no such file.
        :raises CouldNotError: for every other failure.
        """
        *others, last = self.access.places(url)
        for place in others:
            with suppress(CouldNotError):
                return self._part(place, span)
        return self._part(last, span)

    def _part(self, url: str, span: str) -> tuple[bytes, int] | None:
        if local_path(url) is not None:
            return None
        self._check_online(url)
        import requests
        import urllib3

        try:
            with closing(self._ask(url, {"Range": f"bytes={span}"})) as answer:
                if answer.status_code == 416:
                    return None
                check_status(answer, url)
                start, size = range_of(answer)
                announced = answer.headers.get("Content-Length", "")
                if answer.status_code != 206 or size is None or not announced.isdigit() or is_encoded(answer):
                    return None
                first, _, last = span.partition("-")
                longest = int(last) - int(first) + 1 if first else int(last)
                if int(announced) > longest or start != (int(first) if first else size - int(announced)):
                    return None
                content = answer.raw.read(longest, decode_content=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise translated(error, url) from error
        return (content, size) if len(content) == int(announced) else None

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
    def _opened(self, url: str, start: int, *, decode: bool, accept: str | None = None) -> Iterator[Body]:
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

    def _body(self, url: str, start: int, *, decode: bool, accept: str | None) -> Body:
        path = local_path(url)
        if path is not None:
            source = on_disk(path)
            return Body(start=start, chunks=disk_chunks(source, path, start), source=source)
        self._check_online(url)
        import requests

        try:
            answer = self._get(url, start, accept)
        except requests.RequestException as error:
            raise translated(error, url) from error
        check_status(answer, url)
        came = start if answer.status_code == 206 else 0
        chunks = whole_body(answer, url, came, decode=decode)
        return Body(start=came, chunks=chunks, encoded=is_encoded(answer), source=answer)

    def _check_online(self, url: str) -> None:
        if self.offline:
            raise CouldNotError(
                "not in the cache, and --offline forbids to fetch it",
                at=redacted(url),
                do="run the same command once without --offline",
            )

    def _get(self, url: str, start: int, accept: str | None) -> requests.Response:
        if start:
            answer = self._ask(url, {"Range": f"bytes={start}-"})
            fits = answer.status_code == 206 and range_of(answer)[0] == start
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
