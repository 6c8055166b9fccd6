"""Who signed a file, before anything in it is believed.

Beside ``BUNDLE`` lie ``BUNDLE.dsse.json`` (a key of envforge's, checked in pure Python), ``BUNDLE.sig`` (a
key of ssh, checked by ssh-keygen), or both: then one that holds is enough.  Who is trusted is written in one
file, which comes another way than the bundle.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.hashing import file_sha256
from envforge.errors import CouldNotError, InputError
from envforge.formats import dsse_json, trusted_keys
from envforge.model.signature import NAMESPACE, Signed, TrustedKey
from envforge.node.sources.documents import read_document
from envforge.settings import FROM_BUNDLE

__all__ = [
    "CHECKSUM", "DSSE", "SSH", "TrustedKeys", "check_signature", "read_trusted",
    "refuse_own_voice",
]  # fmt: skip

CHECKSUM = ".sha256"
DSSE = ".dsse.json"
SSH = ".sig"
"""What is appended to a file's name; each of them says something about the whole file."""

_SSH_LIMIT = 64 << 10
_DO_NOT = "do not use it; ask whoever sent it for the file and its signature"


@dataclass(frozen=True, kw_only=True)
class TrustedKeys:
    """The keys of a file, and the file: ssh-keygen reads it for itself."""

    path: Path
    keys: tuple[TrustedKey, ...]


def read_trusted(path: Path) -> TrustedKeys:
    """The keys that may sign, from a file of one a line.

    :raises InputError: if it is not there, has no key, or a line that is none.
    """
    do = f"keep the keys in a file of text: cat *.pub > {shlex.quote(str(path))}"
    try:
        if path.stat().st_size > trusted_keys.LIMIT:
            raise InputError("too large for a file of trusted keys", at=str(path), do=do)
        text = read_document(path, "the file of trusted keys", do=do)
    except FileNotFoundError as error:
        raise InputError("there is no file of trusted keys", at=str(path), do=do) from error
    try:
        return TrustedKeys(path=path.absolute(), keys=trusted_keys.read(text))
    except InputError as error:
        raise error.inside(str(path)) from None


def refuse_own_voice(path: Path) -> None:
    """See to it that the envforge that asks is not the one that the file brought.

    :raises InputError: if it is: whoever altered the bundle altered what checks it.
    """
    own = os.environ.get(FROM_BUNDLE)
    if own and _may_be_same(Path(own), path):
        raise InputError(
            "a bundle cannot vouch for itself: this envforge was unpacked from the file that it is to check",
            at=str(path),
            do="check it with an envforge that is on this machine already, or with ssh-keygen or sha256sum",
        )


def _may_be_same(own: Path, path: Path) -> bool:
    try:
        return own.samefile(path)
    except OSError:  # who cannot tell is not believed
        return True


def check_signature(path: Path, trusted: TrustedKeys) -> Signed:
    """The signature of the file at ``path`` that holds, by one of the trusted keys.

    :raises InputError: if there is none: it is not signed, by somebody else, or was altered or renamed.
    :raises CouldNotError: if a file cannot be read, or what is needed to check is not installed.
    """
    if not path.is_file():
        raise InputError("no such file", at=str(path), do="name the bundle")
    ways: list[tuple[str, Callable[[Path, Path, TrustedKeys], Signed]]] = [(DSSE, _by_dsse), (SSH, _by_ssh)]
    found = [(_beside(path, ending), check) for ending, check in ways]
    found = [(file, check) for file, check in found if os.path.lexists(file)]
    if not found:
        raise InputError(
            "the file is not signed",
            at=f"{path}: neither {path.name}{DSSE} nor {path.name}{SSH} is beside it",
            do="carry its signature over and put it there, or have it made: envforge bundle --sign KEY",
        )
    failures: list[InputError | CouldNotError] = []
    for file, check in found:
        try:
            return check(path, file, trusted)
        except (InputError, CouldNotError) as error:
            failures.append(error)
    raise failures[0]


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _by_dsse(path: Path, file: Path, trusted: TrustedKeys) -> Signed:
    from envforge.edges.signing import verify_envelope

    try:
        envelope = dsse_json.read(_signature_text(file, dsse_json.LIMIT))
        key = verify_envelope(envelope, trusted.keys)
        if key is None:
            raise _not_by_any(trusted, [name for name, _ in envelope.signatures])
        statement = dsse_json.read_statement(envelope)
    except InputError as error:
        raise error.inside(str(file)) from None
    if statement.filename != path.name:
        raise InputError(
            f"the signature is that of {statement.filename}, and the file has another name",
            at=str(path),
            do=f"if it is the same file, give it its name back: {statement.filename}",
        )
    sha256 = file_sha256(path)
    if sha256 != statement.sha256:
        raise InputError(
            f"the file is not the one that {key.who} signed: its sha256 is {sha256}",
            at=str(path),
            do=_DO_NOT,
        )
    return Signed(who=key.who, key=key.fingerprint, kind="dsse", sha256=sha256, facts=statement.facts)


def _by_ssh(path: Path, file: Path, trusted: TrustedKeys) -> Signed:
    from envforge.edges.signing import ssh_signer

    try:
        text = _signature_text(file, _SSH_LIMIT)
    except InputError as error:
        raise error.inside(str(file)) from None
    if not text.startswith("-----BEGIN SSH SIGNATURE-----\n"):
        raise InputError("not a signature of ssh", at=str(file), do=_DO_NOT)
    sha256 = file_sha256(path)
    signer = ssh_signer(path, file, trusted.path)
    if signer is None:
        raise _not_trusted(trusted, "a key of ssh").inside(str(file))
    return Signed(who=signer[0], key=signer[1], kind="ssh", sha256=sha256)


def _not_by_any(trusted: TrustedKeys, claimed: list[str]) -> InputError:
    limited = next((key for key in trusted.keys if key.fingerprint in claimed and not key.anywhere), None)
    if limited is None:
        return _not_trusted(trusted, ", ".join(claimed))
    return InputError(
        f"the key of {limited.who} has conditions that only ssh-keygen heeds, or is for something else",
        do=f'write a line for it whose only option is namespaces="{NAMESPACE}"',
    )


def _not_trusted(trusted: TrustedKeys, claimed: str) -> InputError:
    return InputError(
        f"no trusted key made this signature (it names {claimed[:200] or 'no key'})",
        do=f"ask whoever sent it; if you trust the key, write it down: {shlex.quote(str(trusted.path))}",
    )


def _signature_text(file: Path, limit: int) -> str:
    """The text of a signature, which came with the file and may be anything."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise InputError("not a signature: no file, or too large", do=_DO_NOT)
        return file.read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise InputError("not a signature: no text", do=_DO_NOT) from error
    except OSError as error:
        raise CouldNotError(
            f"cannot read the signature: {error.strerror or error}", at=str(file), do="check who may read it"
        ) from error
