"""Signatures over a whole file: who is trusted, what is stated, who said it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

__all__ = ["NAMESPACE", "BundleFacts", "Envelope", "Signed", "Statement", "TrustedKey", "fingerprint"]

NAMESPACE = "envforge-bundle"
"""What a signature by ssh is made for, so that none made for something else (git, mail) passes for one."""

_ED25519 = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"


def fingerprint(blob: bytes) -> str:
    """``SHA256:…`` of a public key, as ``ssh-keygen -l`` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """One line of a file of trusted keys.

    ``who`` are the principals as they are written, ``kind`` and ``blob`` the public key as OpenSSH writes it.
    ``anywhere`` is false if the line has options that only ssh-keygen understands, such as dates, or is for
    another namespace: such a key counts only where ssh-keygen says so.
    """

    who: str
    kind: str
    blob: bytes
    anywhere: bool = True

    @property
    def fingerprint(self) -> str:
        """The key's id."""
        return fingerprint(self.blob)

    @property
    def ed25519(self) -> bytes | None:
        """The 32 bytes of an Ed25519 key; ``None`` for one of another kind."""
        plain = self.blob.startswith(_ED25519) and len(self.blob) == len(_ED25519) + 32
        return self.blob[len(_ED25519) :] if plain else None

    @classmethod
    def of_ed25519(cls, who: str, public: bytes) -> TrustedKey:
        """The line for an Ed25519 key of 32 bytes."""
        return cls(who=who, kind="ssh-ed25519", blob=_ED25519 + public)

    def line(self) -> str:
        """The line, for this one purpose."""
        name = f'"{self.who}"' if re.search(r"\s", self.who) else self.who
        return f'{name} namespaces="{NAMESPACE}" {self.kind} {base64.b64encode(self.blob).decode()}'


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What is stated about a bundle beside its digest; ``lock`` is :meth:`Lockfile.digest`."""

    lock: str
    platform: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The file of this name has this sha256, and this is what it is."""

    filename: str
    sha256: str
    facts: BundleFacts
    envforge: str


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """A signed payload (DSSE): signatures by the id of the key that is said to have made them."""

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A signature that holds: whose key, which file, and what else was stated (nothing by ssh).

    ``kind`` is ``dsse`` or ``ssh``; ``sha256`` is that of the file as it was read for the check.
    """

    who: str
    key: str
    kind: str
    sha256: str
    facts: BundleFacts | None = None
