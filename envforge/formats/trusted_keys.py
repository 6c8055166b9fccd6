"""A file of trusted keys: lines as ``ssh-keygen`` reads them (ALLOWED SIGNERS in its manual), one a key.

::

    # the people who may sign for this cluster
    ada@example.org namespaces="envforge-bundle" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA…

Goals: one file for both kinds of signatures; a line is understood as ssh-keygen understands it, or refused;
an option that is not understood here makes a key count less, never more.
"""

from __future__ import annotations

import base64
import binascii
import re

from envforge.errors import InputError
from envforge.model.signature import NAMESPACE, TrustedKey

__all__ = ["LIMIT", "read"]

LIMIT = 1 << 20
"""Bytes of a file of keys, and 1,000 keys."""
_KEYS = 1000
_LINE = 16 << 10

_KIND = re.compile(r"(?:ssh|sk-ssh|ecdsa-sha2|sk-ecdsa-sha2)-[a-z0-9.@-]+")
_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"]*)")?(?:,|\Z)')
_DO = (
    'write: NAME namespaces="envforge-bundle" ssh-ed25519 AAAA…   # envforge keygen and ssh-keygen make keys'
)


def read(text: str) -> tuple[TrustedKey, ...]:
    """The keys of ``text``.

    :raises InputError: for a line that is no key, with its number as place; or if there is no key at all.
    """
    keys = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        try:
            keys.append(_key(line))
        except InputError as error:
            error.at = f"line {number}"
            error.do = error.do or _DO
            raise
        if len(keys) > _KEYS:
            raise InputError(f"more than {_KEYS} keys", do="name the people who sign, and nobody else")
    if not keys:
        raise InputError("there is no key in it", do=_DO)
    return tuple(keys)


def _key(line: str) -> TrustedKey:
    if len(line) > _LINE or not line.replace("\t", " ").isprintable():
        raise InputError("the line is too long, or no text")
    words = _words(line)
    if _KIND.fullmatch(words[0]):
        raise InputError("a key without a name", do=f"write who it is in front: ada@example.org {words[0]} …")
    who = words[0][1:-1] if words[0].startswith('"') else words[0]
    if not who or '"' in who or not who.isprintable():
        raise InputError("the line begins with no name")
    rest = words[1:]
    options = "" if rest and _KIND.fullmatch(rest[0]) else rest.pop(0) if rest else ""
    if len(rest) < 2 or not _KIND.fullmatch(rest[0]):
        raise InputError("the line has no public key of ssh")
    return TrustedKey(who=who, kind=rest[0], blob=_blob(rest[0], rest[1]), anywhere=_for_us(options))


def _words(line: str) -> list[str]:
    """At most the four words that matter; quotes keep blanks together."""
    words: list[str] = []
    at = 0
    while len(words) < 4 and at < len(line):
        found = _WORD.match(line, at)
        if found is None:
            if len(words) > 2:  # what follows a key is a remark
                break
            raise InputError("a quotation mark is open")
        words.append(found[0])
        at = found.end()
        while at < len(line) and line[at] in " \t":
            at += 1
    return words


def _blob(kind: str, text: str) -> bytes:
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("the public key is cut off or damaged") from error
    name = kind.encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name) or base64.b64encode(blob).decode() != text:
        raise InputError("the public key is cut off or damaged")
    if kind == "ssh-ed25519" and TrustedKey(who="", kind=kind, blob=blob).ed25519 is None:
        raise InputError("the public key is cut off or damaged")
    return blob


def _for_us(options: str) -> bool:
    """Whether the key counts without ssh-keygen: for our namespace, and with no other condition."""
    at, ours = 0, True
    while at < len(options):
        found = _OPTION.match(options, at)
        if found is None:
            raise InputError(f"{options!r} are no options of a key")
        name, value = found[1].lower(), found[2]
        ours = ours and name == "namespaces" and value is not None and _matches(value)
        at = found.end()
    return ours


def _matches(patterns: str) -> bool:
    """Whether the namespace is one of ``patterns``: ``*`` and ``?``, and ``!`` refuses."""
    hit = False
    for pattern in patterns.split(","):
        wanted = re.escape(pattern.removeprefix("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(wanted, NAMESPACE):
            if pattern.startswith("!"):
                return False
            hit = True
    return hit
