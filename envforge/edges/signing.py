"""Making and checking signatures: securesystemslib for envforge's own keys, ``ssh-keygen`` for those of ssh.

Checking an envelope needs securesystemslib alone, which has an Ed25519 in pure Python; making one needs
``cryptography`` as well, because pure Python is not safe with a secret key.  Both are imported by whoever
needs them: a node that checks nothing pays nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envforge.edges.process import Command, Completed, run
from envforge.errors import CouldNotError, InputError
from envforge.model.signature import NAMESPACE, Envelope, TrustedKey

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope as Dsse

__all__ = ["new_key", "sign_envelope", "sign_with_ssh", "ssh_signer", "verify_envelope"]

_ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of the group of Ed25519: the second half of a signature is a number below it (RFC 8032, 5.1.7)."""
_INSTALL = "python -m pip install 'envforge-hpc[sign]'"
_AGENT = (
    "SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "SSH_SK_PROVIDER", "DISPLAY", "WAYLAND_DISPLAY",
)  # fmt: skip
_GOOD = re.compile(r'^Good "[^"]*" signature for (.*) with \S+ key (SHA256:[A-Za-z0-9+/]{43})$', re.MULTILINE)


# -- envforge's own keys -----------------------------------------------------------------------------


def _engine() -> Any:
    """The class that signs.

    :raises CouldNotError: if what it needs is not installed.
    """
    try:
        import cryptography  # noqa: F401 - securesystemslib says it later and worse
        from securesystemslib.signer import CryptoSigner
    except ImportError as error:
        raise CouldNotError(
            f"keys of envforge's own cannot be made or signed with: {error.name} is not installed",
            do=f"{_INSTALL}   # or sign with a key of ssh: --sign ~/.ssh/id_ed25519",
        ) from error
    return CryptoSigner


def new_key() -> tuple[bytes, bytes]:
    """A new Ed25519 key: the private half as PEM (PKCS #8), and the 32 bytes of the public one.

    :raises CouldNotError: if ``cryptography`` is not installed.
    """
    signer = _engine().generate_ed25519()
    return signer.private_bytes, bytes.fromhex(signer.public_key.keyval["public"])


def _signer(private: bytes, at: Path) -> Any:
    engine = _engine()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    from securesystemslib.signer import SSlibKey

    try:
        key = load_pem_private_key(private, password=None)
    except TypeError as error:
        raise InputError(
            "the key has a passphrase, which keys of envforge do not have",
            at=str(at),
            do="sign with a key of ssh instead: ssh-keygen asks for its passphrase, or the agent",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("not a private key", at=str(at), do="envforge keygen   # makes one") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"not an Ed25519 key but a {type(key).__name__}", at=str(at), do="envforge keygen   # makes one"
        )
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = TrustedKey.of_ed25519("", public).fingerprint
    return engine(key, SSlibKey(name, "ed25519", "ed25519", {"public": public.hex()}))


def sign_envelope(payload: bytes, payload_type: str, private: bytes, at: Path) -> Envelope:
    """``payload`` signed with a private key in PEM; ``at`` is where the key lies, for an error.

    :raises InputError: if that is no Ed25519 key without a passphrase.
    :raises CouldNotError: if ``cryptography`` is not installed.
    """
    signer = _signer(private, at)
    from securesystemslib.dsse import Envelope as Dsse

    made = Dsse(payload, payload_type, {}).sign(signer)
    return Envelope(
        payload=payload,
        payload_type=payload_type,
        signatures=((made.keyid, bytes.fromhex(made.signature)),),
    )


def verify_envelope(envelope: Envelope, keys: Iterable[TrustedKey]) -> TrustedKey | None:
    """The first of ``keys`` that made a signature of ``envelope``; ``None`` if none of them did.

    Only Ed25519 keys are asked, and only those that count without ssh-keygen.

    :raises CouldNotError: if securesystemslib is not installed.
    """
    try:
        from securesystemslib.exceptions import VerificationError
        from securesystemslib.signer import SSlibKey
    except ImportError as error:
        raise CouldNotError(
            f"signatures cannot be checked: {error.name} is not installed",
            do="python -m pip install securesystemslib",
        ) from error
    dsse = _dsse(envelope)
    for key in keys:
        public = key.ed25519
        if public is None or not key.anywhere or key.fingerprint not in dsse.signatures:
            continue
        peer = SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": public.hex()})
        try:
            dsse.verify([peer], 1)
        except VerificationError:
            continue
        return key
    return None


