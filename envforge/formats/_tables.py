"""Dependencies as tables write them: pixi, uv, pipenv and conda-lock use nearly the same keys for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from envforge.errors import InputError
from envforge.formats._draft import Place
from envforge.formats._fields import redacted
from envforge.formats._requirement import named_requirement
from envforge.formats._toml import Node
from envforge.model.moments import cutoff

__all__ = ["CONDA_KEYS", "checked_cutoff", "conda_text", "direct_reference", "requirement_of", "strings"]

CONDA_KEYS = frozenset(
    ("version", "build", "build-number", "channel", "subdir", "file-name", "md5", "sha256", "license")
    + ("license-family", "url", "git", "path", "branch", "tag", "rev", "subdirectory")
)
_NAME = re.compile(r"([^\s\[\]=<>!]+::)?[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IN_BRACKETS = {"build-number": "build_number", "file-name": "fn"}
_SOURCES = ("git", "path", "url")
_SCP = re.compile(r"([\w.-]+@[\w.-]+):(?!//)(.*)")


def conda_text(name: str, node: Node) -> str:
    """A conda dependency as a MatchSpec: from its name, and its version or its table.

    :raises InputError: for what is no name, an unknown key, or a package that is in no channel.
    """
    if not _NAME.fullmatch(name):
        raise node.error(f"{redacted(name)!r} is no package's name", do='write NAME = ">=VERSION"')
    if not isinstance(node.value, dict):
        version = node.text("a version", do=f'write {name} = "*"') if node.value != "" else "*"
        return name if version == "*" else f"{name} {_tidy(version, node)}"
    table = node.known(CONDA_KEYS)
    for key in _SOURCES:
        if key in table:
            raise table[key].error(
                f"{name} is to be built from its source, and only packages of channels are locked",
                do="build it, put it into a channel, and write its version; or lock another --environment",
            )
    said = {key: inner.text() for key, inner in table.items() if inner.value not in ("", "*")}
    channel = said.pop("channel", "")
    text = f"{channel}::{name}" if channel else name
    if not said.keys() <= {"version", "build"}:
        words = [f"{_IN_BRACKETS.get(key, key)}={_quoted(value, node)}" for key, value in said.items()]
        return f"{text}[{','.join(words)}]"
    if "version" in said or "build" in said:
        text += f" {_tidy(said.get('version', '*'), node)}"
    return f"{text} {said['build']}" if "build" in said else text


def _tidy(version: str, node: Node) -> str:
    """``>=1.2, <2`` without its blanks; a build string behind a blank stays."""
    version = re.sub(r"\s*([,|<>=!~]+)\s*", r"\1", version)
    if any(character in version for character in "#[]'\"") or not version.isprintable():
        raise node.error(f"{redacted(version)!r} is no version", do='write it as ">=1.2,<2"')
    return version


def _quoted(value: str, node: Node) -> str:
    if "'" in value or "]" in value:
        raise node.error(f"{redacted(value)!r} has a quote or a bracket in it", do="remove it")
    return f"'{value}'"


def direct_reference(table: Mapping[str, Node]) -> str:
    """The URL or the path that a table names instead of a version; empty if it names none.

    :raises InputError: for a value that is no text.
    """
    part = f"#subdirectory={table['subdirectory'].text()}" if "subdirectory" in table else ""
    if "git" in table:
        url = _SCP.sub(r"ssh://\1/\2", table["git"].text("the URL of a repository"))
        revision = next((table[key].text() for key in ("rev", "tag", "branch", "ref") if key in table), "")
        return f"{'' if url.startswith('git+') else 'git+'}{url}{'@' if revision else ''}{revision}{part}"
    if "url" in table:
        return table["url"].text("a URL") + part
    for key in ("path", "file"):
        if key in table:
            path = table[key].text("a path").replace("\\", "/")
            return path if path.startswith((".", "/")) or "://" in path else f"./{path}"
    return ""


def checked_cutoff(node: Node) -> str:
    """A date after which nothing counts.

    :raises InputError: if it is none, placed at ``node``.
    """
    text = node.text("a date")
    try:
        cutoff(text)
    except InputError as error:
        raise node.error(error.what, do=f'write {node.key} = "2026-11-23", or "7d"') from None
    return text


def strings(node: Node | None) -> list[str]:
    """A list of texts; nothing where there is none, and one where it is a text of its own."""
    if node is None:
        return []
    return [node.text()] if isinstance(node.value, str) else node.texts()


def requirement_of(name: str, node: Node, table: Mapping[str, Node], place: Place, marker: str = "") -> str:
    """The requirement that ``table`` describes: its version, extras and source.

    :raises InputError: if it is none, placed at ``node``.
    """
    version = table.get("version")
    try:
        return named_requirement(
            name,
            place.source,
            specifier=version.text() if version is not None and version.value != "" else "",
            extras=strings(table.get("extras")),
            url=direct_reference(table),
            marker=marker,
        )
    except InputError as error:
        error.at = error.at or node.at
        raise
