"""The hashes that a person wrote beside a requirement: only artifacts that have one of them will do."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from envforge.edges.fetch import Fetcher
from envforge.errors import InputError, UnsatisfiableError
from envforge.resolvers.pypi.request import Wanted

__all__ = ["HashesOf", "Hashing", "artifact_hashes", "url_hashes"]

HashesOf = Callable[[str], Mapping[str, str]]
"""The hashes of the artifact at a URL, by algorithm: :func:`artifact_hashes`."""

_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}
"""What pip takes for a hash, with the number of its hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class _Allowed:
    hashes: frozenset[str]
    at: str


@dataclass(frozen=True, kw_only=True)
class Hashing:
    """Which artifacts are acceptable; ``compute`` is asked where an index gives no hash to compare."""

    allowed: Mapping[str, _Allowed]
    compute: HashesOf

    @classmethod
    def of(cls, wanted: Iterable[Wanted], compute: HashesOf) -> Hashing:
        """What requirements and constraints say, by canonical name; where several do, what all of them allow.

        :raises InputError: for what is no hash, or two sets that have none in common.
        """
        allowed: dict[str, _Allowed] = {}
        for one in wanted:
            texts = (*one.line.hashes, *url_hashes(one.requirement.url))
            said = frozenset(_checked(text, one) for text in texts)
            if not said:
                continue
            before = allowed.get(one.name)
            both = said if before is None else before.hashes & said
            if before is not None and not both:
                raise InputError(
                    f"no artifact of {one.name} can have a hash of both",
                    at=f"{before.at}, {one.line.at}",
                    do="name the same hashes in both places, or in one",
                )
            allowed[one.name] = _Allowed(hashes=both, at=one.line.at)
        return cls(allowed=allowed, compute=compute)

    def accepts(self, name: str, url: str, hashes: Mapping[str, str]) -> bool:
        """Whether the artifact at ``url``, of which ``hashes`` are known, is one that a person allowed."""
        if name not in self.allowed:
            return True
        wanted = self.allowed[name].hashes
        kinds = {text.partition(":")[0] for text in wanted}
        known = dict(hashes) if kinds <= hashes.keys() else self.compute(url)
        return any(f"{kind}:{value}" in wanted for kind, value in known.items())

    def refused(
        self, name: str, version: str, sha256: Iterable[str | None], assumed: str
    ) -> UnsatisfiableError:
        """What says that none of the artifacts that fit is acceptable."""
        there = sorted(one for one in sha256 if one)
        listed = ", ".join(f"sha256:{one}" for one in there[:2]) + (", …" if len(there) > 2 else "")
        do = f"if you trust the index: --hash={listed}" if listed else "check the hashes"
        return UnsatisfiableError(
            f"no artifact of {name} {version} that fits {assumed} has a hash that was asked for",
            at=self.allowed[name].at,
            do=f"require the version that the hashes are of: {name}==VERSION; {do}",
        )


def url_hashes(url: str | None) -> tuple[str, ...]:
    """The hashes in the fragment of a URL, as pip reads them: ``#sha256=…``."""
    fields = parse_qsl(urlsplit(url).fragment) if url else []
    return tuple(f"{key}:{value}" for key, value in fields if key in _SIZES)


def artifact_hashes(fetcher: Fetcher, url: str) -> dict[str, str]:
    """The hashes of an artifact, by algorithm.

    :raises CouldNotError: if it cannot be downloaded.
    """
    with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
        path = Path(directory) / "artifact"
        got = fetcher.download(url.partition("#")[0], path, sha256=None, with_md5=False)
        found = {kind: hashlib.new(kind) for kind in _SIZES if kind != "sha256"}
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                for one in found.values():
                    one.update(block)
    return {"sha256": got.sha256, **{kind: one.hexdigest() for kind, one in found.items()}}


def _checked(text: str, wanted: Wanted) -> str:
    kind, _, value = text.lower().partition(":")
    if kind not in _SIZES:
        raise InputError(
            f"{kind!r} is not a hash that proves anything",
            at=wanted.line.at,
            do=f"write --hash=sha256:…; {', '.join(_SIZES)} are known",
        )
    if not re.fullmatch(rf"[0-9a-f]{{{_SIZES[kind]}}}", value):
        raise InputError(
            f"{value[:80]!r} is not a {kind} of {_SIZES[kind]} hexadecimal digits", at=wanted.line.at
        )
    return f"{kind}:{value}"
