"""What kind of file a text is, from what stands in it and not from its name."""

from __future__ import annotations

import re

from envforge.errors import InputError
from envforge.formats.conda_list import PIN
from envforge.formats.explicit_txt import MARK

__all__ = ["KINDS", "recognise"]

KINDS = (
    "conda-list",
    "conda-lock",
    "environment",
    "explicit",
    "pipfile",
    "pixi",
    "poetry",
    "pylock",
    "requirements",
    "uv",
)
"""What :func:`recognise` tells apart."""

_LOOKED_AT = 4_000_000
_LINES = 2000
_KEY = re.compile(r"^(?P<key>[A-Za-z_][A-Za-z0-9_-]*)\s*(?P<sign>:(?=\s|$)|=)", re.MULTILINE)
_TABLE = re.compile(r"^\s*\[{1,2}\s*(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\s*\]{1,2}\s*(#.*)?$", re.MULTILINE)
_REQUIREMENT = re.compile(
    r"^\s*(-[a-z-]|[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[.*\])?\s*(===?|@|;|>=|<=|~=|!=|<|>|\\?$))"
)
_NOT_OURS = {
    "cargo": ("a Cargo.lock, which locks Rust and no environment", "name the right file"),
    "pdm": ("a pdm.lock", "pdm export -f pylock -o pylock.toml   # and import that"),
    "npm": ("a package-lock.json, which locks JavaScript and no environment", "name the right file"),
    "spec": (
        "a specification and not a lockfile",
        "lock it instead: envforge lock FILE",
    ),
    "mamba": ("a lockfile of mamba in JSON", "micromamba env export --explicit --sha256 > explicit.txt"),
}


def recognise(text: str, *, source: str) -> str:
    """One of :data:`KINDS`.

    :param source: the file's name, for errors.
    :raises InputError: if it is empty, or a file of another kind.
    """
    head = text[:_LOOKED_AT].removeprefix("\ufeff")
    if not head.strip():
        raise InputError("the file is empty", at=source, do="name the right file")
    if "\0" in head:
        raise InputError("not a text file", at=source, do="name the right file")
    for find in (_explicit, _json, _toml, _yaml, _requirements):
        kind = find(head)
        if kind in _NOT_OURS:
            what, do = _NOT_OURS[kind]
            raise InputError(f"this is {what}", at=source, do=do)
        if kind is not None:
            return kind
    raise InputError(
        "not a file that can be imported",
        at=source,
        do=f"name one of these kinds: {', '.join(KINDS)}; or a prefix, or what conda-pack made",
    )


def _explicit(text: str) -> str | None:
    return "explicit" if re.search(rf"^\s*{MARK}\s*$", text, re.MULTILINE) else None


def _json(text: str) -> str | None:
    if text.lstrip()[:1] != "{":
        return None
    if '"_meta"' in text and '"pipfile-spec"' in text:
        return "pipfile"
    if '"lockfileVersion"' in text:
        return "npm"
    return "mamba" if '"lockVersion"' in text and '"channelInfo"' in text else None


def _toml(text: str) -> str | None:
    tables = {match["name"] for match in _TABLE.finditer(text)}
    keys = {match["key"] for match in _KEY.finditer(text) if match["sign"] == "="}
    if "lock-version" in keys and ("created-by" in keys or "packages" in tables):
        return "pylock"
    if "package" in tables or {"version", "package"} <= keys:
        return _package_tables(text, tables, keys)
    if "metadata" in tables and ("lock-version" in keys or "content-hash" in keys):
        return "poetry"
    if (
        "project" in tables
        or "workspace" in tables
        or "tool.pixi.workspace" in tables
        or "tool.poetry" in tables
    ):
        return "spec"
    return "uv" if "version" in keys and "requires-python" in keys else None


def _package_tables(text: str, tables: set[str], keys: set[str]) -> str | None:
    if "metadata" in tables and (
        "lock-version" in keys or "content-hash" in keys or "metadata.files" in tables
    ):
        return "pdm" if "lock_version" in keys else "poetry"
    if "lock_version" in keys:
        return "pdm"
    if "python-versions" in keys:
        return "poetry"  # of which somebody cut the end off
    if 'source = "registry+' in text or ("checksum" in keys and "requires-python" not in keys):
        return "cargo"
    return "uv" if "version" in keys else None


def _yaml(text: str) -> str | None:
    keys = {match["key"] for match in _KEY.finditer(text) if match["sign"] == ":"}
    if "version" in keys and ("environments" in keys or "packages" in keys):
        return "pixi"
    if "package" in keys and "metadata" in keys:
        # The first versions of pixi.lock have conda-lock's shape, and another number.
        match = re.search(r"^version:\s*(\d+)\s*$", text, re.MULTILINE)
        return "pixi" if match is not None and match[1] != "1" else "conda-lock"
    if "dependencies" in keys:
        return "environment"
    return None


def _requirements(text: str) -> str | None:
    lines = [line for line in text.splitlines()[:_LINES] if line.strip()]
    written = [line for line in lines if not line.lstrip().startswith("#")]
    if written and PIN.fullmatch(written[0].strip()):
        return "conda-list"
    if written and _REQUIREMENT.match(written[0]):
        return "requirements"
    return "requirements" if not written and "pip" in text else None
