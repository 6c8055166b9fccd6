"""How Apptainer 1.4 reads a definition file, written after its parser and independent of ``check``.

Build arguments are replaced first, then the text is cut at ``(?mi)^bootstrap:``, then into sections.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

_ARGUMENT = re.compile(r"{{\s*(\w+)\s*}}", re.ASCII)
_STAGE = re.compile(r"^bootstrap:", re.IGNORECASE | re.MULTILINE)
_WORD = re.compile(
    r"""([^\s"']*{{\s*\w+\s*}}*[^\s{}"']*)+|([^\s"']+|"([^"]*)"|'([^']*))""",
    re.ASCII,
)
_HEADERS = {
    "bootstrap", "from", "stage", "fingerprints", "registry", "namespace", "library", "include",
    "mirrorurl", "osversion",
}  # fmt: skip
_SECTIONS = {
    "help", "setup", "files", "labels", "environment", "pre", "post", "runscript", "test", "startscript",
    "arguments",
}  # fmt: skip


class Refused(Exception):
    """What the real parser calls fatal."""


@dataclass
class Stage:
    header: dict[str, str] = field(default_factory=dict)
    files: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> list[Stage]:
    if _ARGUMENT.search(text):
        raise Refused("a build argument is not defined")
    starts = [match.start() for match in _STAGE.finditer(text)]
    cuts = [0, *starts, len(text)]
    pieces = [text[one:other] for one, other in pairwise(cuts)]
    return [_stage(piece) for piece in pieces if piece]


def _stage(text: str) -> Stage:
    stage = Stage()
    tokens: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.split()[:1] and line.split()[0].startswith("%"):
            tokens.append([])
        tokens[-1].append(line)
    _header(tokens[0], stage)
    for first, *body in tokens[1:]:
        name, _, arguments = first.lstrip("%").partition(" ")
        if name.lower() not in _SECTIONS:
            raise Refused(f"invalid section: {name}")
        if name.lower() == "files":
            stage.files.setdefault(arguments, []).extend(_files(body))
        stage.sections[name.lower()] = stage.sections.get(name.lower(), "") + "\n".join(body)
    for line in stage.sections.get("labels", "").split("\n"):
        if line.strip() and not line.strip().startswith("#"):
            key, _, value = line.strip().partition(" ")
            stage.labels[key] = value.strip()
    return stage


def _header(lines: list[str], stage: Stage) -> None:
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, colon, value = line.split("#")[0].partition(":")
        if not colon or key.strip().lower() not in _HEADERS or value.strip().endswith("\\"):
            raise Refused(f"header: {line}")
        stage.header[key.strip().lower()] = value.strip()


def _files(lines: list[str]) -> list[tuple[str, str]]:
    found = []
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        words = [match.group(0).strip().strip('"') for match in _WORD.finditer(line)]
        found.append((words[0], words[1] if len(words) > 1 else ""))
    return found
