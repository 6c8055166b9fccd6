"""The header of a bundle, version 1: a POSIX sh program with values in it, and padding.

Goals: always :data:`~envforge.model.bundle.HEADER_SIZE` bytes; a function of the values and of the release;
standard library only, because a node reads it.  ::

    #!/bin/sh
    # envforge bundle 1
    # SHA256                  of every byte of the header after this line
    …
    version=… platform=…      three lines of values, none of which needs quoting
    …
    main "$@"; exit
    #                         blanks up to the last byte, a newline

The program is ``templates/bundle.sh``.  The digest finds damage; that the bundle is the right one it cannot
say.  Of every version, older and newer, this can be relied upon: the second line, and a later one that begins
with ``version=`` and the release that wrote it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from importlib.resources import files
from typing import Any

from envforge import __version__
from envforge.errors import InputError
from envforge.formats._fields import needed_release
from envforge.model.bundle import HEADER_SIZE, Header

__all__ = ["VERSION", "is_bundle", "read", "write"]

VERSION = 1
_REMEDY = "carry the bundle again, or make it again: envforge bundle"
_START = b"#!/bin/sh\n# envforge bundle "
_FIRST = re.compile(re.escape(_START) + rb"([1-9][0-9]{0,8})\n")
_DIGEST = re.compile(rb"# ([0-9a-f]{64})\n")
_RELEASE = re.compile(rb"^version=([A-Za-z0-9._+-]{1,64})(?=[ \n])", re.MULTILINE)
_END = re.compile(rb'\nmain "\$@"; exit\n# *\n\Z')
_LINES = (
    ("version", "platform", "name", "lock", "glibc"),
    ("kib", "files", "runtime", "runtime_at", "runtime_size"),
    ("manifest", "manifest_at", "manifest_size"),
)
_VALUES = re.compile(
    b"^"
    + b"".join(
        b" ".join(rb"%s=(?P<%s>[A-Za-z0-9._+-]*)" % (name.encode(), name.encode()) for name in line) + b"\n"
        for line in _LINES
    ),
    re.MULTILINE,
)
_NUMBERS = frozenset(field.name for field in fields(Header) if field.type == "int")


def is_bundle(first: bytes) -> bool:
    """Whether a file that begins with these bytes, 28 or more, claims to be a bundle of envforge's."""
    return first.startswith(_START)


def write(header: Header) -> bytes:
    """The header's bytes, :data:`~envforge.model.bundle.HEADER_SIZE` of them."""
    text = (files("envforge") / "templates" / "bundle.sh").read_text(encoding="ascii")
    head, _, program = text.partition("# @DIGEST@\n")
    covered = len(head) + len("# \n") + 64  # what the digest cannot cover: itself, and what is before it
    places = {field.name.upper(): str(getattr(header, field.name)) for field in fields(header)}
    places |= {"LENGTH": str(HEADER_SIZE), "BEFORE": str(covered), "COVERED": str(covered + 1)}
    program = re.sub(r"@([A-Z_]+)@", lambda found: places[found[1]], program)
    padding = HEADER_SIZE - covered - len(program) - len("#\n")
    assert padding >= 0  # noqa: S101 - the values have largest lengths, and a test adds them up
    rest = f"{program}#{' ' * padding}\n".encode("ascii")
    return f"{head}# {hashlib.sha256(rest).hexdigest()}\n".encode("ascii") + rest


def read(first: bytes) -> Header:
    """The header that a file begins with.

    :param first: the first :data:`~envforge.model.bundle.HEADER_SIZE` bytes of the file, or more.
    :raises InputError: if it is no bundle, one of a newer version, or one whose header is damaged.
    """
    first = first[:HEADER_SIZE]
    start = _FIRST.match(first)
    if start is None:
        raise InputError("not a bundle of envforge", do=_REMEDY)
    if int(start[1]) > VERSION:
        release = _RELEASE.search(first)
        raise InputError(
            f"the bundle has format version {int(start[1])},"
            f" and envforge {__version__} reads up to {VERSION}",
            do=needed_release(release[1].decode() if release else None),
        )
    if len(first) < HEADER_SIZE or not _is_whole(first, start.end()):
        raise InputError(f"the bundle's header, its first {HEADER_SIZE} bytes, is damaged", do=_REMEDY)
    values = _VALUES.search(first)
    if values is None or _END.search(first) is None:
        raise InputError("the bundle's header is not one that envforge wrote", do=_REMEDY)
    header = _header({name: value.decode() for name, value in values.groupdict().items()})
    # The programs of other releases are not known here.
    if header.version == __version__ and write(header) != first:
        raise InputError(f"the bundle's program is not that of envforge {__version__}", do=_REMEDY)
    return header


def _is_whole(first: bytes, begin: int) -> bool:
    """Whether the digest, which stands at ``begin``, is that of all that follows it."""
    digest = _DIGEST.match(first, begin)
    return digest is not None and hashlib.sha256(first[digest.end() :]).hexdigest().encode() == digest[1]


def _header(texts: dict[str, str]) -> Header:
    values: dict[str, Any] = {
        name: _number(name, text) if name in _NUMBERS else text for name, text in texts.items()
    }
    try:
        return Header(**values)
    except InputError as error:
        error.do = _REMEDY
        raise


def _number(name: str, text: str) -> int:
    if re.fullmatch(r"0|[1-9][0-9]{0,18}", text) is None:
        raise InputError(f"{text!r} where a whole number is needed", at=name, do=_REMEDY)
    return int(text)
