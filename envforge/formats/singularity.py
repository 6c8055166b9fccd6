"""The definition file of Apptainer and Singularity, as far as envforge writes it.

The real parsers are lenient where that hurts: a line whose first word begins with ``%`` ends a script
wherever it stands, a line that begins with ``bootstrap:`` starts another image, ``{{ word }}`` is replaced
before anything is parsed, header values end at ``#``, and paths in ``%files`` are expanded as a shell would.
What envforge writes uses none of that, and :func:`check` holds every text to it, whatever names went in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from envforge.errors import InputError

__all__ = ["check", "files_word", "header_value", "printable"]

_AGENTS = ("docker", "localimage", "oci-archive")
_HEADERS = ("Bootstrap", "From", "Stage")
# Not `setup` and `pre`, which run on the machine that builds, and not `arguments`, which older versions lack.
_SECTIONS = ("environment", "files", "labels", "post", "runscript", "test")
_BRACES = re.compile(r"\{\{|\}\}")
_HEADER = re.compile(r"(\w+): (\S(?:.*\S)?)")
_NEW_STAGE = re.compile(r"bootstrap:", re.IGNORECASE)
_FROM_STAGE = re.compile(r"from ([a-z]+)")
_FILES_LINE = re.compile(r"""(?:"([^"]+)"|([^\s"']+)) +(?:"([^"]+)"|([^\s"']+))""")
# What a shell or the parser's own expansion gives a meaning, also between double quotes.
_EXPANDED = re.compile(r"""["'\\$`*?\[\]{}()<>|;&!#]""")


def printable(text: str, *, what: str, at: str) -> str:
    """Return ``text`` if it can stand in one line of a definition file, in a comment or a script.

    :param what: what it is, for the error: ``the lock's name``.
    :raises InputError: for line breaks and other control characters, ``{{``, ``}}``, blanks at an end,
        and a backslash at the end.
    """
    wrong = None
    if not text.isprintable():
        wrong = "a line break or another character that is not printed"
    elif _BRACES.search(text):
        wrong = "two braces, which are replaced when an image is built"
    elif not text or text != text.strip() or text.endswith("\\"):
        wrong = "nothing" if not text else "a blank or a backslash at its end"
    if wrong is not None:
        raise InputError(f"{what} holds {wrong}: {text!r}", at=at, do="give it another name")
    return text


def header_value(text: str, *, what: str, at: str) -> str:
    """Return ``text`` if it can be the value of a header, which has no way to quote.

    :raises InputError: also for a ``#``, where the value would end.
    """
    printable(text, what=what, at=at)
    if "#" in text:
        raise InputError(
            f"{what} holds '#', where a definition file's header ends: {text!r}",
            at=at,
            do="give it another name",
        )
    return text


def files_word(path: str, *, what: str, at: str) -> str:
    """``path`` as one word of a ``%files`` line, between double quotes.

    :raises InputError: if it holds what is expanded there, since nothing escapes it.
    """
    printable(path, what=what, at=at)
    found = _EXPANDED.search(path)
    if found is not None:
        raise InputError(
            f"{what} holds {found.group()}, which a definition file has no way to quote: {path!r}",
            at=at,
            do="name it by another path, for instance through a symlink",
        )
    if path[0] in "-~":  # an option of cp, a home directory
        path = f"./{path}"
    return f'"{path}"'


@dataclass
class _Stage:
    headers: dict[str, str] = field(default_factory=dict)
    sections: set[str] = field(default_factory=set)


def check(text: str) -> None:
    """Hold ``text`` against the grammar that envforge writes.

    :raises InputError: for the first line that the builder would read as something else than it looks.
    """
    if not text.endswith("\n"):
        raise _wrong("the text does not end with a line break", text.count("\n") + 1)
    reader = _Reader()
    for number, line in enumerate(text[:-1].split("\n"), 1):
        _check_line(line, number)
        reader.read(line, number)
    if any(set(stage.headers) != set(_HEADERS) for stage in reader.stages):
        raise _wrong("a stage does not have Bootstrap, From and Stage", text.count("\n"))


@dataclass
class _Reader:
    """Where reading has got to: the stages so far, the section (none in a header), the line before."""

    stages: list[_Stage] = field(default_factory=list)
    section: str = ""
    before: str = ""

    def read(self, line: str, number: int) -> None:
        if _NEW_STAGE.match(line):
            if self.before:
                raise _wrong("a line begins with 'bootstrap:'", number)
            self.stages.append(_Stage())
            self.section = ""
        if not self.stages:
            raise _wrong("the text does not begin with 'Bootstrap:'", number)
        if line.lstrip().startswith("%"):
            self.section = _section(line, self.stages, number)
        elif not self.section:
            _header(line, self.stages[-1], number)
        elif self.section == "files":
            _files(line, number)
        self.before = line


def _check_line(line: str, number: int) -> None:
    if line and not line.isprintable():
        raise _wrong("a character that is not printed", number)
    if _BRACES.search(line):
        raise _wrong("two braces, which are replaced when an image is built", number)
    if line.rstrip().endswith("\\"):
        raise _wrong("a backslash at the end of a line", number)


def _section(line: str, stages: list[_Stage], number: int) -> str:
    name, _, argument = line[1:].partition(" ")
    if not line.startswith("%") or name not in _SECTIONS:
        raise _wrong("the first word begins with '%' and is no section", number)
    if name in stages[-1].sections:
        raise _wrong(f"a second section %{name}, which is added to the first", number)
    if argument:
        source = _FROM_STAGE.fullmatch(argument)
        known = {stage.headers.get("Stage") for stage in stages[:-1]}
        if name != "files" or source is None or source.group(1) not in known:
            raise _wrong(f"%{name} takes no argument {argument!r} here", number)
    stages[-1].sections.add(name)
    return name


def _header(line: str, stage: _Stage, number: int) -> None:
    if not line or line.startswith("#"):
        return
    match = _HEADER.fullmatch(line)
    if match is None or match.group(1) not in _HEADERS or match.group(1) in stage.headers:
        raise _wrong("not a header that is written here", number)
    key, value = match.groups()
    if "#" in value:
        raise _wrong("a header's value ends at '#'", number)
    if key == "Bootstrap" and value not in _AGENTS:
        raise _wrong(f"bootstrap agent {value!r} is none of {', '.join(_AGENTS)}", number)
    stage.headers[key] = value


def _files(line: str, number: int) -> None:
    if not line:
        return
    match = _FILES_LINE.fullmatch(line.strip())
    if match is None:
        raise _wrong("a line of %files is not a source and a destination", number)
    source = match.group(1) or match.group(2)
    destination = match.group(3) or match.group(4)
    for path in (source, destination):
        if _EXPANDED.search(path) or path[0] in "-~":
            raise _wrong("a path of %files is expanded, or taken for an option", number)
    if not destination.startswith("/"):
        raise _wrong("a destination of %files is not absolute", number)


def _wrong(what: str, number: int) -> InputError:
    return InputError(
        f"the definition file would not be read as it is meant: {what}",
        at=f"line {number} of the definition file",
        do="check the names and paths that go into it",
    )
