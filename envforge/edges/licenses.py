"""What packages say about their licences: from artifacts, or from the records of a prefix.

Licences are for people, so nothing of them is a reason to fail but an archive that cannot be read: what makes
no sense is left out, what is too long is cut, and control characters, which could drive a terminal, become
blanks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from email.parser import HeaderParser
from pathlib import Path

from envforge.edges.archive import BROKEN_ZIP, checked_wheel, conda_info_files, unreadable
from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage, canonical_name

__all__ = ["installed_facts", "read_facts"]

TEXT_LIMIT = 256 << 10
"""Bytes of one text; the longest licences have 40,000."""
TEXTS_LIMIT = 1 << 20
"""Bytes of all texts of one package."""
_NAME_LIMIT = 300
_METADATA_LIMIT = 8 << 20

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_CONDA_TEXT = re.compile(r"info/(?:licenses?/.+|licen[cs]e[^/]*)", re.IGNORECASE)
_CONDA_FILE = re.compile(rf"{_CONDA_TEXT.pattern}|info/(?:index|about)\.json", re.IGNORECASE)
_WHEEL_TEXT = re.compile(
    r"[^/]+\.dist-info/(?:licenses?/.+|license_files/.+|(?:licen[cs]e|copying|notice|copyright)[^/]*)",
    re.IGNORECASE,
)
_NOTHING = {"", "unknown", "none", "other", "see license file", "dual license"}


def read_facts(path: Path, filename: str, *, scratch: Path | None = None) -> PackageFacts:
    """The licence of one artifact and the texts in it.

    :param path: the archive, under whatever name it is kept.
    :param filename: its real name: a conda package or a wheel; of anything else nothing is known.
    :param scratch: where a symlink may be put for a moment if ``path`` is not named as ``filename`` is.
    :raises InputError: if it cannot be read, or is not to be trusted.
    :raises CouldNotError: if it is not there.
    """
    if filename.endswith(".whl"):
        return _of_wheel(path, filename)
    if filename.endswith((".conda", ".tar.bz2")):
        return _of_conda(path, filename, scratch)
    return PackageFacts()


def _of_conda(path: Path, filename: str, scratch: Path | None) -> PackageFacts:
    files = conda_info_files(path, filename, _CONDA_FILE, scratch=scratch)
    index, about = (_mapping(files.get(f"info/{name}.json", b"")) for name in ("index", "about"))
    texts = {name: content for name, content in files.items() if _CONDA_TEXT.fullmatch(name)}
    return PackageFacts(
        license=_line(index.get("license")) or _line(about.get("license")), texts=_texts(texts)
    )


def _of_wheel(path: Path, filename: str) -> PackageFacts:
    with checked_wheel(path, filename) as (wheel, members, folder):
        texts: dict[str, bytes] = {}
        metadata, room = b"", TEXTS_LIMIT
        try:
            for info in sorted(members, key=lambda member: member.filename):
                if info.filename == f"{folder}/METADATA":
                    with wheel.open(info) as member:
                        metadata = member.read(_METADATA_LIMIT)
                elif room > 0 and _WHEEL_TEXT.fullmatch(info.filename):
                    with wheel.open(info) as member:
                        texts[info.filename] = member.read(TEXT_LIMIT + 1)
                    room -= len(texts[info.filename])
        except BROKEN_ZIP as error:
            raise unreadable(path, filename, str(error) or type(error).__name__) from error
    return PackageFacts(license=_metadata_license(metadata), texts=_texts(texts))


def _texts(files: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    made = []
    room = TEXTS_LIMIT
    for name, content in sorted(files.items()):
        if room <= 0:
            break
        limit = min(TEXT_LIMIT, room)
        text = _clean(content[:limit].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
        made.append((_clean(name), text + ("\n[cut here]\n" if len(content) > limit else "")))
        room -= len(content)
    return tuple(made)


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _line(value: object) -> str | None:
    """A licence's name, if it is one and not its text."""
    if not isinstance(value, str):
        return None
    line = _clean(" ".join(value.split()))
    if line.lower() in _NOTHING or len(line) > _NAME_LIMIT:
        return None
    return line.encode("utf-8", "replace").decode()  # JSON can hold half a character


def _mapping(text: bytes) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _metadata_license(metadata: bytes) -> str | None:
    """``License-Expression``, else the classifiers, else ``License`` where that is a name and not a text."""
    headers = HeaderParser().parsestr(metadata.decode("utf-8", "replace"))
    expression = _line(headers.get("License-Expression"))
    if expression is not None:
        return expression
    named = [str(value).split("::") for value in headers.get_all("Classifier") or ()]
    classes = sorted(
        {parts[-1].strip() for parts in named if parts[0].strip() == "License" and len(parts) > 1}
    )
    # "OSI Approved" alone says nothing, and what License says in a line is more exact than any of them.
    classes = [name for name in classes if name not in ("OSI Approved", "Other/Proprietary License")]
    plain = str(headers.get("License") or "")
    short = _line(plain) if "\n" not in plain.strip() and len(plain) <= 100 else None
    return short or _line(" / ".join(classes))


def installed_facts(tree: Path, rows: Iterable[LockedPackage]) -> dict[str, PackageFacts]:
    """The licences that the records of a prefix name, by the sha256 of the artifact; no texts.

    :param tree: the generation.
    """
    rows = tuple(rows)
    wheels = {_distribution(path.name): path for path in tree.glob("lib/python3.*/site-packages/*.dist-info")}
    found = {}
    for row in rows:
        if row.sha256 is None:
            continue
        if row.manager == "conda":
            stem = row.filename.removesuffix(".conda").removesuffix(".tar.bz2")
            name = _line(_mapping(_bytes(tree / "conda-meta" / f"{stem}.json")).get("license"))
        else:
            folder = wheels.get(canonical_name(row.name))
            name = None if folder is None else _metadata_license(_bytes(folder / "METADATA"))
        found[row.sha256] = PackageFacts(license=name)
    return found


def _distribution(folder: str) -> str:
    return canonical_name(folder.split("-")[0])


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_METADATA_LIMIT)
    except OSError:
        return b""
