"""One PyPI requirement as people write it: PEP 508, a URL, a repository, a path.

What comes out is PEP 508; a repository whose project is not named, as it is; or the path of a project or an
artifact, which begins with ``./``, ``../`` or ``/``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from envforge.errors import InputError
from envforge.formats._draft import beside
from envforge.formats._fields import redacted
from envforge.model.lockfile import canonical_name

if TYPE_CHECKING:  # a specification without requirements does not pay for loading it
    from packaging.requirements import InvalidRequirement

__all__ = [
    "HEX_DIGITS",
    "artifact_name",
    "check_index",
    "check_project_name",
    "hash_of",
    "named_requirement",
    "requirement_text",
]

_HASH = re.compile(r"(sha256|sha384|sha512|md5|sha1):([0-9a-fA-F]+)")
_STRONG = {"sha256": 64, "sha384": 96, "sha512": 128}
HEX_DIGITS = _STRONG | {"md5": 32, "sha1": 40, "sha224": 56}
"""How long a hash of each kind that pip has had is."""
_PATH = re.compile(r"(?P<path>\.{1,2}(?:[/\\][^\[\];]*)?|/[^\[\];]*)(?P<extras>\[[\w, .-]*\])?")
_BARE_PATH = re.compile(
    r"(?P<path>[\w.+-]+(?:/[\w.+-]+)+/?|[\w.+-]+\.(?:whl|tar\.gz|tgz|tar\.bz2|zip))(?P<extras>\[[\w, .-]*\])?"
)
"""What pip takes for a path, too: with a slash, or with the ending of an artifact."""
_FILE = re.compile(r"file:(?!//[^/])(?://)?(?P<path>[^\[\];#?]+)(?P<extras>\[[\w, .-]*\])?(?:#.*)?")
_LIKE_A_PATH = re.compile(r"\.{0,2}[/\\]|\.{1,2}$|~|[A-Za-z]:\\|file:|[\w.-]+[/\\]")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_REPOSITORY = re.compile(r"(git|hg|svn|bzr)\+")
_SCP = re.compile(r"(git\+)(?:ssh://)?([\w.-]+@[\w.-]+):(?!\d+/)(?!//)(.*)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_EGG = re.compile(r"(?P<name>[^\[&]+)(?P<extras>\[[\w, .-]*\])?(?:-dev)?")


def check_index(url: str) -> str:
    """Return ``url`` if it can be that of an index.

    :raises InputError: else; the place is left to the caller.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https", "file") or not url.isprintable() or " " in url:
        raise InputError(
            f"{redacted(url)!r} is not the URL of an index",
            do="write it as https://HOST/simple or file:///DIR",
        )
    return url


def check_project_name(name: str, *, at: str | None = None) -> str:
    """The canonical name of one project that may be built from its sdist.

    :raises InputError: for what is no name: ``:all:`` would run the code of whatever is needed.
    """
    if not _PROJECT_NAME.fullmatch(name):
        raise InputError(
            f"--no-binary {redacted(name)} names no package",
            at=at,
            do="name each package that may be built: building runs its code on this machine",
        )
    return canonical_name(name)


def hash_of(text: str) -> str:
    """``ALGORITHM:HEX``, as ``--hash`` takes it.

    :raises InputError: for anything else, and for a hash that proves nothing.
    """
    match = _HASH.fullmatch(text)
    if match is None or _STRONG.get(match[1]) != len(match[2]):
        raise InputError(
            f"{redacted(text)!r} is no hash that can be relied on",
            do="write --hash=sha256: and 64 hex digits",
        )
    return text.lower()


