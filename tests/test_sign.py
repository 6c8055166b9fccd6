"""Signatures: who signed a file, with real keys, the real ssh-keygen and securesystemslib as the peer."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as Peer
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from envforge.edges.signing import verify_envelope
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.formats import conda_lock, dsse_json, trusted_keys
from envforge.model.signature import NAMESPACE, BundleFacts, Envelope, Signed, Statement, TrustedKey
from envforge.node.sources.signatures import check_signature, read_trusted
from envforge.sign import make_key, sign_file, write_checksum
from tests.conftest import Journey, Shell
from tests.node.world import run_all

FACTS = BundleFacts(lock="ab" * 32, platform="linux-64", name="analysis")
CONTENT = b"#!/bin/sh\n# a bundle\n" + bytes(range(256)) * 40

quick = settings(max_examples=60, deadline=None, derandomize=True)
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")


def ssh_key(path: Path, kind: str = "ed25519") -> Path:
    words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "somebody", "-f", str(path)]
    subprocess.run(words, check=True)
    return path


def allowed(key: Path, who: str = "ada@example.org", options: str = "") -> str:
    kind, blob = key.with_suffix(".pub").read_text().split()[:2]
    return " ".join(word for word in (who, options, kind, blob) if word) + "\n"


@dataclass(frozen=True)
class Desk:
    """A file to sign, a key to sign with, and the file of trusted keys that has it."""

    file: Path
    key: Path
    trusted: Path

    @property
    def signature(self) -> Path:
        return self.file.with_name(f"{self.file.name}.dsse.json")

    def sign(self, key: Path | None = None) -> None:
        sign_file(self.file, key or self.key, FACTS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    pair = make_key(tmp_path / "my.key", "ada@example.org")
    trusted = tmp_path / "trusted_keys"
    trusted.write_text(f"# who may sign\n\n{pair.line}\n")
    file = tmp_path / "analysis-linux-64.sh"
    file.write_bytes(CONTENT)
    return Desk(file, pair.private, trusted)


def why(call: Callable[[], object]) -> str:
    """What is said when something is refused."""
    with pytest.raises(EnvforgeError) as caught:
        call()
    assert caught.value.at
    assert caught.value.do
    return f"{caught.value.what} {caught.value.at} {caught.value.do}"


# -- keys ------------------------------------------------------------------------------------------------


def test_keygen_makes_two_files_and_never_overwrites(envforge: Shell) -> None:
    made = envforge("keygen", "--json", "-o", "k", "--name", "ada@example.org", umask=0)
    key = envforge.cwd / "k"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    (found,) = trusted_keys.read((envforge.cwd / "k.pub").read_text())
    assert (found.who, found.fingerprint) == ("ada@example.org", made.json["key"])
    before = key.read_bytes()
    again, other = run_all(
        envforge, [("keygen", "-o", "k"), ("keygen", "-o", "k2", "--name", 'a "b" namespaces="*"')]
    )
    again.assert_error(2, "never overwritten")
    other.assert_error(2, "is no name")
    assert key.read_bytes() == before
    key.unlink()
    envforge("keygen", "-o", "k", status=2)  # the public one is still there
    assert not key.exists()


@needs_ssh
def test_the_public_key_is_one_of_ssh(desk: Desk) -> None:
    line = trusted_keys.read(desk.trusted.read_text())[0].line()
    plain = desk.file.with_name("plain.pub")
    plain.write_text(" ".join(line.split()[2:]) + "\n")
    said = subprocess.run(["ssh-keygen", "-l", "-f", plain], capture_output=True, text=True, check=True)
    assert trusted_keys.read(line)[0].fingerprint in said.stdout


# -- envelopes -------------------------------------------------------------------------------------------


def test_a_signed_file_is_known_and_the_same_bytes_are_signed_again(desk: Desk) -> None:
    desk.sign()
    first = desk.signature.read_bytes()
    signed = check_signature(desk.file, read_trusted(desk.trusted))
    assert (signed.who, signed.kind, signed.facts) == ("ada@example.org", "dsse", FACTS)
    desk.sign()
    assert desk.signature.read_bytes() == first


def test_another_library_checks_what_we_sign(desk: Desk) -> None:
    desk.sign()
    envelope = Peer.from_dict(json.loads(desk.signature.read_text()))
    key = trusted_keys.read(desk.trusted.read_text())[0]
    assert key.ed25519 is not None
    peer = SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": key.ed25519.hex()})
    assert set(envelope.verify([peer], 1)) == {key.fingerprint}
    statement = json.loads(envelope.payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"][0]["name"] == desk.file.name
    assert statement["predicate"]["lock"] == {"sha256": FACTS.lock}
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([peer], 1)


_WITHOUT = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("cryptography", "nacl", "requests", "yaml"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from pathlib import Path
from envforge.node.sources.signatures import check_signature, read_trusted
from envforge.errors import InputError
file, trusted = map(Path, sys.argv[1:])
print(check_signature(file, read_trusted(trusted)).who)
signature = file.with_name(file.name + ".dsse.json")
text = signature.read_text()
refused = 0
for at in range(text.index('"sig":"') + 7, len(text) - 6, 9):  # every ninth: pure Python takes its time
    other = "A" if text[at] != "A" else "B"
    signature.write_text(text[:at] + other + text[at + 1:])
    try:
        check_signature(file, read_trusted(trusted))
    except InputError:
        refused += 1
    else:
        sys.exit(f"letter {at} may be changed")
print(refused)
assert not any(name.split(".")[0] == "cryptography" for name in sys.modules)
"""


