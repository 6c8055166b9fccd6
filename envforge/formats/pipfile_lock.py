"""``Pipfile.lock``: pipenv's lockfile, specification 6, as pipenv and micropipenv read it.

Goals: pipenv installs from it what is locked (``pipenv sync``), each package by version and the one hash of
the locked file; the group ``main`` is pipenv's ``default``, ``dev`` its ``develop``, others keep their name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from envforge.errors import InputError
from envforge.formats._draft import PYPI
from envforge.formats._fields import Fields, check_size, describe, redacted
from envforge.formats._halves import (
    CONDA,
    GROUPS,
    NAMES,
    NEEDS,
    ORIGIN,
    group_losses,
    losses,
    own_losses,
    pip_half,
    python_of,
)
from envforge.formats._json import strict
from envforge.formats._requirement import HEX_DIGITS
from envforge.model.foreign import ForeignFile, ForeignLock, ForeignPypi, Loss, Written
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name

__all__ = ["SPEC", "pipfile", "read", "write"]

SPEC = 6
"""The version of pipenv's specification: ``_meta.pipfile-spec``."""
_LIMIT = 10_000_000
_SECTIONS = {"main": "default", "dev": "develop"}
_GROUPS = {section: group for group, section in _SECTIONS.items()}
_HASH = re.compile(r"(?P<kind>[a-z0-9]+):(?P<digest>[0-9a-fA-F]+)")
_REMEDY = "write it anew: pipenv lock"
_KEPT_NAMES = frozenset(("_meta", "default", "develop"))


def write(lockfile: Lockfile, platform: str, groups: Sequence[str] = ("main",)) -> Written:
    """The PyPI packages of one platform, in a section for each of ``groups``.

    :raises InputError: for a platform or a group that is not locked.
    """
    half = pip_half(lockfile, platform, groups)
    conda = [row for row in lockfile.rows(platform, groups) if row.manager == "conda"]
    python = _release(python_of(conda))
    sections: dict[str, dict[str, Any]] = {"default": {}, "develop": {}}
    lost, clashing = [], []
    for row in half.rows:
        section = _SECTIONS.get(row.category, row.category)
        if section in _KEPT_NAMES and _GROUPS.get(section, section) != row.category:
            clashing.append(row)
            section = "default"
        entry = _entry(row)
        if entry is None:
            lost.append(row)
        else:
            sections.setdefault(section, {})[canonical_name(row.name)] = entry
    document = {
        "_meta": {
            "hash": {"sha256": _digest(_pipfile(python))},
            "pipfile-spec": SPEC,
            "requires": {"python_version": python} if python else {},
            "sources": [{"name": "pypi", "url": PYPI, "verify_ssl": True}],
        },
        **{name: dict(sorted(sections[name].items())) for name in sorted(sections)},
    }
    return Written(
        filename="Pipfile.lock",
        text=json.dumps(document, indent=4, separators=(",", ": ")) + "\n",
        platform=platform,
        losses=losses((CONDA, conda), (NAMES, lost), (GROUPS, clashing))
        + half.losses
        + tuple(Loss(what=what) for what in (NEEDS, ORIGIN) if half.rows)
        + group_losses(lockfile, platform, groups, told_apart=True)
        + own_losses(lockfile, name=False, target=False),
    )


def _release(python: str | None) -> str | None:
    match = re.match(r"\d+\.\d+", python or "")
    return match[0] if match else None


def _entry(row: LockedPackage) -> dict[str, Any] | None:
    from envforge.formats.hashed_requirements import files_host

    try:
        Requirement(f"{canonical_name(row.name)}=={row.version}")
    except InvalidRequirement:
        return None
    entry: dict[str, Any] = {"hashes": [f"sha256:{row.sha256}"]}
    if not files_host(row.url):
        return {"file": row.url, **entry}
    return {**entry, "index": "pypi", "version": f"=={row.version}"}


def pipfile(python: str | None) -> str:
    """The ``Pipfile`` that goes with a ``Pipfile.lock`` of ours: it asks for nothing itself.

    :param python: the full version of the Python, or ``None``.
    """
    release = _release(python)
    lines = ["[[source]]", f'url = "{PYPI}"', "verify_ssl = true", 'name = "pypi"', "", "[packages]", ""]
    lines += ["[dev-packages]", ""]
    lines += ["[requires]", f'python_version = "{release}"', ""] if release else []
    return "\n".join(lines)


