"""URLs and the secrets in them: what may be shown, and what may be written down."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit, urlunsplit

__all__ = ["filled_in", "public_url", "redacted", "with_login", "without_secrets"]

_LOGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<login>[^/?#\s]*)@")
_TOKEN = re.compile(r"/t/(?P<token>[^/\s]+)(?=/|$)")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def redacted(text: str) -> str:
    """``text`` with the login and token of every URL in it replaced by ``***``: what may be shown."""
    text = _LOGIN.sub(r"\g<scheme>***@", text)
    return _TOKEN.sub("/t/***", text) if "://" in text else text


def public_url(url: str, *, conda: bool) -> str:
    """``url`` without user, password, query and fragment, a channel's also without ``/t/TOKEN``."""
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    path = _TOKEN.sub("", parts.path) if conda else parts.path
    return urlunsplit((parts.scheme, netloc, path, "", ""))


def without_secrets(url: str, *, tokens: bool) -> str:
    """``url`` without user and password; what a variable stands for (``${TOKEN}``) is no secret.

    :param tokens: also without ``/t/TOKEN``, as the URLs of conda channels hold it.  On PyPI's own host
        that is part of an ordinary path.
    """
    match = _LOGIN.match(url)
    if match is not None:
        url = match["scheme"] + _kept_login(match["scheme"], match["login"]) + url[match.end() :]
    if tokens and "/t/" in url and not url.startswith("file:"):
        url = _TOKEN.sub(lambda found: found[0] if _VARIABLE.fullmatch(found["token"]) else "", url)
    return url


def filled_in(url: str, variables: Mapping[str, str]) -> str:
    """``url`` with the values of the variables that its user, password and ``/t/TOKEN`` are.

    :raises KeyError: for a variable that is not set, with its name.
    """

    def value(part: str) -> str:
        match = _VARIABLE.fullmatch(part)
        return quote(variables[match[1].strip("{}")], safe="") if match is not None else part

    match = _LOGIN.match(url)
    if match is not None:
        login = ":".join(map(value, match["login"].split(":", 1)))
        url = f"{match['scheme']}{login}@{url[match.end() :]}"
    return _TOKEN.sub(lambda found: f"/t/{value(found['token'])}", url)


def _kept_login(scheme: str, login: str) -> str:
    if all(_VARIABLE.fullmatch(part) for part in login.split(":", 1)):
        return f"{login}@"
    # The user of ssh says which account to knock at (`git@`), and is no secret.
    return f"{login.split(':', 1)[0]}@" if "ssh" in scheme else ""


def with_login(url: str, indexes: Sequence[str]) -> str:
    """``url`` with the credentials of the index on the same host, for the one who fetches it."""
    parts = urlsplit(url)
    for index in indexes:
        own = urlsplit(index)
        login, at, host = own.netloc.rpartition("@")
        if at and (own.scheme, host) == (parts.scheme, parts.netloc):
            return urlunsplit(parts._replace(netloc=f"{login}@{host}"))
    return url