def test_checking_needs_no_cryptography(desk: Desk) -> None:
    desk.sign()
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, desk.file, desk.trusted], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    who, refused = done.stdout.split()
    assert who == "ada@example.org"
    assert int(refused) > 5


def test_an_envelope_changed_in_any_byte_is_refused(desk: Desk) -> None:
    desk.sign()
    content = desk.signature.read_bytes()
    trusted = read_trusted(desk.trusted)
    for at, old in enumerate(content):
        for new in {old ^ 1, old ^ 0x20, 0x20} - {old}:
            desk.signature.write_bytes(content[:at] + bytes([new]) + content[at + 1 :])
            with pytest.raises(InputError):
                check_signature(desk.file, trusted)
    for other in (content[:-1], content + b"\n", b"", content * 2, b"\xff" * 99, b"[" * 60_000):
        desk.signature.write_bytes(other)
        with pytest.raises(InputError):
            check_signature(desk.file, trusted)


def test_a_signature_has_one_spelling(desk: Desk) -> None:
    """Pure Python takes the second half modulo the group's order: sixteen numbers would be the same."""
    desk.sign()
    envelope = dsse_json.read(desk.signature.read_text())
    ((name, signature),) = envelope.signatures
    order = 2**252 + 27742317777372353535851937790883648493
    larger = int.from_bytes(signature[32:], "little") + order
    other = replace(envelope, signatures=((name, signature[:32] + larger.to_bytes(32, "little")),))
    keys = trusted_keys.read(desk.trusted.read_text())
    assert verify_envelope(envelope, keys) == keys[0]
    assert verify_envelope(other, keys) is None


def test_what_is_wrong_is_said(desk: Desk, tmp_path: Path) -> None:
    trusted = read_trusted(desk.trusted)
    assert "not signed" in why(lambda: check_signature(desk.file, trusted))
    desk.sign()
    desk.file.write_bytes(CONTENT + b"x")
    assert "not the one that ada@example.org signed" in why(lambda: check_signature(desk.file, trusted))
    desk.file.write_bytes(CONTENT)
    renamed = desk.file.with_name("other.sh")
    shutil.copy(desk.file, renamed)
    shutil.copy(desk.signature, f"{renamed}.dsse.json")
    said = why(lambda: check_signature(renamed, trusted))
    assert "signature is that of analysis-linux-64.sh" in said
    stranger = make_key(tmp_path / "stranger", "eve@example.org")
    desk.sign(stranger.private)
    assert stranger.key in why(lambda: check_signature(desk.file, trusted))
    # Who signs is the key, and not the id that the envelope names.
    envelope = dsse_json.read(desk.signature.read_text())
    claimed = replace(envelope, signatures=((trusted.keys[0].fingerprint, envelope.signatures[0][1]),))
    desk.signature.write_text(dsse_json.write(claimed))
    assert "no trusted key" in why(lambda: check_signature(desk.file, trusted))


