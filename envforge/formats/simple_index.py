"""A simple index: PEP 503 pages, PEP 691 JSON, PEP 658 and 714 metadata; written as files, and read.

Goals: readable by pip and uv from ``file:`` and from any static web server; every URL relative, so that
the tree may be moved; a pure function of what is listed, in one order.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from envforge.model.foreign import ForeignFile

__all__ = [
    "IndexedFile",
    "ListedFile",
    "project_json",
    "project_page",
    "read_files",
    "read_page",
    "root_page",
]

VERSION = "1.1"
"""Of the simple API: the first with sizes and the list of versions."""


@dataclass(frozen=True, kw_only=True)
class IndexedFile:
    """One file of a project.

    ``path`` is relative to the project's page, unquoted; ``metadata_sha256`` is that of the file
    ``path + ".metadata"``, if there is one.
    """

    filename: str
    path: str
    version: str
    sha256: str
    size: int
    requires_python: str | None = None
    metadata_sha256: str | None = None


def _ordered(files: Iterable[IndexedFile]) -> list[IndexedFile]:
    return sorted(files, key=lambda file: (file.filename, file.sha256))


def _page(title: str, lines: Iterable[str]) -> bytes:
    head = (
        "<!DOCTYPE html>\n<html>\n<head>\n"
        '<meta charset="utf-8">\n'
        f'<meta name="pypi:repository-version" content="{VERSION}">\n'
        f"<title>{html.escape(title)}</title>\n</head>\n<body>\n"
    )
    return (head + "".join(f"{line}<br>\n" for line in lines) + "</body>\n</html>\n").encode()


def _anchor(file: IndexedFile) -> str:
    attributes = {"href": f"{quote(file.path)}#sha256={file.sha256}"}
    if file.requires_python is not None:
        attributes["data-requires-python"] = file.requires_python
    if file.metadata_sha256 is not None:
        # PEP 714: both names, because clients of before 2023 know the first one only
        attributes["data-dist-info-metadata"] = f"sha256={file.metadata_sha256}"
        attributes["data-core-metadata"] = f"sha256={file.metadata_sha256}"
    text = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
    return f"<a {text}>{html.escape(file.filename)}</a>"


def project_page(project: str, files: Iterable[IndexedFile]) -> bytes:
    """The PEP 503 page of one project."""
    return _page(f"Links for {project}", map(_anchor, _ordered(files)))


def root_page(projects: Iterable[str]) -> bytes:
    """The page that lists the projects, each by its normalised name."""
    lines = (
        f'<a href="{html.escape(quote(name))}/">{html.escape(name)}</a>' for name in sorted(set(projects))
    )
    return _page("Simple index", lines)


def _entry(file: IndexedFile) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "filename": file.filename,
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "url": f"{quote(file.path)}",
    }
    if file.requires_python is not None:
        entry["requires-python"] = file.requires_python
    if file.metadata_sha256 is not None:
        entry["core-metadata"] = entry["dist-info-metadata"] = {"sha256": file.metadata_sha256}
    return entry


def project_json(project: str, files: Iterable[IndexedFile]) -> bytes:
    """The PEP 691 document of one project."""
    ordered = _ordered(files)
    document = {
        "meta": {"api-version": VERSION},
        "name": project,
        "versions": sorted({file.version for file in ordered}),
        "files": [_entry(file) for file in ordered],
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file as the page of somebody's index lists it."""

    filename: str
    requires_python: str | None = None


def read_page(text: str) -> tuple[ListedFile, ...]:
    """The files of a project page in HTML (PEP 503), in its order, without those that were yanked."""
    links = _Links()
    links.feed(text)
    return tuple(links.found)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[ListedFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        target = given.get("href")
        if tag == "a" and target and "data-yanked" not in given:
            filename = unquote(target.partition("#")[0].partition("?")[0].rpartition("/")[2])
            self.found.append(
                ListedFile(filename=filename, requires_python=given.get("data-requires-python"))
            )


def read_files(text: str, url: str) -> tuple[ForeignFile, ...]:
    """The files that a project's page lists, with the sha256 where it says one.

    :param text: HTML, or the JSON of PEP 691; what it is, it shows.
    :param url: the page's own, which the links may be relative to.
    """
    if text.lstrip()[:1] == "{":
        return tuple(_from_json(text, url))
    anchors = _Anchors()
    anchors.feed(text)
    return tuple(file for href in anchors.hrefs if (file := _linked(href, url)) is not None)


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]


def _linked(href: str, page: str) -> ForeignFile | None:
    try:
        link, _, fragment = urljoin(page, href).partition("#")
        filename = unquote(urlsplit(link).path.rsplit("/", 1)[-1])
    except ValueError:
        return None
    kind, _, digest = fragment.partition("=")
    return ForeignFile(filename=filename, url=link, sha256=digest.lower() if kind == "sha256" else None)


def _from_json(text: str, page: str) -> Iterable[ForeignFile]:
    try:
        files = json.loads(text).get("files", [])
    except (ValueError, AttributeError, RecursionError):
        return
    for entry in files if isinstance(files, list) else ():
        url, hashes = (entry.get("url"), entry.get("hashes")) if isinstance(entry, dict) else (None, None)
        file = _linked(url, page) if isinstance(url, str) else None
        if file is not None:
            sha256 = hashes.get("sha256") if isinstance(hashes, dict) else None
            yield ForeignFile(filename=file.filename, url=file.url, sha256=sha256 or file.sha256)