def _dsse(envelope: Envelope) -> Dsse:
    from securesystemslib.dsse import Envelope as Dsse
    from securesystemslib.signer import Signature

    # The Ed25519 in pure Python takes the second half of a signature modulo the order: a signature could be
    # written in sixteen ways, of which cryptography takes one.
    signatures = {
        name: Signature(name, signature.hex())
        for name, signature in envelope.signatures
        if len(signature) == 64 and int.from_bytes(signature[32:], "little") < _ORDER
    }
    return Dsse(envelope.payload, envelope.payload_type, signatures)


# -- keys of ssh -------------------------------------------------------------------------------------


def _ssh_keygen(*words: str) -> Command:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise CouldNotError(
            "ssh-keygen is not on the PATH",
            do="install OpenSSH 8.2 or newer, or use a key that envforge keygen made",
        )
    agent = {name: os.environ[name] for name in _AGENT if name in os.environ}
    return Command(argv=(program, *words), env={**agent, "LC_ALL": "C"})


def sign_with_ssh(path: Path, key: Path) -> str:
    """The signature of a file by a key of ssh: its private file, or its public one if an agent has it.

    :raises InputError: if ssh-keygen refuses the key.
    :raises CouldNotError: if there is no ssh-keygen, or the file cannot be read.
    """
    command = _ssh_keygen("-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key))
    done = _fed(command, path)
    if done.returncode or not done.stdout.startswith("-----BEGIN SSH SIGNATURE-----\n"):
        raise InputError(
            f"ssh-keygen did not sign: {_said(done)}",
            at=str(key),
            do=f"see that this works: echo x | ssh-keygen -Y sign -n {NAMESPACE} -f {key}",
            story=done.stderr,
        )
    return done.stdout


def ssh_signer(path: Path, signature: Path, trusted: Path) -> tuple[str, str] | None:
    """Who of the file ``trusted`` signed ``path``, and the key's fingerprint; ``None`` if none did.

    :raises InputError: if somebody of them signed, but another file, or for another purpose or time.
    :raises CouldNotError: if there is no ssh-keygen, or one that is too old, or a file cannot be read.
    """
    found = run(_ssh_keygen("-Y", "find-principals", "-f", str(trusted), "-s", str(signature)))
    if found.returncode or not found.stdout.strip():
        _check_age(found)
        return None
    for line in found.stdout.splitlines():
        who = line.split(",")[0]
        words = ("-Y", "verify", "-n", NAMESPACE, "-f", str(trusted), "-I", who, "-s", str(signature))
        done = _fed(_ssh_keygen(*words), path)
        if done.returncode:
            _check_age(done)
        good = _GOOD.search(done.stdout) if done.returncode == 0 else None
        if good is not None:
            return good[1], good[2]
    raise InputError(
        f"it is not the file that {found.stdout.splitlines()[0]} signed, or not for this purpose or time",
        at=str(path),
        do="do not use it; ask whoever sent it for the file and its signature",
        story=done.stderr,
    )


def _check_age(done: Completed) -> None:
    if re.search(r"(?i)usage:|unknown option|unsupported operation", done.stderr):
        raise CouldNotError(
            "this ssh-keygen is too old: it cannot find who signed",
            do="use OpenSSH 8.2 or newer, or have the file signed with a key that envforge keygen made",
            story=done.stderr,
        )


def _fed(command: Command, path: Path) -> Completed:
    try:
        with path.open("rb") as file:
            return run(command, stdin=file)
    except OSError as error:
        raise CouldNotError(f"cannot read: {error.strerror or error}", at=str(path)) from error


def _said(done: Completed) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"status {done.returncode}"
