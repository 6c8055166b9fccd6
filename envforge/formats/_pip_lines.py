"""Lines as pip reads them: in a requirements file, and below ``pip:`` in an environment.yml.

Follows the grammar of pip's requirements files: comments, continued lines, ``${VARIABLES}``, other files by
``-r`` and ``-c``, several options a line, options behind a requirement.  One thing differs: a path is
relative to the file that it is written in, wherever the command is started.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from envforge.errors import InputError
from envforge.formats._draft import Around, PipPart, Place, beside
from envforge.formats._fields import redacted, suggestion
from envforge.formats._merges import check_merged
from envforge.formats._requirement import check_index, check_project_name, hash_of, requirement_text

__all__ = ["PipReader", "expanded", "find_links", "logical_lines"]

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_OPTION = re.compile(r"(?:^|\s)(?=-)")
_BREAK = re.compile(r"\r\n|\r|\n")
_MOST_FILES = 200

_LONG = {
    "-i": "--index-url",
    "-f": "--find-links",
    "-r": "--requirement",
    "-c": "--constraint",
    "-e": "--editable",
    "-C": "--config-settings",
    "--pypi-url": "--index-url",
    "--config-setting": "--config-settings",
}
_FLAGS = frozenset(("--no-index", "--pre", "--prefer-binary", "--require-hashes"))
_VALUED = frozenset(
    ("--index-url", "--extra-index-url", "--find-links", "--requirement", "--constraint", "--editable")
    + ("--no-binary", "--only-binary", "--trusted-host", "--use-feature", "--hash", "--config-settings")
    + ("--global-option", "--install-option", "--build-option")
)
_OPTIONS = _FLAGS | _VALUED
_OF_A_BUILD = ("--config-settings", "--global-option", "--install-option", "--build-option")


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a requirements file, joined where a backslash continues them, each with its number."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(_BREAK.split(text), 1):
        first = first or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):  # a comment ends with its line
            parts.append(line[:-1])
            continue
        yield first, "".join(parts) + (f" {line}" if line.startswith("#") else line)
        parts, first = [], 0
    if parts:
        yield first, "".join(parts)


@dataclass(kw_only=True)
class PipReader:
    """Reads lines into ``part``; the files that they name as well."""

    part: PipPart
    around: Around

    def __post_init__(self) -> None:
        self._read: set[tuple[object, ...]] = set()

    def read_file(self, text: str, place: Place, *, constraints: bool = False) -> None:
        """Every line of a requirements file; with ``constraints``, of a constraints file.

        :raises InputError: for a line that cannot be used.
        """
        check_merged(text, source=place.source)
        for number, line in logical_lines(text.removeprefix("\ufeff")):
            self.read_line(line, place.moved(f"{place.source}:{number}"), constraints=constraints)

    def read_line(self, text: str, place: Place, *, constraints: bool = False) -> None:
        """One line: a requirement, options, a comment.

        :raises InputError: for a line that cannot be used.
        """
        try:
            self._line(text, place, constraints=constraints)
        except InputError as error:
            error.at = error.at or place.at
            raise

    def _line(self, text: str, place: Place, *, constraints: bool) -> None:
        text = expanded(_COMMENT.sub("", text).strip(), self.around.variables)
        if not text:
            return
        if not text.replace("\t", " ").isprintable():
            raise InputError(f"{redacted(text)!r} is no requirement", do="write one requirement a line")
        start = _OPTION.search(text)
        words = text if start is None else text[: start.start()].strip()
        options = list(_options(text[start.end() :])) if start else []
        if words:
            hashes = tuple(hash_of(value) for name, value in options if name == "--hash")
            others = [name for name, _ in options if name != "--hash"]
            if others:
                raise _behind_a_requirement(others[0])
            self._add(words, place, hashes, constraints=constraints)
            return
        editable = [value for name, value in options if name == "--editable"]
        for name, value in options:
            if name in _OF_A_BUILD or (name == "--hash" and not editable):
                raise _behind_a_requirement(name)
            self._option(name, value, place, constraints=constraints)

    def _add(
        self, words: str, place: Place, hashes: tuple[str, ...] = (), *, constraints: bool = False
    ) -> None:
        line = place.line(requirement_text(words, place.source), hashes)
        if not constraints:
            self.part.lines.append(line)
        elif line.text.startswith((".", "/")):
            raise InputError(
                f"the path {redacted(words)} limits no version", do="write NAME @ URL, or NAME==VERSION"
            )
        else:
            self.part.constraints.append(line)

    def _option(self, name: str, value: str, place: Place, *, constraints: bool) -> None:
        if name in ("--requirement", "--constraint"):
            self._file(value, place, constraints=constraints or name == "--constraint")
        elif name == "--editable":
            self._add(value, place, constraints=constraints)
            self.around.note(f"{place.at}: what is editable is locked as it is now: {redacted(value)}")
        elif name in ("--trusted-host", "--use-feature"):
            self.around.note(f"{place.at}: {name} has no effect here")
        else:
            self._choice(name, value, place)

    def _choice(self, name: str, value: str, place: Place) -> None:
        """An option that is about all requirements."""
        part = self.part
        if name == "--index-url":
            part.set_main(check_index(value), place.at)
        elif name == "--extra-index-url":
            part.extra.append(check_index(value))
        elif name == "--find-links":
            part.find_links.append(find_links(value, place.source))
        elif name == "--no-binary":
            part.no_binary = _without_wheels(part.no_binary, value)
        elif name == "--only-binary":
            part.no_binary = _with_wheels(part.no_binary, value)
        elif name == "--pre":
            part.prerelease = True
        elif name == "--no-index":
            part.no_index = True

    def _file(self, path: str, place: Place, *, constraints: bool) -> None:
        if "://" in path:
            raise InputError(
                f"{redacted(path)!r} is not a file of this machine",
                do="download it, and name the file: -r FILE",
            )
        found = beside(place.source, path)
        found = found.removeprefix("./")
        if found in (*place.through, place.source):
            raise InputError(
                f"{redacted(found)} includes itself", do="remove one of the lines that lead to it"
            )
        key = (found, constraints, place.group, place.platforms)
        if key in self._read:
            return
        if len(self._read) >= _MOST_FILES:
            raise InputError(f"more than {_MOST_FILES} files are included", do="include fewer")
        self._read.add(key)
        try:
            text = self.around.read(found)
        except InputError as error:
            if error.at == found:
                error.what, error.at = f"{error.what}: {found}", place.at
            raise
        inner = replace(place, source=found, through=(*place.through, place.source))
        self.read_file(text, inner, constraints=constraints)


def find_links(value: str, source: str) -> str:
    """A place with artifacts: a URL, or a path from where ``source`` is seen.

    :raises InputError: for neither.
    """
    if "://" in value:
        return check_index(value)
    if not value.strip() or not value.isprintable():
        raise InputError(f"{redacted(value)!r} names no directory", do="write --find-links ./DIRECTORY")
    return beside(source, value.removeprefix("file:"))


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with the variables that are set put in, as pip does it: ``${NAME}`` alone, in capitals."""
    return _VARIABLE.sub(lambda match: variables.get(match[1]) or match[0], text)


