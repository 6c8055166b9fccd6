"""The Dockerfile, as far as envforge writes it: what docker, buildah, podman and Charliecloud read alike.

Charliecloud's grammar is the narrowest: no ``FROM NAME@DIGEST``, no here-documents, no options but ``--from``
of ``COPY``.  docker's own parser is lenient where that hurts: a comment in the first lines can be a
directive, ``$`` is replaced in most instructions, and a backslash joins lines.  :func:`check` holds every
text to what all of them take for the same.
"""

from __future__ import annotations

import re

from envforge.errors import InputError

__all__ = ["check", "context_path", "label_value"]

_PLAIN = r"[A-Za-z0-9_+@=./][A-Za-z0-9._+@=/-]*"
_PATH = re.compile(_PLAIN)
_DIRECTIVE = re.compile(r"#\s*[A-Za-z][A-Za-z0-9_-]*\s*=")
_LABEL = re.compile(r"""[^"'\\$`]*""")
_FORMS = {
    "ARG": re.compile(rf"BASE={_PLAIN}(?::[\w.-]+)?(?:@sha256:[0-9a-f]{{64}})?"),
    "FROM": re.compile(r"\$BASE(?: AS [a-z]+)?"),
    "COPY": re.compile(rf"(?:--from=[a-z]+ )?{_PLAIN} /{_PLAIN}"),
    "USER": re.compile("0"),
    "WORKDIR": re.compile(rf"/{_PLAIN}"),
    "ENV": re.compile(r"[A-Z][A-Z0-9_]*=(?:[A-Za-z0-9._+@=/,:-]|\$PATH)+"),
    "LABEL": re.compile(r"""[a-z][a-z0-9._-]*="[^"'\\$`]*\""""),
    "ENTRYPOINT": re.compile(rf"""\["/{_PLAIN}"\]"""),
    "RUN": re.compile(r"[^<]+"),
}
"""What may follow each instruction."""


def context_path(path: str, *, what: str, at: str) -> str:
    """Return ``path`` if ``COPY`` takes it for one file below the directory in which the build is started.

    :raises InputError: if it is absolute, leads out of that directory, or holds what is expanded.
    """
    pieces = path.split("/")
    if not _PATH.fullmatch(path) or path.startswith("/") or ".." in pieces:
        raise InputError(
            f"{what} is not one below this directory in plain letters: {path!r}",
            at=at,
            do="a build sees its own directory only: put the file there, named in letters, digits and ._-",
        )
    return "/".join(piece for piece in pieces if piece not in ("", "."))


def label_value(text: str, *, what: str, at: str) -> str:
    """Return ``text`` if it can stand between double quotes.

    :raises InputError: if it has quotes, ``$``, a backslash or what is not printed.
    """
    if not text.isprintable() or not _LABEL.fullmatch(text):
        raise InputError(f"{what} cannot stand in a label: {text!r}", at=at, do="give it another name")
    return text


def check(text: str) -> None:
    """Hold ``text`` against the grammar that envforge writes.

    :raises InputError: for the first line that one of the builders would read as something else.
    """
    if not text.endswith("\n"):
        raise _wrong("it does not end with a line break", text.count("\n") + 1)
    joined = ""
    seen = False
    for number, line in enumerate(text[:-1].split("\n"), 1):
        if not line.isprintable():
            raise _wrong("a character that is not printed", number)
        if not joined and (not line or line.startswith("#")):
            if _DIRECTIVE.match(line) and not seen:
                raise _wrong("a comment that is taken for a directive", number)
            continue
        seen = True
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        _instruction(joined + line, number)
        joined = ""
    if joined:
        raise _wrong("it ends in a backslash", text.count("\n"))


def _instruction(line: str, number: int) -> None:
    word, _, rest = line.partition(" ")
    form = _FORMS.get(word)
    if form is None:
        raise _wrong(f"{word!r} is no instruction that is written here", number)
    if not form.fullmatch(rest):
        raise _wrong(f"{word} is not of the form that every builder takes", number)


def _wrong(what: str, number: int) -> InputError:
    return InputError(
        f"the Dockerfile would not be read as it is meant: {what}",
        at=f"line {number} of the Dockerfile",
        do="check the names and paths that go into it",
    )