def test_a_key_with_conditions_signs_no_envelope(desk: Desk) -> None:
    desk.sign()
    line = desk.trusted.read_text()
    for options in ('namespaces="git"', f'namespaces="{NAMESPACE}",valid-after="20000101"', "cert-authority"):
        desk.trusted.write_text(line.replace(f'namespaces="{NAMESPACE}"', options))
        said = why(lambda: check_signature(desk.file, read_trusted(desk.trusted)))
        assert "conditions that only ssh-keygen heeds" in said


def test_a_statement_of_another_kind_or_version_is_no_signature(desk: Desk) -> None:
    from envforge.edges.signing import sign_envelope

    trusted = read_trusted(desk.trusted)
    good = dsse_json.write_statement(
        Statement(filename=desk.file.name, sha256="0" * 64, facts=FACTS, envforge="1")
    )
    cases = {
        "newer version": (good.replace(b"bundle:1", b"bundle:2"), dsse_json.PAYLOAD_TYPE),
        "not about a bundle": (good.replace(b"urn:envforge:bundle:1", b"https://x"), dsse_json.PAYLOAD_TYPE),
        "not a statement": (good, "text/plain"),
        "where a mapping is needed": (b"[]", dsse_json.PAYLOAD_TYPE),
        "not written as": (good + b" ", dsse_json.PAYLOAD_TYPE),
        "a file's name": (good.replace(b"analysis-linux", b"../analysis-linux"), dsse_json.PAYLOAD_TYPE),
    }
    for words, (payload, kind) in cases.items():
        made = sign_envelope(payload, kind, desk.key.read_bytes(), desk.key)
        desk.signature.write_text(dsse_json.write(made))
        assert words in why(lambda: check_signature(desk.file, trusted))


def test_what_lies_there_as_a_signature_may_be_anything(desk: Desk) -> None:
    trusted = read_trusted(desk.trusted)
    desk.signature.symlink_to("/nowhere")
    assert "cannot read the signature" in why(lambda: check_signature(desk.file, trusted))
    desk.signature.unlink()
    os.mkfifo(desk.signature)  # reading it would never end
    assert "not a signature" in why(lambda: check_signature(desk.file, trusted))


