"""What goes wrong with a channel, in our words."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.model.access import Access
from envforge.model.urls import redacted
from envforge.resolvers.conda.request import CondaRequest

__all__ = ["channel_error", "is_refusal"]

_STATUS = re.compile(r"status (?:client|server) error \((\d{3})", re.IGNORECASE)


def channel_error(error: Exception, request: CondaRequest, access: Access) -> EnvforgeError:
    """The error to raise for one of py-rattler's that is about a channel of ``request``, or its mirror."""
    story = redacted(_whole(error))
    channel, url = _meant(story, request, access)
    at = redacted(channel) if url == channel else f"{redacted(channel)}, fetched from {redacted(url)}"
    status = _STATUS.search(story)
    if "could not find subdir" in story or (status and status[1] in ("404", "410")):
        return InputError(
            "no such channel: it has no repodata for noarch or the platform",
            at=at,
            do="check the spelling of the channel; every channel has a noarch/repodata.json",
            story=story,
        )
    if "no usable repodata cache" in story or ("cache" in story and "offline" in story):
        return CouldNotError(
            "the channel is not in the cache, and --offline forbids to fetch it",
            at=at,
            do="run the same command once without --offline",
            story=story,
        )
    if status:
        denied = status[1] in ("401", "403", "407")
        help_ = "put the credentials for this host into ~/.netrc" if denied else "try again later"
        return CouldNotError(f"the channel answered {status[1]}", at=at, do=help_, story=story)
    if re.search(r"end of file|reading a body|decoding response", story):
        return CouldNotError(
            "the channel sent half a file", at=at, do="try again; the connection broke off", story=story
        )
    if re.search(r"connect|dns|resolve|timed out|sending request", story, re.IGNORECASE):
        return CouldNotError(
            f"no connection to {urlsplit(url).hostname or 'the channel'}",
            at=at,
            do="check the network, https_proxy and the channel's URL",
            story=story,
        )
    return CouldNotError(
        "the channel's repodata cannot be read",
        at=at,
        do="try again; if it stays so, the channel serves half a file or something else",
        story=story,
    )


def _meant(story: str, request: CondaRequest, access: Access) -> tuple[str, str]:
    """The channel that py-rattler speaks of, and the URL that it was asked for at."""
    for channel in request.channels:
        for place in access.places(channel):
            if f"{redacted(place).rstrip('/')}/" in story:
                return channel, place
    named = [channel for channel in request.channels if redacted(channel) in story]
    first = next(iter((*named, *request.channels)), "")
    return first, first


def is_refusal(error: Exception) -> bool:
    """Whether one of py-rattler's errors says that a host does not know us."""
    status = _STATUS.search(_whole(error))
    return status is not None and status[1] in ("401", "403")


def _whole(error: BaseException) -> str:
    parts, current = [], error
    while current is not None:
        parts.append(str(current))
        current = current.__cause__ or current.__context__  # type: ignore[assignment]
    return "\n".join(parts)
