"""The lines below ``pip:`` in an environment.yml: PEP 508 requirements, and some of pip's options.

They look like lines of a requirements file, and mostly are.  What would need another file, or the machine
that locks, is refused with the way to write it instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from envforge.errors import InputError
from envforge.formats._fields import redacted
from envforge.model.lockfile import canonical_name

__all__ = ["PYPI", "Indexes", "check_index", "check_project_name", "requirement"]

PYPI = "https://pypi.org/simple"

_COMMENT = re.compile(r"(^|\s+)#.*$")
_AFTER_NAME = re.compile(r"\s*=\s*|\s+")
_EDITABLE = re.compile(r"(-e\s*|--editable(\s+|\s*=\s*))(?=\.|/)")
_HASH = re.compile(r"(^|\s)--hash\b")
_PER_REQUIREMENT = re.compile(r"\s(--[a-z-]+)")
_PATH = re.compile(r"\.{0,2}/|\.{1,2}$|~|[A-Za-z]:\\|file:")
_PROJECT = re.compile(r"(\.{1,2}(/[^\[\];]*)?|/[^\[\];]+)(\[[\w, .-]*\])?")
_PROJECT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_INSTEAD = {
    "-r": "copy the lines of that file here",
    "--requirement": "copy the lines of that file here",
    "-c": "write the limits of that file into the requirements here",
    "--constraint": "write the limits of that file into the requirements here",
    "-f": "name an index instead: --index-url URL",
    "--find-links": "name an index instead: --index-url URL",
    "-e": "write the path of a project's directory: ./DIRECTORY",
    "--editable": "write the path of a project's directory: ./DIRECTORY",
    "--no-index": "name the one index instead: --index-url URL",
    "--pre": "ask for the pre-release by number, as in NAME>=2.0rc1",
    "--only-binary": "remove it: only wheels are locked",
    "--prefer-binary": "remove it: only wheels are locked",
    "--trusted-host": "remove it, and let REQUESTS_CA_BUNDLE name the host's certificate",
}


@dataclass(kw_only=True)
class Indexes:
    """Where to look for wheels, as it is said in several places of a file, and for what not to."""

    main: str | None = None
    extra: list[str] = field(default_factory=list)
    repositories: list[str] = field(default_factory=list)
    no_binary: list[str] = field(default_factory=list)
    allow_pypi: bool = True

    def resolved(self) -> tuple[str, ...]:
        """The default index first; empty for PyPI alone.

        ``--index-url`` replaces PyPI, ``--extra-index-url`` and ``pip-repositories`` add to it, and
        ``allow-pypi-requests: false`` takes it away.
        """
        more = self.repositories + self.extra
        if self.main is not None:
            more = [self.main, *more]
        elif more and self.allow_pypi:
            more = [PYPI, *more]
        return tuple(dict.fromkeys(more))


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


def requirement(text: str, indexes: Indexes) -> str | None:
    """The requirement, or the path of a project, in one line; ``None`` for an option, added to ``indexes``.

    :raises InputError: for a line that cannot be used; the place is left to the caller.
    """
    text = _COMMENT.sub("", text).strip()
    if not text.isprintable():
        raise InputError(f"{redacted(text)!r} is no requirement", do="write one requirement a line")
    editable = _EDITABLE.match(text)
    if editable is not None:  # in a prefix that never changes, a link to the project would be no use
        text = text[editable.end() :]
    if _PROJECT.fullmatch(text):
        return text
    if text.startswith("-"):
        _option(text, indexes)
        return None
    if _HASH.search(text):
        raise InputError(
            "--hash is not supported", do="remove it: the lockfile holds the sha256 of every wheel"
        )
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise _no_requirement(text, error) from None
    return text


def _option(text: str, indexes: Indexes) -> None:
    if text.startswith("--"):
        name, *rest = _AFTER_NAME.split(text, maxsplit=1)
    else:  # also -iURL, which pip takes
        name, rest = text[:2], [text[2:].lstrip(" \t=")]
    value = rest[0] if rest else ""
    if name == "--no-binary":
        indexes.no_binary += [check_project_name(one.strip()) for one in value.split(",")]
        return
    if name not in ("-i", "--index-url", "--extra-index-url"):
        raise InputError(
            f"the line {redacted(text)!r} is not supported yet",
            do=_INSTEAD.get(
                name, "remove it; --index-url and --extra-index-url are the options that are known"
            ),
        )
    if not value:
        raise InputError(f"{name} without a URL", do=f"write {name} https://HOST/simple")
    url = check_index(value.strip())
    if name == "--extra-index-url":
        indexes.extra.append(url)
    elif indexes.main not in (None, url):
        raise InputError("there are two index URLs", do="write --extra-index-url for the second one")
    else:
        indexes.main = url


def _no_requirement(text: str, error: InvalidRequirement) -> InputError:
    shown = redacted(text)
    if _PATH.match(text):
        return InputError(
            f"{shown!r} is not the path of a project's directory",
            do="write it relative to this file: ./DIRECTORY",
        )
    if _URL.match(text):
        return InputError(f"{shown!r} is a URL without a name", do=f"write NAME @ {shown}")
    option = _PER_REQUIREMENT.search(text)
    if option is not None:
        return InputError(f"{option[1]} is not supported", do="remove it")
    if re.fullmatch(r"[\w.-]+=[^=].*", text):
        return InputError(f"{shown!r} is no requirement", do=f"write {shown.replace('=', '==', 1)}")
    reason = str(error).splitlines()[0]
    return InputError(
        f"{shown!r} is no requirement: {redacted(reason)}", do="write it as NAME>=VERSION; see PEP 508"
    )
