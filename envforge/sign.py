"""``keygen`` and the signing of a bundle: what lies beside the file that is carried.

``BUNDLE.sha256`` for ``sha256sum -c``; ``BUNDLE.dsse.json`` by a key of envforge's; ``BUNDLE.sig`` by a key
of ssh.  Nothing of it holds a date: the same file and the same Ed25519 key give the same bytes.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envforge import __version__
from envforge.edges.hashing import file_sha256
from envforge.edges.signing import new_key, sign_envelope, sign_with_ssh
from envforge.errors import CouldNotError, InputError
from envforge.formats import dsse_json
from envforge.model.signature import NAMESPACE, BundleFacts, Statement, TrustedKey
from envforge.node.sources.signatures import CHECKSUM, DSSE, SSH

__all__ = ["KeyPair", "SignatureFile", "check_key", "check_name", "make_key", "sign_file", "write_checksum"]

_KEY_LIMIT = 64 << 10
_SSH_KEY = re.compile(
    rb"-----BEGIN (?:OPENSSH|RSA|EC|DSA) PRIVATE KEY-----"
    rb"|(?:ssh|sk-ssh|ecdsa-sha2|sk-ecdsa-sha2)-[a-z0-9.@-]+ "
)
_OWN_KEY = re.compile(rb"-----BEGIN (?:ENCRYPTED )?PRIVATE KEY-----")
_NAME = re.compile(r"[^\s\"\\,!*?#]+")


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """Two files that were made, the key's id, and the line for other people's files of trusted keys."""

    private: Path
    public: Path
    key: str
    line: str


@dataclass(frozen=True, kw_only=True)
class SignatureFile:
    """A signature that was made: its file, ``dsse`` or ``ssh``, and the line that checks it."""

    path: Path
    kind: str
    check: str


def make_key(path: Path, who: str) -> KeyPair:
    """Make an Ed25519 key: ``path`` (mode 0600, PEM) and ``path.pub``.

    :param who: the name that goes before the public key, without blanks: ``ada@example.org``.
    :raises InputError: if one of the files is there, or the name cannot be written.
    :raises CouldNotError: if it cannot be written, or ``cryptography`` is not installed.
    """
    if not _NAME.fullmatch(who) or not who.isprintable():
        raise InputError(f"{who!r} is no name for a key", at="--name", do="--name ada@example.org")
    public = path.with_name(path.name + ".pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise InputError(
                "there is a file of this name, and a key is never overwritten",
                at=str(file),
                do="name another one: -o FILE",
            )
    private, raw = new_key()
    key = TrustedKey.of_ed25519(who, raw)
    _write_new(path, private, 0o600)
    try:
        _write_new(public, f"{key.line()}\n".encode(), 0o644)
    except CouldNotError:
        path.unlink(missing_ok=True)
        raise
    return KeyPair(private=path, public=public, key=key.fingerprint, line=key.line())


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there; the mode is the file's from the first byte."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CouldNotError(
            f"cannot write: {error.strerror or error}", at=str(path), do="name another place: -o FILE"
        ) from error


def check_name(path: Path) -> None:
    """Whether a file of this name can have a checksum and a signature.

    :raises InputError: if its name is not plain, which ``sha256sum`` would write in another way.
    """
    if not dsse_json.NAME.fullmatch(path.name):
        raise InputError(
            "a file of this name gets no checksum and no signature",
            at=repr(path.name),
            do="give it a name in ASCII",
        )


def check_key(key: Path) -> None:
    """Whether ``key`` can sign, as far as that can be known before: nobody is asked for a passphrase.

    :raises InputError: if it is no key to sign with.
    :raises CouldNotError: if it cannot be read, or what is needed is not installed.
    """
    content = _key(key)
    if _SSH_KEY.match(content):
        return
    if not _OWN_KEY.match(content):
        raise InputError("not a private key", at=str(key), do="envforge keygen   # makes one")
    sign_envelope(b"", dsse_json.PAYLOAD_TYPE, content, key)


def write_checksum(path: Path, sha256: str | None = None) -> Path:
    """``path.sha256``, which ``sha256sum -c`` reads in the directory of the file.

    :param sha256: that of the file, if it is known.
    :raises InputError: for a name that is not plain, which sha256sum would write in another way.
    :raises CouldNotError: if it cannot be read or written.
    """
    check_name(path)
    return _put(path, CHECKSUM, f"{sha256 or file_sha256(path)}  {path.name}\n")


def sign_file(path: Path, key: Path, facts: BundleFacts) -> SignatureFile:
    """Sign the whole file at ``path``: ``path.dsse.json`` or, with a key of ssh, ``path.sig``.

    An older signature of the same kind is replaced.

    :param key: one that ``keygen`` made, a private one of ssh, or the public one of a key in an agent.
    :param facts: what is stated beside name and digest; a signature of ssh states nothing.
    :raises InputError: if that is no key to sign with, or the file has a name that is not plain.
    :raises CouldNotError: if it cannot be read or written, or what is needed is not installed.
    """
    check_name(path)
    content = _key(key)
    name = shlex.quote(path.name)
    if _SSH_KEY.match(content):
        made = _put(path, SSH, sign_with_ssh(path, key))
        check = f"ssh-keygen -Y verify -n {NAMESPACE} -f trusted_keys -I WHO -s {name}{SSH} < {name}"
        return SignatureFile(path=made, kind="ssh", check=check)
    if not _OWN_KEY.match(content):
        raise InputError("not a private key", at=str(key), do="envforge keygen   # makes one")
    statement = Statement(filename=path.name, sha256=file_sha256(path), facts=facts, envforge=__version__)
    envelope = sign_envelope(dsse_json.write_statement(statement), dsse_json.PAYLOAD_TYPE, content, key)
    made = _put(path, DSSE, dsse_json.write(envelope))
    return SignatureFile(path=made, kind="dsse", check=f"envforge verify {name} --trusted-keys trusted_keys")


def _key(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_KEY_LIMIT)
    except FileNotFoundError as error:
        raise InputError(
            "there is no key of this name", at=str(path), do="envforge keygen   # makes one"
        ) from error
    except OSError as error:
        raise CouldNotError(
            f"cannot read the key: {error.strerror or error}", at=str(path), do="check its mode and owner"
        ) from error


def _put(path: Path, ending: str, text: str) -> Path:
    """Write ``path`` with ``ending``, beside it and by a rename."""
    target = path.with_name(path.name + ending)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.chmod(0o644)  # as the file beside it: whoever may read that is to check it
        beside.replace(target)
    except OSError as error:
        raise CouldNotError(
            f"cannot write: {error.strerror or error}", at=str(target), do="check the directory and its space"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return target