def artifact_name(path: str) -> str | None:
    """The name of the project that a wheel or an sdist is of, by its file name; ``None`` if it is neither."""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    filename = unquote(path.rsplit("/", 1)[-1])
    try:
        if filename.endswith(".whl"):
            return str(parse_wheel_filename(filename)[0])
        return str(parse_sdist_filename(filename)[0])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def requirement_text(text: str, source: str) -> str:
    """A requirement of a line, in one of the forms that this module speaks of.

    :param source: the file that a path is relative to.
    :raises InputError: for a line that cannot be used; the place is left to the caller.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    path, _, egg = text.partition("#egg=")
    match = _PATH.fullmatch(path) or _BARE_PATH.fullmatch(path) or _FILE.fullmatch(text)
    if match is not None:
        named = _EGG.fullmatch(egg)
        extras = match["extras"] or (named["extras"] if named is not None else None) or ""
        return beside(source, unquote(match["path"].strip())) + extras.replace(" ", "")
    if _REPOSITORY.match(text):
        return _repository(text)
    if _URL.match(text):
        return _download(text)
    if "{root:" in text:
        raise InputError(
            f"{redacted(text)!r} can only be read by the build backend",
            do="write the path of the project's directory: ./DIRECTORY",
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise _no_requirement(text, error) from None
    url = requirement.url
    match = None if url is None else _PATH.fullmatch(url) or _BARE_PATH.fullmatch(url)
    if match is not None:
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        path = beside(source, match["path"])
        marker = requirement.marker
        return path + extras if marker is None else f"{requirement.name}{extras} @ {path} ; {marker}"
    return text if url is None else _with_scp(text)


def named_requirement(
    name: str,
    source: str,
    *,
    specifier: str = "",
    extras: Sequence[str] = (),
    url: str = "",
    marker: str = "",
) -> str:
    """A requirement that is written in parts, as the tables of pixi and pipenv do it.

    :param specifier: PEP 440; ``*`` and nothing are any version.
    :param url: a URL, or a path, in place of the specifier.
    :raises InputError: as :func:`requirement_text`.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    shown = f"[{','.join(extras)}]" if extras else ""
    if url and _PATH.fullmatch(url):
        if marker:
            raise InputError(f"{name} is a path with a marker", do="remove the marker")
        return requirement_text(url + shown, source)
    specifier = "" if specifier.strip() == "*" else specifier.strip()
    try:
        SpecifierSet(specifier)
    except InvalidSpecifier:
        do = f"write =={specifier}" if specifier[0].isdigit() else "write >=VERSION; see PEP 440"
        raise InputError(f"{redacted(specifier)!r} is no version of {name}", do=do) from None
    text = f"{name}{shown} @ {url}" if url else f"{name}{shown}{specifier}"
    return requirement_text(f"{text} ; {marker}" if marker else text, source)


def _with_scp(text: str) -> str:
    """``git+git@HOST:PATH`` as the URL that it stands for."""
    return _SCP.sub(r"\1ssh://\2/\3", text)


def _repository(text: str) -> str:
    """``git+URL#egg=NAME[extras]&subdirectory=X`` as ``NAME[extras] @ git+URL#subdirectory=X``."""
    text, semicolon, marker = text.partition(" ;") if " ;" in text else text.partition("; ")
    url, _, fragment = _with_scp(text.strip()).partition("#")
    if any(character.isspace() for character in url + fragment):
        raise InputError(f"{redacted(text)!r} is no URL", do="write NAME @ git+https://HOST/PATH")
    name, kept = "", []
    for item in filter(None, fragment.split("&")):
        key, _, value = item.partition("=")
        egg = _EGG.fullmatch(unquote(value)) if key == "egg" else None
        if egg is not None:
            name = f"{egg['name']}{egg['extras'] or ''} @ "
        elif key != "egg":
            kept.append(item)
    text = f"{name}{url}{'#' if kept else ''}{'&'.join(kept)}"
    text += f" ; {marker.strip()}" if semicolon else ""
    if name:
        _check(text)
    elif semicolon:
        raise InputError(f"{redacted(text)!r} has a marker and no name", do=f"write NAME @ {redacted(text)}")
    return text


def _download(text: str) -> str:
    """``https://…/NAME-VERSION-….whl`` as ``NAME @ URL``."""
    url, semicolon, marker = text.partition(" ;") if " ;" in text else text.partition("; ")
    parts = urlsplit(url.strip()) if _splits(url.strip()) else None
    egg = re.search(r"(?:^|&)egg=([^&\[]+)(\[[^\]]*\])?", parts.fragment) if parts else None
    name = egg[1] + (egg[2] or "") if egg else artifact_name(parts.path) if parts else None
    if name is None:
        raise InputError(f"{redacted(text)!r} is a URL without a name", do=f"write NAME @ {redacted(text)}")
    named = f"{name} @ {url.strip()}" + (f" ; {marker.strip()}" if semicolon else "")
    _check(named)
    return named


def _splits(url: str) -> bool:
    try:
        urlsplit(url)
    except ValueError:
        return False
    return True


def _check(text: str) -> None:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise _no_requirement(text, error) from None


def _no_requirement(text: str, error: InvalidRequirement) -> InputError:
    shown = redacted(text)
    if _PATH.match(text) and ";" in text:
        return InputError(f"{shown!r} is a path with a marker", do=f"write NAME @ {shown}")
    if _LIKE_A_PATH.match(text):
        return InputError(
            f"{shown!r} is not the path of a project's directory",
            do="write it relative to this file: ./DIRECTORY",
        )
    if "::" in text or re.fullmatch(r"[\w.-]+=[^=\s]+=\w+", text):
        return InputError(
            f"{shown!r} is a dependency of conda", do="write it below dependencies: in an environment.yml"
        )
    if re.fullmatch(r"[\w.-]+=[^=].*", text):
        return InputError(f"{shown!r} is no requirement", do=f"write {shown.replace('=', '==', 1)}")
    reason = str(error).splitlines()[0]
    return InputError(
        f"{shown!r} is no requirement: {redacted(reason)}", do="write it as NAME>=VERSION; see PEP 508"
    )
