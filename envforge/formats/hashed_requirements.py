"""``requirements.txt`` with hashes: what pip, uv and pip-sync install from with ``--require-hashes``.

Follows pip's requirements file format.  Goals: one file for one platform, in which each requirement has one
hash, that of the locked file; what pip-compile, uv, poetry and ``pip freeze`` write is read.  Where a file
lies is said in a comment below it, which every tool passes over, and import needs no index then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement

from envforge.errors import InputError
from envforge.formats._draft import PYPI
from envforge.formats._fields import check_size, redacted
from envforge.formats._halves import (
    CONDA,
    NAMES,
    NEEDS,
    group_losses,
    losses,
    own_losses,
    pip_half,
    python_of,
    shown_name,
)
from envforge.formats._merges import check_merged
from envforge.formats._pip_lines import logical_lines
from envforge.formats._requirement import HEX_DIGITS, check_index
from envforge.model.foreign import ForeignFile, ForeignLock, ForeignPypi, Loss, Written
from envforge.model.lockfile import LockedPackage, Lockfile

__all__ = ["files_host", "read", "requirement_line", "write"]

_LIMIT = 10_000_000
_FILES_HOST = "files.pythonhosted.org"
_PLATFORM = re.compile(r"#\s*platform: ([a-z0-9]+-[a-z0-9_]+)\s*")
_PYTHON = re.compile(
    r"#.*?(?:\bpython: |\bwith Python |--python-version[= ])(\d+(?:\.\d+){1,2})", re.IGNORECASE
)
_PLACE = re.compile(r"\s+# ((?:https?|file)://\S+)")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASH = re.compile(r"\s--hash[= ](?:(?P<kind>\w+):)?(?P<digest>\S+)")
_PASSED_OVER = frozenset(
    ("--find-links", "-f", "--no-index", "--trusted-host", "--require-hashes", "--prefer-binary")
    + ("--no-binary", "--only-binary", "--pre", "--use-feature")
)
_REPOSITORY = re.compile(r"(git|hg|svn|bzr)\+")
_OPTION = re.compile(r"\s(--(?!hash)[a-z-]+)[= ]")
_REMEDY = "write it as pip-compile --generate-hashes or uv pip compile --generate-hashes do"


def write(lockfile: Lockfile, platform: str, groups: Sequence[str] = ("main",)) -> Written:
    """The PyPI packages of one platform and of ``groups``, each with its version and sha256.

    :raises InputError: for a platform or a group that is not locked.
    """
    half = pip_half(lockfile, platform, groups)
    conda = [row for row in lockfile.rows(platform, groups) if row.manager == "conda"]
    lines = [(row, requirement_line(row)) for row in half.rows]
    lost = [row for row, line in lines if line is None]
    python = python_of(conda)
    head = [
        f"# PyPI packages of {shown_name(lockfile)}, locked for one platform.  Install them with:",
        "#     pip install --no-deps --require-hashes -r FILE",
        f"# platform: {platform}",
        *([f"# python: {python}"] if python else []),
    ]
    body = []
    for row, line in lines:
        if line is not None:
            body.append(f"{line} \\\n    --hash=sha256:{row.sha256}")
            body += [f"    # {row.url}"] if " @ " not in line else []
    needs = tuple(Loss(what=NEEDS) for _ in half.rows[:1])
    return Written(
        filename=f"requirements.{platform}.txt",
        text="\n".join([*head, *body]) + "\n",
        platform=platform,
        losses=losses((CONDA, conda), (NAMES, lost))
        + half.losses
        + needs
        + group_losses(lockfile, platform, groups, told_apart=False)
        + own_losses(lockfile, name=False, target=False),
    )


def requirement_line(row: LockedPackage) -> str | None:
    """``NAME==VERSION``, or ``NAME @ URL`` where PyPI does not lead there; ``None`` if pip takes neither."""
    texts = [f"{row.name} @ {row.url}"] if not files_host(row.url) else [f"{row.name}=={row.version}"]
    for text in texts:
        try:
            Requirement(text)
        except InvalidRequirement:
            continue
        return text
    return None


def files_host(url: str) -> bool:
    """Whether a file lies where PyPI keeps them."""
    return urlsplit(url).hostname == _FILES_HOST


def read(text: str, *, source: str) -> ForeignLock:
    """The pinned requirements in ``text``.

    :param source: the file's name, for errors.
    :raises InputError: for a line that is no pinned requirement, or an option that would need another file.
    """
    check_size(text, _LIMIT, source=source)
    check_merged(text, source=source)
    reading = _Reading(source=source)
    for number, line in logical_lines(text.removeprefix("\ufeff")):
        reading.line(number, line)
    extra = tuple(reading.extra)
    return ForeignLock(
        kind="requirements.txt",
        pypi=tuple(reading.packages),
        indexes=(reading.index or PYPI, *extra) if reading.index or extra else (),
        platforms=(reading.platform,) if reading.platform else (),
        python=reading.python,
        notes=tuple(reading.notes),
    )


@dataclass(kw_only=True)
class _Reading:
    """One file while it is read."""

    source: str
    packages: list[ForeignPypi] = field(default_factory=list)
    index: str | None = None
    extra: list[str] = field(default_factory=list)
    platform: str | None = None
    python: str | None = None
    notes: list[str] = field(default_factory=list)

    def line(self, number: int, line: str) -> None:
        at = f"{self.source}:{number}"
        if not line.isprintable() and not line.replace("\t", " ").isprintable():
            raise InputError("a control character, which no requirement has", at=at, do="name the right file")
        place = _PLACE.fullmatch(line)
        if place is not None:
            self.place(place[1])
            return
        if line.lstrip().startswith("#"):
            self.comment(line)
            return
        words = _COMMENT.sub("", line).strip()
        if words.startswith("-"):
            self.option(words, at)
        elif words:
            self.packages.append(_package(words, at))

    def comment(self, line: str) -> None:
        platform, python = _PLATFORM.fullmatch(line.strip()), _PYTHON.match(line)
        self.platform = self.platform or (platform[1] if platform else None)
        self.python = self.python or (python[1] if python else None)

    def place(self, url: str) -> None:
        """The URL below a requirement; only if that has one hash is it clear which file it is of."""
        if not self.packages:
            return
        last = self.packages[-1]
        if len(last.files) == 1 and last.files[0].url is None:
            only = ForeignFile(filename=None, url=url, sha256=last.files[0].sha256)
            self.packages[-1] = replace(
                last, files=(only,), platforms=(self.platform,) if self.platform else None
            )

    def option(self, words: str, at: str) -> None:
        name, *values = re.split(r"\s*=\s*|\s+", words, maxsplit=1)
        value = values[0].strip() if values else ""
        if name in ("-i", "--index-url", "--extra-index-url"):
            try:
                url = check_index(value)
            except InputError as error:
                raise error.inside(at) from None
            if name == "--extra-index-url":
                self.extra.append(url)
            else:
                self.index = url
        elif name in _PASSED_OVER:
            self.notes.append(f"{at}: {name} is passed over")
        elif name in ("-e", "--editable"):
            source = "a repository" if _REPOSITORY.match(value) else "a directory"
            self.packages.append(ForeignPypi(name=_shown(value), version="", source=source, at=at))
        else:
            do = "name that file, too: one import each" if name in ("-r", "--requirement") else "remove it"
            raise InputError(f"the option {redacted(name)} cannot be imported", at=at, do=do)


def _package(words: str, at: str) -> ForeignPypi:
    files = tuple(_hashes(f" {words}", at))
    text = _HASH.sub("", f" {words}").strip()
    option = _OPTION.search(text)
    if option is not None:
        text = text[: option.start()]
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = " ".join(str(error).splitlines()[0].split())
        raise InputError(
            f"{redacted(text)!r} is no requirement: {redacted(reason)}", at=at, do=_REMEDY
        ) from None
    if requirement.url is not None:
        return _direct(requirement, files, at)
    pins = [spec for spec in requirement.specifier if spec.operator in ("==", "===")]
    if len(pins) != 1 or pins[0].version.endswith(".*"):
        raise InputError(
            f"{requirement.name} is not pinned to one version",
            at=at,
            do="lock it: name it below pip: in an environment.yml, then envforge lock",
        )
    return ForeignPypi(
        name=requirement.name,
        version=pins[0].version,
        files=files,
        marker=None if requirement.marker is None else str(requirement.marker),
        at=at,
    )


def _direct(requirement: Requirement, files: tuple[ForeignFile, ...], at: str) -> ForeignPypi:
    url, _, fragment = (requirement.url or "").partition("#")
    marker = None if requirement.marker is None else str(requirement.marker)
    if _REPOSITORY.match(url):
        return ForeignPypi(name=requirement.name, version="", marker=marker, source="a repository", at=at)
    kind, _, digest = fragment.partition("=")
    sha256 = files[0].sha256 if len(files) == 1 else digest if kind == "sha256" else None
    filename = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
    return ForeignPypi(
        name=requirement.name,
        version="",
        files=(ForeignFile(filename=filename, url=url, sha256=sha256),),
        marker=marker,
        at=at,
    )


def _shown(place: str) -> str:
    """What is editable by the name of its project, where the URL says it, else by its place."""
    name = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", place)
    return name[1] if name else redacted(place)


def _hashes(words: str, at: str) -> Iterator[ForeignFile]:
    for match in _HASH.finditer(words):
        kind, digest = (match["kind"] or "").lower(), match["digest"].lower()
        if len(digest) != HEX_DIGITS.get(kind) or not re.fullmatch(r"[0-9a-f]+", digest):
            raise InputError(
                f"{redacted(match[0].strip())!r} is no hash", at=at, do="write it as --hash=sha256:HEX"
            )
        if kind == "sha256":
            yield ForeignFile(filename=None, sha256=digest)
