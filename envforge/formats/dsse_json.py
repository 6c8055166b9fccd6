"""``BUNDLE.dsse.json``: a DSSE envelope around an in-toto Statement, version 1 of each.

Goals: standard library only; the same key and file give the same bytes; there is one way to write a
statement, and a text that is written in another way is refused, so that no byte of it can be changed.
No signature is checked here: whoever asks what a statement says has checked it first.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

from envforge.errors import InputError
from envforge.formats._fields import Fields, describe
from envforge.model.signature import BundleFacts, Envelope, Statement

__all__ = ["LIMIT", "NAME", "PAYLOAD_TYPE", "PREDICATE", "read", "read_statement", "write", "write_statement"]

LIMIT = 64 << 10
"""Characters of an envelope; one has about 700."""
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE = "urn:envforge:bundle:1"
"""What the predicate of a bundle is called; the number is the version of its keys."""
_STATEMENT = "https://in-toto.io/Statement/v1"

_REMEDY = "have it signed again, and carry file and signature over together"
NAME = re.compile(r"[ -.0-\[\]-~]+")
"""What a signed file may be called: ASCII that every terminal shows as it is, no slash of either kind."""


def write(envelope: Envelope) -> str:
    """The text of ``envelope``."""
    signatures = [{"keyid": key, "sig": _encoded(signature)} for key, signature in envelope.signatures]
    document = {
        "payload": _encoded(envelope.payload),
        "payloadType": envelope.payload_type,
        "signatures": signatures,
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def read(text: str) -> Envelope:
    """The envelope in ``text``, whose signatures are not checked.

    :raises InputError: if it is none, or not written as :func:`write` does.
    """
    if len(text) > LIMIT:
        raise InputError("too large for a signature", do=_REMEDY)
    try:
        top = Fields(_parsed(text), frozenset(("payload", "payloadType", "signatures")))
        envelope = Envelope(
            payload=_decoded(top.text("payload")),
            payload_type=top.text("payloadType"),
            signatures=top.each("signatures", _signature),
        )
    except InputError as error:
        error.do = _REMEDY
        raise
    if write(envelope) != text:
        raise InputError("not written as envforge writes a signature", do=_REMEDY)
    return envelope


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("not valid JSON") from error


def _signature(value: object) -> tuple[str, bytes]:
    fields = Fields(value, frozenset(("keyid", "sig")))
    return fields.text("keyid"), _decoded(fields.text("sig"))


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("not valid base64") from error


def write_statement(statement: Statement) -> bytes:
    """The payload that is signed."""
    facts = statement.facts
    document = {
        "_type": _STATEMENT,
        "subject": [{"name": statement.filename, "digest": {"sha256": statement.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "envforge": statement.envforge,
            "lock": {"sha256": facts.lock},
            "name": facts.name,
            "platform": facts.platform,
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def read_statement(envelope: Envelope) -> Statement:
    """What ``envelope`` states.

    :raises InputError: if that is no statement about a bundle, or one of a newer version.
    """
    try:
        if envelope.payload_type != PAYLOAD_TYPE:
            raise InputError(f"it signs {describe(envelope.payload_type)}, not a statement", at="payloadType")
        statement = _statement(_parsed(envelope.payload.decode("utf-8", "replace")))
        if write_statement(statement) != envelope.payload:
            raise InputError("not written as envforge writes a statement", at="payload")
        return statement
    except InputError as error:
        error.do = error.do or _REMEDY
        raise


def _statement(value: object) -> Statement:
    top = Fields(value, frozenset(("_type", "subject", "predicateType", "predicate")))
    kind, about = top.text("_type"), top.text("predicateType")
    if kind != _STATEMENT or about != PREDICATE:
        newer = about.startswith(PREDICATE.rsplit(":", 1)[0] + ":")
        raise InputError(
            f"it states {describe(about)}, which is not about a bundle"
            if not newer
            else "the statement is of a newer version",
            at="predicateType",
            do="use a newer envforge" if newer else _REMEDY,
        )
    subjects = top.each("subject", _subject)
    if len(subjects) != 1:
        raise InputError(f"{len(subjects)} files are signed, not one", at="subject")
    said = top.nested("predicate", frozenset(("envforge", "lock", "name", "platform")))
    facts = BundleFacts(
        lock=said.nested("lock", frozenset(("sha256",))).sha256("sha256"),
        platform=said.text("platform"),
        name=said.text("name"),
    )
    filename, sha256 = subjects[0]
    return Statement(filename=filename, sha256=sha256, facts=facts, envforge=said.text("envforge"))


def _subject(value: object) -> tuple[str, str]:
    subject = Fields(value, frozenset(("name", "digest")))
    digest = subject.nested("digest", frozenset(("sha256",)))
    return subject.matching("name", NAME, "a file's name"), digest.sha256("sha256")