def test_what_cannot_sign(desk: Desk, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = generate_private_key(SECP256R1())
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    other = tmp_path / "other"
    cases = {
        "not an Ed25519 key": key.private_bytes(pem, pkcs8, NoEncryption()),
        "passphrase": key.private_bytes(pem, pkcs8, BestAvailableEncryption(b"secret")),
        "not a private key": desk.trusted.read_bytes(),
        "not a private key ": b"-----BEGIN PRIVATE KEY-----\nnonsense\n",
    }
    for words, content in cases.items():
        other.write_bytes(content)
        assert words.strip() in why(lambda: desk.sign(other))
    assert "no key of this name" in why(lambda: desk.sign(tmp_path / "nothing"))
    assert not desk.signature.exists()


def test_without_cryptography_keygen_names_what_to_install(envforge: Shell, tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError('no', name='cryptography')\n")
    ended = envforge("keygen", status=3, env={"PYTHONPATH": str(tmp_path)})
    ended.assert_error(3, "cryptography is not installed", "envforge-hpc[sign]")
    assert list(envforge.cwd.iterdir()) == []


# -- ssh -------------------------------------------------------------------------------------------------


@needs_ssh
@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_of_ssh_signs_and_ssh_keygen_agrees(desk: Desk, tmp_path: Path, kind: str) -> None:
    key = ssh_key(tmp_path / "id", kind)
    made = sign_file(desk.file, key, FACTS)
    assert made.path == desk.file.with_name(f"{desk.file.name}.sig")
    desk.trusted.write_text(allowed(key, "ada@example.org,ada", f'namespaces="git,{NAMESPACE}"'))
    signed = check_signature(desk.file, read_trusted(desk.trusted))
    assert (signed.who, signed.kind) == ("ada@example.org", "ssh")
    assert signed.key == trusted_keys.read(desk.trusted.read_text())[0].fingerprint
    # The line that is printed is what a node without envforge can type.
    line = made.check.replace("WHO", "ada@example.org")
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, capture_output=True)
    desk.file.write_bytes(CONTENT[:-1])
    assert "not the file that ada@example.org signed" in why(
        lambda: check_signature(desk.file, read_trusted(desk.trusted))
    )


@needs_ssh
def test_a_signature_of_ssh_for_something_else_does_not_count(desk: Desk, tmp_path: Path) -> None:
    key, stranger = ssh_key(tmp_path / "id"), ssh_key(tmp_path / "eve")
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key), str(desk.file)]
    subprocess.run(words, check=True, capture_output=True)
    desk.trusted.write_text(allowed(key))

    def check() -> Signed:
        return check_signature(desk.file, read_trusted(desk.trusted))

    assert "not for this purpose" in why(check)
    sign_file(desk.file, key, FACTS)
    assert check().kind == "ssh"
    for options in ('namespaces="git"', 'valid-before="20200101"'):
        desk.trusted.write_text(allowed(key, options=options))
        why(check)
    desk.trusted.write_text(allowed(stranger))
    assert "no trusted key" in why(check)
    desk.file.with_name(f"{desk.file.name}.sig").write_text("-----BEGIN SSH SIGNATURE-----\nno\n")
    assert "no trusted key" in why(check)


@needs_ssh
def test_one_signature_of_two_is_enough_and_one_file_of_keys_for_both(desk: Desk, tmp_path: Path) -> None:
    key = ssh_key(tmp_path / "id")
    desk.sign()
    desk.sign(key)
    own = desk.trusted.read_text()
    desk.trusted.write_text(own + allowed(key, "bob@example.org"))
    assert check_signature(desk.file, read_trusted(desk.trusted)).who == "ada@example.org"
    desk.trusted.write_text(allowed(key, "bob@example.org"))
    assert check_signature(desk.file, read_trusted(desk.trusted)).who == "bob@example.org"


