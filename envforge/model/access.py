"""How hosts are reached: where a site has what lies elsewhere, and what it wants to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from envforge.errors import InputError
from envforge.model.urls import redacted
from envforge.settings import Settings

__all__ = ["Access"]


@dataclass(frozen=True, kw_only=True)
class Access:
    """What settings say about the network.

    ``mirrors`` map the beginning of a URL to the URLs that a site has in its place, in order of preference.
    Lockfiles hold the URLs from before, whoever made them and wherever.  ``certificates`` is a file of
    certificates (PEM) that are trusted.  ``client_certificates`` map a host, as ``HOST`` or ``HOST:PORT``, to
    a certificate to show it and the file of its key, where that is another.  ``keyring`` allows to ask the
    machine's keyring.
    """

    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    certificates: str | None = None
    client_certificates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keyring: bool = False

    def __post_init__(self) -> None:
        for origin, places in self.mirrors.items():
            for url in (origin, *places):
                if urlsplit(url).scheme not in ("http", "https", "file"):
                    raise InputError(
                        f"{redacted(url)!r} is no URL",
                        at="mirrors",
                        do='write mirrors = { "https://pypi.org/simple" = ["https://HOST/simple"] }',
                    )
        for host, files in self.client_certificates.items():
            if len(files) > 2:
                raise InputError(
                    f"{len(files)} files for {host}",
                    at="client-certificates",
                    do="write the certificate, and its key if that is a file of its own",
                )

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """What ``settings`` say about the network.

        :raises InputError: for a mirror that is no URL, or a client certificate of too many files.
        """
        certificates = settings.path("ca-certificates")
        return cls(
            mirrors=settings.table("mirrors"),
            certificates=str(certificates) if certificates else None,
            client_certificates=settings.table("client-certificates"),
            keyring=settings.flag("keyring"),
        )

    def places(self, url: str) -> tuple[str, ...]:
        """Where to fetch ``url``, the first choice first: ``url`` itself where no mirror is set for it."""
        origins = [origin for origin in self.mirrors if _below(url, origin)]
        if not origins:
            return (url,)
        origin = max(origins, key=len)
        return tuple(_moved(url, origin, place) for place in self.mirrors[origin])

    def origin(self, url: str) -> str:
        """The URL that a mirror's ``url`` stands for: what a lockfile says."""
        found = [
            (place, origin)
            for origin, places in self.mirrors.items()
            for place in places
            if _below(url, place)
        ]
        if not found:
            return url
        place, origin = max(found, key=lambda pair: (len(_bare(pair[0])), pair[1]))
        return _moved(url, place, origin)

    def client_certificate(self, url: str) -> tuple[str, ...]:
        """The files to show the host of ``url``; empty where there are none."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return self.client_certificates.get(host) or self.client_certificates.get(parts.hostname or "", ())


def _below(url: str, start: str) -> bool:
    """Whether ``url`` is ``start``, or lies below it; logins do not count."""
    mine, theirs = _bare(url), _bare(start).rstrip("/")
    return mine == theirs or mine.startswith(theirs + "/")


def _moved(url: str, start: str, place: str) -> str:
    rest = _bare(url)[len(_bare(start).rstrip("/")) :]
    return place.rstrip("/") + rest


def _bare(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + mark + host.rpartition("@")[2] + slash + path