def _pipfile(release: str | None) -> dict[str, Any]:
    """What pipenv makes of that Pipfile for its digest."""
    return {
        "_meta": {
            "sources": [{"name": "pypi", "url": PYPI, "verify_ssl": True}],
            "requires": {"python_version": release} if release else {},
        },
        "default": {},
        "develop": {},
    }


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(text: str, *, source: str) -> ForeignLock:
    """The packages of every section.

    :raises InputError: if it is no Pipfile.lock, or one of another specification.
    """
    value = _parse(text, source)
    try:
        meta = _open(value.get("_meta"), "_meta")
        spec = value["_meta"].get("pipfile-spec")
        if spec != SPEC:
            raise InputError(
                f"{describe(spec)} where the specification {SPEC} is needed",
                at="_meta.pipfile-spec",
                do="use a newer envforge" if isinstance(spec, int) and spec > SPEC else _REMEDY,
            )
        requires = _open(value["_meta"].get("requires") or {}, "_meta.requires")
        python = next(
            (requires.text(key) for key in ("python_full_version", "python_version") if key in requires), None
        )
        indexes = meta.each("sources", lambda one: _open(one, "").text("url")) if "sources" in meta else ()
        packages = [
            package
            for section in value
            if section != "_meta"
            for package in _section(value[section], section, source)
        ]
    except InputError as error:
        error.do = error.do or _REMEDY
        raise error.inside(source) from None
    return ForeignLock(kind=f"Pipfile.lock {SPEC}", pypi=tuple(packages), python=python, indexes=indexes)


def _open(value: object, place: str) -> Fields:
    return Fields(value, frozenset(value) if isinstance(value, dict) else frozenset(), place)


def _section(value: object, section: str, source: str) -> list[ForeignPypi]:
    entries = _open(value, section)
    group = _GROUPS.get(section, section)
    found = []
    for name in entries.values:
        at = f"{section}.{name}"
        entry = _open(entries.values[name], at)
        found.append(_package(name, entry, group, at, source))
    return found


def _package(name: str, entry: Fields, group: str, at: str, source: str) -> ForeignPypi:
    version = entry.text("version") if "version" in entry else ""
    if version and (not version.startswith("==") or len(version) < 3):
        raise InputError(f"{describe(version)} where ==VERSION is needed", at=f"{at}.version")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise InputError(f"{redacted(name)!r} is not the name of a package", at=at)
    hashes = entry.texts("hashes") if "hashes" in entry else ()
    files = [_file(text, f"{at}.hashes") for text in hashes]
    url = next((entry.text(key) for key in ("file", "path") if key in entry), None)
    origin = None
    if any(key in entry for key in ("git", "hg", "svn", "bzr")):
        origin = "a repository"
    elif "path" in entry or entry.values.get("editable") is True or (url is not None and "://" not in url):
        origin = "a directory"
    if url is not None and origin is None:
        sha256 = next((f.sha256 for f in files if f is not None and f.sha256), None)
        files = [ForeignFile(filename=None, url=url, sha256=sha256 if len(files) == 1 else None)]
    return ForeignPypi(
        name=name,
        version=version.removeprefix("==").lstrip("="),
        files=tuple(file for file in files if file is not None),
        marker=entry.text("markers") if "markers" in entry else None,
        groups=(group,),
        source=origin,
        at=f"{source}: {at}",
    )


def _file(text: str, at: str) -> ForeignFile | None:
    match = _HASH.fullmatch(text)
    if match is None or len(match["digest"]) != HEX_DIGITS.get(match["kind"]):
        raise InputError(f"{describe(text)} where a hash is needed", at=at, do="write it as sha256:HEX")
    if match["kind"] != "sha256":
        return None
    return ForeignFile(filename=None, sha256=match["digest"].lower())


def _parse(text: str, source: str) -> dict[str, Any]:
    check_size(text, _LIMIT, source=source)
    try:
        value = strict(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", at=f"{source}:{error.lineno}", do=_REMEDY) from None
    except RecursionError:
        raise InputError("nested too deeply", at=source, do=_REMEDY) from None
    except InputError as error:
        error.do = _REMEDY
        raise error.inside(source) from None
    if not isinstance(value, dict):
        raise InputError(f"{describe(value)} where a mapping is needed", at=source, do=_REMEDY)
    return value