def _options(text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError:
        raise InputError(
            f"a quote in {redacted(text)!r} is never closed", do="close it, or remove it"
        ) from None
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        name, glued, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        name = _LONG.get(name, name)
        if name in _FLAGS:
            yield name, ""
            continue
        if name not in _VALUED:
            raise _unknown(name)
        if not glued:
            index += words[index : index + 1] == ["="]
            value = words[index] if index < len(words) else ""
            index += 1
        value = value.lstrip("=") if word.startswith(name[:2]) and not word.startswith("--") else value
        if not value.strip():
            raise InputError(f"{name} without a value", do=f"write {name} {_EXAMPLES.get(name, 'VALUE')}")
        yield name, value.strip()


_EXAMPLES = {
    "--index-url": "https://HOST/simple",
    "--extra-index-url": "https://HOST/simple",
    "--find-links": "./DIRECTORY",
    "--requirement": "FILE",
    "--constraint": "FILE",
    "--editable": "./DIRECTORY",
    "--no-binary": "NAME",
    "--only-binary": "NAME",
    "--hash": "sha256:…",
}


def _unknown(name: str) -> InputError:
    if name.startswith("--"):
        return InputError(f"unknown option {redacted(name)}", do=suggestion(name, _OPTIONS))
    return InputError(
        f"unknown option {redacted(name)}", do="write one requirement a line, such as einops>=0.8"
    )


def _behind_a_requirement(name: str) -> InputError:
    if name in _OF_A_BUILD:
        return InputError(f"{name} is not supported", do="remove it: what is built is built without options")
    if name == "--hash":
        return InputError("--hash without a requirement", do="write NAME==VERSION --hash=sha256:…")
    return InputError(f"{name} behind a requirement", do="write it in a line of its own")


def _without_wheels(known: list[str], value: str) -> list[str]:
    for name in value.split(","):
        known = [] if name.strip() == ":none:" else [*known, check_project_name(name.strip())]
    return list(dict.fromkeys(known))


def _with_wheels(known: list[str], value: str) -> list[str]:
    """``--only-binary`` takes back what was said before; by itself it is what happens anyway."""
    for name in value.split(","):
        if name.strip() == ":all:":
            known = []
        elif name.strip() != ":none:":
            dropped = check_project_name(name.strip())
            known = [one for one in known if one != dropped]
    return known
