"""Whom a server takes us for: logins and tokens, from where people keep them.  None is printed or stored.

In this order: the URL itself, ``netrc``, the file in which conda's newer tools keep theirs
(``RATTLER_AUTH_FILE``, ``~/.rattler/credentials.json``), and the machine's keyring through the library of
that name, where it is installed.  The keyring may ask for a password of its own: it is asked only of a host
that has refused us.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from envforge.errors import CouldNotError
from envforge.model.access import Access

__all__ = ["Credentials", "Login", "RefusedError", "certificate"]

_LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Login:
    """What is shown to a server: a user and a password, a bearer token, or a token in a channel's path."""

    user: str = ""
    password: str = ""
    bearer: str = ""
    conda_token: str = ""

    def __repr__(self) -> str:
        return "Login(***)"

    @property
    def header(self) -> str | None:
        """The value of ``Authorization``, or ``None`` for a token in the path."""
        if self.bearer:
            return f"Bearer {self.bearer}"
        if self.conda_token:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def applied(self, url: str) -> str:
        """``url`` with the token in its path, as conda's servers want it; any other login leaves it alone."""
        parts = urlsplit(url)
        if not self.conda_token or parts.path.startswith("/t/"):
            return url
        return urlunsplit(parts._replace(path=f"/t/{self.conda_token}{parts.path}"))


class RefusedError(CouldNotError):
    """A server does not know us, or not well enough; ``challenge`` is what it wants to be shown."""

    challenge = ""


class Credentials:
    """Finds logins; one may be shared by threads.

    :param access: whether the keyring may be asked.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._asked: dict[str, Login | None] = {}
        self._at_hand: dict[str, Login | None] = {}

    def of(self, url: str) -> Login | None:
        """The login for ``url`` that is at hand without asking anybody."""
        host = urlsplit(url).netloc
        if host not in self._at_hand:  # the files are read once a host, and not for every download
            self._at_hand[host] = _in_url(url) or _in_netrc(url) or _in_file(url)
        return self._at_hand[host] or self._asked.get(host)

    def from_keyring(self, url: str) -> Login | None:
        """The login that the keyring has for ``url``: by the URL, else by its host.  Asked once a host."""
        host = urlsplit(url).netloc
        if host not in self._asked:
            self._asked[host] = _in_keyring(url) if self._access.keyring else None
        return self._asked[host]


def _in_url(url: str) -> Login | None:
    login, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return None
    user, _, password = login.partition(":")
    return Login(user=unquote(user), password=unquote(password))


def _in_netrc(url: str) -> Login | None:
    named = os.environ.get("NETRC")
    try:
        paths = [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    except RuntimeError:  # no home directory
        return None
    paths = [path for path in paths if path.is_file()]
    if not paths:
        return None
    import netrc

    host = urlsplit(url).hostname or ""
    for path in paths:
        try:
            found = netrc.netrc(str(path)).authenticators(host)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
        if found:
            return Login(user=found[0] or found[1] or "", password=found[2] or "")
    return None


def _in_file(url: str) -> Login | None:
    """By host, as ``pixi auth login`` and rattler write it: ``*.host`` stands for every host below."""
    named = os.environ.get("RATTLER_AUTH_FILE")
    try:
        path = Path(named) if named else Path.home() / ".rattler" / "credentials.json"
        content = path.read_bytes()[:_LIMIT]
        table = json.loads(content)
    except (OSError, RuntimeError, ValueError):
        return None
    if not isinstance(table, dict):
        return None
    host = urlsplit(url).hostname or ""
    pieces = host.split(".")
    names = [urlsplit(url).netloc.rpartition("@")[2], host]
    names += ["*." + ".".join(pieces[start:]) for start in range(len(pieces))]
    return next((found for name in names if name in table and (found := _login(table[name]))), None)


def _login(entry: object) -> Login | None:
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("BearerToken"), str):
        return Login(bearer=entry["BearerToken"])
    if isinstance(entry.get("CondaToken"), str):
        return Login(conda_token=entry["CondaToken"])
    basic = entry.get("BasicHTTP")
    if isinstance(basic, dict) and all(isinstance(basic.get(key), str) for key in ("username", "password")):
        return Login(user=basic["username"], password=basic["password"])
    return None


def _in_keyring(url: str) -> Login | None:
    try:
        import keyring
    except ImportError:
        return None
    get: Callable[[str, str | None], Any] = keyring.get_credential
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    for service in (urlunsplit((parts.scheme, netloc, parts.path, "", "")), netloc):
        try:
            found = get(service, None)
        except Exception:  # noqa: BLE001 - a keyring may fail in any way, and is only one place to look
            return None
        if found is not None:
            return Login(user=found.username or "", password=found.password or "")
    return None


def certificate(files: Sequence[str]) -> str | tuple[str, str] | None:
    """The files of a client certificate, as ``requests`` takes them.

    :raises CouldNotError: if one is not there.
    """
    if not files:
        return None
    for path in files:
        if not Path(path).is_file():
            raise CouldNotError(
                "no such client certificate", at=path, do="envforge config client-certificates"
            )
    return (files[0], files[1]) if len(files) == 2 else files[0]
