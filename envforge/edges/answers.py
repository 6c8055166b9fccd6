"""What came of asking for a URL: a file's bytes, or what went wrong, in our words.

Nothing is asked here.  Answers are those of ``requests``, files those of this machine; whoever reads on
need not know which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urlsplit

from envforge.edges.credentials import RefusedError
from envforge.errors import CouldNotError
from envforge.model.urls import redacted

__all__ = [
    "CHUNK",
    "Body",
    "BrokenOffError",
    "NotFoundError",
    "check_status",
    "disk_chunks",
    "is_encoded",
    "on_disk",
    "range_of",
    "translated",
    "whole_body",
]

CHUNK = 1 << 18
_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+|\*)")


class NotFoundError(CouldNotError):
    """The server, or the disk, has no such file."""


class BrokenOffError(CouldNotError):
    """The body of an answer ended before its end: asking for the rest may help."""


class Closes(Protocol):
    """What is open until it is closed."""

    def close(self) -> None: ...


class Answer(Closes, Protocol):
    """As much of an answer of ``requests`` as is looked at here."""

    @property
    def status_code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def raw(self) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Body:
    """A file's bytes from ``start`` to its end; ``encoded`` if the server says that they stand for others."""

    start: int
    chunks: Iterator[bytes]
    source: Closes
    encoded: bool = False


def on_disk(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError("no such file", at=str(path)) from error
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error


def disk_chunks(file: BinaryIO, path: Path, start: int) -> Iterator[bytes]:
    try:
        file.seek(start)
        while chunk := file.read(CHUNK):
            yield chunk
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error


def check_status(answer: Answer, url: str) -> None:
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


def is_encoded(answer: Answer) -> bool:
    """Whether the bytes of the answer stand for others, those of the file."""
    return answer.headers.get("Content-Encoding", "identity") != "identity"


def range_of(answer: Answer) -> tuple[int | None, int | None]:
    """Where a part begins, and the size of the whole, as far as the server says."""
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match["start"]), None if match["size"] == "*" else int(match["size"])


def whole_body(answer: Answer, url: str, start: int, *, decode: bool) -> Iterator[bytes]:
    """The bytes of an answer, whose first is the file's byte ``start``, to the end of the file."""
    import urllib3

    announced = answer.headers.get("Content-Length", "")
    expected = int(announced) + start if announced.isdigit() else None
    if answer.status_code == 206:
        expected = range_of(answer)[1] or expected
    came = start
    try:
        for chunk in answer.raw.stream(CHUNK, decode_content=decode):
            came += len(chunk)
            yield chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        late = isinstance(error, (urllib3.exceptions.TimeoutError, TimeoutError))
        raise _broken_off(error, url, late=late) from error
    if expected is not None and came != expected and not (decode and is_encoded(answer)):
        raise BrokenOffError(
            f"half a file: {came} of {expected} bytes came", at=redacted(url), do="try again"
        )


def _broken_off(error: Exception, url: str, *, late: bool) -> CouldNotError:
    host, at = urlsplit(url).hostname, redacted(url)
    what = f"{host} sent half a file: the connection broke off"
    if late:
        what = f"{host} did not answer in time"
    return BrokenOffError(what, at=at, do="try again", story=str(error))


_TOLD = (
    ("SSLError", "no trusted connection to {}", "export REQUESTS_CA_BUNDLE=/path/to/your-site-ca.pem"),
    ("ProxyError", "the proxy for {} refused", "check https_proxy"),
    ("Timeout", "{} did not answer in time", "try again"),
    ("ConnectionError", "the connection to {} failed", "check the network and the URL"),
)
"""What the errors of requests mean, the narrowest first."""


def translated(error: Exception, url: str) -> CouldNotError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    host = urlsplit(url).hostname
    what, do = f"cannot fetch from {host or url!r}: {type(error).__name__}", None
    for kind, told, helps in _TOLD:
        if kind in kinds:
            what, do = told.format(host), helps
            break
    return CouldNotError(what, at=redacted(url), do=do, story=str(error))
