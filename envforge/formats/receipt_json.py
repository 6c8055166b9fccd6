"""``receipt.json`` of a generation: what was installed, and every file of it, version 2.

Goals: standard library only; 60,000 files read and written in well under a second each; one record a line,
sorted by path, so that ``grep`` answers what a file should be; the same for the same installation.  Modes are
octal, as ``chmod`` takes them.  Paths may have any bytes: what is not UTF-8 is escaped as Python does
(``surrogateescape``).

Version 1 had no ``python``, ``scripts`` and ``runtime``.
"""

from __future__ import annotations

import re
from functools import lru_cache

from envforge.errors import InputError
from envforge.formats import _json
from envforge.formats._collector import collector_paused
from envforge.formats._fields import Fields
from envforge.formats._rows import PLATFORM, read_package
from envforge.model.receipt import FileRecord, Receipt

__all__ = ["VERSION", "read", "write"]

VERSION = 2
_NEEDS = "0.1.0"
_REMEDY = "install again: envforge install SOURCE --prefix P   # the receipt was damaged"
_FIRST = frozenset(
    ("prefix", "generation", "platform", "groups", "lock", "lockfile", "tools", "packages", "files")
)
_TOP = _FIRST | {"python", "runtime", "scripts"}
_FILE = frozenset(("path", "kind", "mode", "size", "sha256", "target", "owner", "how"))
_ABSOLUTE = re.compile(r"/[^\0]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 63
_MODES = {f"{mode:04o}": mode for mode in range(0o10000)}


@collector_paused()
def write(receipt: Receipt) -> str:
    """The text of ``receipt``."""
    head = {
        "envforge_receipt": VERSION,
        _json.NEEDS: _NEEDS,
        "prefix": receipt.prefix,
        "generation": receipt.generation,
        "platform": receipt.platform,
        "groups": list(receipt.groups),
        "lock": receipt.lock,
        "lockfile": receipt.lockfile,
        "tools": dict(sorted(receipt.tools.items())),
        "python": receipt.python,
        "scripts": list(receipt.scripts),
        "runtime": receipt.runtime,
    }
    packages = (package.to_dict() for package in receipt.packages)
    files = (_file_dict(record) for record in sorted(receipt.files, key=lambda record: record.path))
    return _json.render(head, {"packages": packages, "files": files})


def _file_dict(record: FileRecord) -> dict[str, object]:
    made: dict[str, object] = {"path": record.path, "kind": record.kind}
    if record.mode is not None:
        made["mode"] = f"{record.mode:04o}"
    if record.size is not None:
        made["size"] = record.size
    if record.sha256 is not None:
        made["sha256"] = record.sha256
    if record.target is not None:
        made["target"] = record.target
    made["owner"] = record.owner
    made["how"] = record.how
    return made


@collector_paused()
def read(text: str) -> Receipt:
    """The receipt in ``text``.

    :raises InputError: if it is none, one of a newer version, or a damaged one; the place is relative to
        the file.
    """
    version, value = _json.parse(text, kind="receipt", newest=VERSION, remedy=_REMEDY)
    try:
        return _read(Fields(value, _FIRST if version == 1 else _TOP))
    except InputError as error:
        error.do = error.do or _REMEDY
        raise


def _read(top: Fields) -> Receipt:
    files = top.each("files", _file)
    _json.check_unique("files", [record.path for record in files])
    return Receipt(
        prefix=top.matching("prefix", _ABSOLUTE, "an absolute path"),
        generation=top.matching("generation", _ABSOLUTE, "an absolute path"),
        platform=top.matching("platform", PLATFORM, "a platform"),
        groups=top.texts("groups"),
        lock=top.sha256("lock"),
        lockfile=top.sha256("lockfile") if "lockfile" in top else None,
        tools=top.mapping("tools"),
        python=top.text("python") if "python" in top else None,
        scripts=top.texts("scripts") if "scripts" in top else (),
        runtime=top.sha256("runtime") if "runtime" in top else None,
        packages=top.each("packages", read_package),
        files=files,
    )


def _file(value: object) -> FileRecord:
    """One record: quickly where it is right, as nearly all are; slowly where it is not, to say why."""
    if type(value) is dict and value.keys() <= _FILE:
        get = value.get
        path, mode, size, sha256, target = map(get, ("path", "mode", "size", "sha256", "target"))
        if (
            type(path) is str
            and (mode is None or (type(mode) is str and mode in _MODES))
            and (size is None or (type(size) is int and 0 <= size < _LARGEST))
            and (sha256 is None or (type(sha256) is str and _SHA256.fullmatch(sha256)))
            and (target is None or type(target) is str)
            and _known(get("kind"))
            and _known(get("owner"))
            and _known(get("how"))
        ):
            return FileRecord.of(
                {
                    "path": path,
                    "kind": value["kind"],
                    "mode": None if mode is None else _MODES[mode],
                    "size": size,
                    "sha256": sha256,
                    "target": target,
                    "owner": value["owner"],
                    "how": value["how"],
                }
            )
    return _any_file(value)


def _known(text: object) -> bool:
    return type(text) is str and _printable(text)


@lru_cache(maxsize=4096)
def _printable(text: str) -> bool:
    return text != "" and text.isprintable()


def _any_file(value: object) -> FileRecord:
    record = Fields(value, _FILE)
    return FileRecord(
        path=record.raw("path"),
        kind=record.text("kind"),
        mode=_mode(record) if "mode" in record else None,
        size=record.number("size") if "size" in record else None,
        sha256=record.sha256("sha256") if "sha256" in record else None,
        target=record.raw("target") if "target" in record else None,
        owner=record.text("owner"),
        how=record.text("how"),
    )


def _mode(record: Fields) -> int:
    mode = _MODES.get(record.text("mode"))
    if mode is None:
        raise record.wrong("mode", "a mode such as 0755")
    return mode