@needs_ssh
def test_an_agent_signs_for_a_public_key(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ssh_key(tmp_path / "id")
    socket = tmp_path / "agent"
    if len(str(socket)) > 100:
        pytest.skip("the path is too long for a socket")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            assert agent.poll() is None
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        key.unlink()
        sign_file(desk.file, key.with_suffix(".pub"), FACTS)
    finally:
        agent.terminate()
        agent.wait()
    desk.trusted.write_text(allowed(key))
    assert check_signature(desk.file, read_trusted(desk.trusted)).kind == "ssh"


def test_without_ssh_keygen_that_is_said(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.file.with_name(f"{desk.file.name}.sig").write_text("-----BEGIN SSH SIGNATURE-----\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CouldNotError, match="ssh-keygen is not on the PATH"):
        check_signature(desk.file, read_trusted(desk.trusted))
    old = tmp_path / "ssh-keygen"
    old.write_text("#!/bin/sh\necho 'usage: ssh-keygen [-q]' >&2; exit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    with pytest.raises(CouldNotError, match="too old"):
        check_signature(desk.file, read_trusted(desk.trusted))


# -- trusted keys ----------------------------------------------------------------------------------------

KEY = TrustedKey.of_ed25519("ada@example.org", bytes(range(32)))
_, _, KIND, BLOB = KEY.line().split()


@pytest.mark.parametrize(
    ("line", "who", "anywhere"),
    [
        (f"ada {KIND} {BLOB}", "ada", True),
        (f'  ada\t{KIND}  {BLOB} a remark, "open', "ada", True),
        (f"ada,bob {KIND} {BLOB}\r", "ada,bob", True),
        (f'"Ada L" namespaces="x,envforge-*" {KIND} {BLOB}', "Ada L", True),
        (f'ada namespaces="envforge-*,!*bundle" {KIND} {BLOB}', "ada", False),
        (f'ada namespaces="git" {KIND} {BLOB}', "ada", False),
        (f'ada NAMESPACES="*",valid-before="20300101" {KIND} {BLOB}', "ada", False),
        (f"*@example.org cert-authority {KIND} {BLOB}", "*@example.org", False),
        (f"ada namespaces {KIND} {BLOB}", "ada", False),
    ],
)
def test_lines_that_are_keys(line: str, who: str, anywhere: bool) -> None:
    (key,) = trusted_keys.read(f"# remark\n\n{line}\n")
    assert (key.who, key.blob, key.anywhere) == (who, KEY.blob, anywhere)


@pytest.mark.parametrize(
    "line",
    [
        "ada",
        f"{KIND} {BLOB}",
        f"ada {KIND}",
        f"ada {KIND} {BLOB[:-4]}",
        f"ada {KIND} {BLOB[:-1]}!",
        f"ada {KIND} {base64.b64encode(KEY.blob + b'x').decode()}",
        f"ada ssh-rsa {BLOB}",
        f"ada x y {KIND} {BLOB}",
        f'ada namespaces="*"x {KIND} {BLOB}',
        f'ada namespaces="a {KIND} {BLOB}',
        f'a"d"a {KIND} {BLOB}',
        f"ada {KIND} {BLOB} \x1b[2J",
        f"ada\x00 {KIND} {BLOB}",
        "x" * 20_000,
    ],
)
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(InputError) as caught:
        trusted_keys.read(f"\n{line}\n")
    assert caught.value.at == "line 2"
    assert caught.value.do


def test_files_of_keys_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "trusted"
    assert "no file of trusted keys" in why(lambda: read_trusted(path))
    for content in (b"", b"# nobody\n", b"\xff\xfe", b"#" * (2 << 20), f"{KEY.line()}\n".encode() * 1001):
        path.write_bytes(content)
        assert str(path) in why(lambda: read_trusted(path))


@quick
@given(st.text(max_size=200) | st.text('ab "=,!*\\\t#', max_size=60).map(lambda t: f"{t} {KIND} {BLOB}"))
def test_any_text_is_keys_or_an_error(text: str) -> None:
    try:
        keys = trusted_keys.read(text)
    except InputError as error:
        assert error.do  # noqa: PT017
    else:
        for key in keys:
            (again,) = trusted_keys.read(replace(key, who="ada").line())
            assert again.blob == key.blob


@quick
@given(st.text(max_size=100) | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_any_text_is_no_envelope(text: str) -> None:
    with pytest.raises(InputError):
        dsse_json.read(text)


@quick
@given(
    st.binary(min_size=1, max_size=99), st.text("a/+ \u00e9", min_size=1), st.binary(min_size=1, max_size=64)
)
def test_an_envelope_is_read_as_it_was_written(payload: bytes, kind: str, signature: bytes) -> None:
    envelope = Envelope(payload=payload, payload_type=kind, signatures=(("k", signature),))
    assert dsse_json.read(dsse_json.write(envelope)) == envelope
    assert verify_envelope(envelope, (KEY,)) is None


# -- the command line ------------------------------------------------------------------------------------


def test_sha256sum_checks_what_is_written(desk: Desk) -> None:
    write_checksum(desk.file)
    words = ["sha256sum", "-c", f"{desk.file.name}.sha256"]
    assert subprocess.run(words, cwd=desk.file.parent, check=False, capture_output=True).returncode == 0
    desk.file.write_bytes(b"other")
    assert subprocess.run(words, cwd=desk.file.parent, check=False, capture_output=True).returncode == 1


def test_names_that_are_signed(desk: Desk) -> None:
    blank = desk.file.rename(desk.file.with_name("my env.sh"))
    write_checksum(blank)
    sign_file(blank, desk.key, FACTS)
    assert check_signature(blank, read_trusted(desk.trusted)).who == "ada@example.org"
    words = ["sha256sum", "-c", f"{blank.name}.sha256"]
    subprocess.run(words, cwd=blank.parent, check=True, capture_output=True)
    for name in ("a\nb.sh", "a\\b.sh", "\u202egnp.sh", "\udcff.sh"):
        other = desk.file.with_name(name)
        other.write_bytes(CONTENT)
        why(lambda: write_checksum(other))  # noqa: B023
        why(lambda: sign_file(other, desk.key, FACTS))  # noqa: B023
    assert len(list(blank.parent.glob("*.sha256"))) == 1


def test_verify_says_who_signed(envforge: Shell, desk: Desk) -> None:
    desk.sign()
    altered = desk.file.with_name("altered") / desk.file.name
    altered.parent.mkdir()
    altered.write_bytes(CONTENT + b"x")
    shutil.copy(desk.signature, altered.parent)
    keys = ("--trusted-keys", desk.trusted)
    good, shown, no, directory, none, missing = run_all(
        envforge,
        [
            ("verify", desk.file, *keys, "--json"),
            ("verify", desk.file, *keys),
            ("verify", altered, *keys),
            ("verify", desk.file.parent, *keys),
            ("verify", desk.file, "--trusted-keys", "nowhere"),
            ("verify", desk.file.with_name("nothing.sh"), *keys),
        ],
    )
    assert (good.status, good.json["who"], good.json["lock"]) == (
        0,
        "ada@example.org",
        f"sha256:{FACTS.lock}",
    )
    assert "ada@example.org signed" in shown.out
    no.assert_error(1, "not the one that ada@example.org signed")
    directory.assert_error(2, "directory")
    none.assert_error(2, "no file of trusted keys")
    missing.assert_error(1, "no such file")


def test_a_bundle_cannot_vouch_for_itself(envforge: Shell, desk: Desk) -> None:
    desk.sign()
    keys = ("--trusted-keys", desk.trusted)
    calls = [("verify", desk.file, *keys), ("install", desk.file, *keys, "--prefix", "p")]
    link = desk.file.with_name("link.sh")
    link.symlink_to(desk.file)
    for own in (desk.file, link, "/nowhere/at/all"):
        for ended in run_all(envforge, calls, env={"ENVFORGE_FROM_BUNDLE": str(own)}):
            ended.assert_error(2, "a bundle cannot vouch for itself")
    (ended,) = run_all(envforge, calls[:1], env={"ENVFORGE_FROM_BUNDLE": str(desk.trusted)})
    assert ended.status == 0


def test_install_takes_only_what_is_signed(envforge: Shell, journey: Journey, tmp_path: Path) -> None:
    pair = make_key(tmp_path / "my.key", "ada@example.org")
    lock = tmp_path / "conda-lock.yml"
    shutil.copy(journey.lockfile, lock)
    required = ("--require-signature", "--trusted-keys", pair.public)
    to = ("--prefix", tmp_path / "p", "--dry-run")
    unsigned, nobody, mirror = run_all(
        envforge,
        [
            ("install", lock, *to, *required),
            ("install", lock, *to, "--require-signature"),
            ("install", journey.mirror, *to, *required),
        ],
    )
    unsigned.assert_error(2, "not signed")
    nobody.assert_error(2, "--trusted-keys FILE")
    mirror.assert_error(2, "a directory has no signature", "--expect-lock")
    sign_file(lock, pair.private, FACTS)
    (other,) = run_all(envforge, [("install", lock, *to, *required)])
    other.assert_error(2, "of another lock")
    digest = conda_lock.read(lock.read_text(), source="").digest()
    sign_file(lock, pair.private, replace(FACTS, lock=digest))
    (good,) = run_all(envforge, [("install", lock, *to, *required)])
    assert good.status == 0, good.err
    assert f"signed by ada@example.org with {pair.key}" in good.err
    lock.write_text(lock.read_text() + "# and a remark\n")
    (altered,) = run_all(envforge, [("install", lock, *to, *required)])
    altered.assert_error(2, "not the one that ada@example.org signed")
    assert not (tmp_path / "p").exists()
