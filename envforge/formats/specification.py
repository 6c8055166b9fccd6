"""The specification of an environment: in which format each of its files is, and what they say together.

Several files are joined by rules: the name is the first's, channels and platforms must agree, and every line
of every file counts.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePath

from envforge.errors import InputError
from envforge.formats._draft import Around, Draft, PipPart
from envforge.model.spec import EnvironmentSpec, Line

__all__ = ["joined", "read", "read_specification", "tied_to_a_platform"]

_READERS = {
    "environment.yml": "environment_yml",
    "pixi.toml": "pixi_toml",
    "pyproject.toml": "pyproject_toml",
    "requirements.txt": "requirements_txt",
    "Pipfile": "pipfile",
}
"""The module of each format, which is loaded for the first file that is in it."""
_NAMES = (
    ("pyproject.toml", re.compile(r"(.*[.-])?pyproject\.toml")),
    ("pixi.toml", re.compile(r"(.*[.-])?pixi\.toml")),
    ("Pipfile", re.compile(r"(.*\.)?Pipfile")),
    ("environment.yml", re.compile(r".*\.ya?ml")),
    ("requirements.txt", re.compile(r".*\.(txt|in)")),
)
_CONTENTS = (
    ("Pipfile", re.compile(r"^\[(dev-)?packages\]", re.MULTILINE)),
    ("pyproject.toml", re.compile(r"^\[(project|build-system|dependency-groups|tool\.)", re.MULTILINE)),
    ("pixi.toml", re.compile(r"^\[(workspace|dependencies|feature\.|environments)", re.MULTILINE)),
    ("environment.yml", re.compile(r"^(dependencies|channels):", re.MULTILINE)),
)
_NOT_ONE = (
    (re.compile(r".*\block\b.*|pylock\..*"), "is a lockfile", "name what it was made from"),
    (re.compile(r"setup\.(py|cfg)"), "is not read", "write the dependencies into a pyproject.toml"),
    (re.compile(r"(meta|recipe)\.ya?ml"), "is a recipe of a package", "write an environment.yml"),
)
_BUILT = re.compile(r"(?:\S+::)?[\w.-]+={1,2}[^=\s*<>|,]+=(?P<build>[\w.]+)")
_NOARCH = re.compile(r"py[a-z]?hd?[0-9a-f]+_\d+|pyh[0-9a-f]*_\d+|hd8ed1ab_\d+|py_\d+")
_MINORS = range(41)
_PATCHES = range(61)


def read(text: str, *, source: str) -> EnvironmentSpec:
    """What one file says that names no other.

    :param source: the file's name: the format goes by it, and the places of errors.
    :raises InputError: if something in it cannot be used.
    """

    def itself(path: str) -> str:
        if path != source:
            raise InputError("another file is named, and only this one is read", at=path)
        return text

    return read_specification([source], read=itself)


def read_specification(
    sources: Sequence[str],
    *,
    read: Callable[[str], str],
    note: Callable[[str], None] | None = None,
    environment: str | None = None,
    insist: bool = False,
    python: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> EnvironmentSpec:
    """What the files at the paths ``sources`` say together.

    :param read: gives the text of a file: of these, and of those that they name.
    :param note: hears what was left out of it.
    :param environment: which environment of a pixi manifest; with ``insist``, one of the files must be one.
    :param python: the Python that the command line names.
    :param variables: what ``${NAME}`` in a requirements file stands for.
    :raises InputError: if something in a file cannot be used, or the files do not go together.
    """
    if not sources:
        raise InputError("no specification is named", at="sources", do="name one: environment.yml")
    around = Around(read=read, variables=variables or {}, environment=environment)
    around = replace(around, note=note) if note is not None else around
    drafts = []
    has_environments = False
    for source in dict.fromkeys(sources):
        text = read(source)
        kind = _kind(source, text)
        reader: Callable[..., Draft] = importlib.import_module(f"envforge.formats.{_READERS[kind]}").read
        drafts.append(reader(text, source=source, around=around))
        has_environments |= kind == "pixi.toml" or (kind == "pyproject.toml" and "[tool.pixi" in text)
    if insist and not has_environments:
        raise InputError(
            "only a pixi manifest has environments",
            at="--environment",
            do="name one: envforge lock pixi.toml",
        )
    return joined(drafts, note=note, python=python)


def _kind(source: str, text: str) -> str:
    """Which of the formats a file is in, by its name, else by what stands in it.

    :raises InputError: for what is known to be something else.
    """
    name = PurePath(source).name
    for pattern, what, do in _NOT_ONE:
        if pattern.fullmatch(name):
            raise InputError(f"{name} {what}, and no specification", at=source, do=do)
    if re.search(r"^@EXPLICIT\s*$", text, re.MULTILINE):
        raise InputError(
            "a list of URLs is a lockfile, and no specification",
            at=source,
            do="name what it was made from; or ask for its packages: conda env export --from-history",
        )
    for kind, pattern in _NAMES:
        if pattern.fullmatch(name):
            return kind
    by_content = next((kind for kind, pattern in _CONTENTS if pattern.search(text)), "requirements.txt")
    if name.endswith(".toml") and by_content not in ("pixi.toml", "Pipfile"):
        return "pyproject.toml"
    return by_content


# -- several files -----------------------------------------------------------------------------------------


def joined(
    drafts: Sequence[Draft], *, note: Callable[[str], None] | None = None, python: str | None = None
) -> EnvironmentSpec:
    """What several files say together; paths are then relative to the first.

    :raises InputError: if they do not go together.
    """
    base = PurePath(drafts[0].source).parent
    pip = _joined_pip(drafts)
    conda = [line for draft in drafts for line in draft.conda]
    asked = [one for draft in drafts for one in draft.requires_python]
    if conda and python is None:
        conda += _python_lines(asked)
    return EnvironmentSpec(
        name=next((draft.name for draft in drafts if draft.name is not None), None),
        channels=_joined_channels(drafts, base),
        platforms=_joined_platforms(drafts, note),
        conda=tuple(conda),
        pip=tuple(_seen_from(line, base) for line in pip.lines),
        constraints=tuple(_seen_from(line, base) for line in pip.constraints),
        conda_constraints=tuple(line for draft in drafts for line in draft.conda_constraints),
        channel_priority=_agreed((draft.channel_priority for draft in drafts), "channel priorities"),
        exclude_newer=_agreed((draft.exclude_newer for draft in drafts), "dates after which nothing counts"),
        indexes=_indexes(pip, drafts[0].source),
        index_of=tuple(sorted((name, url) for name, (url, _) in pip.index_of.items())),
        find_links=tuple(dict.fromkeys(_path_from(one, base) for one in pip.find_links)),
        no_binary=tuple(dict.fromkeys(pip.no_binary)),
        prerelease=pip.prerelease,
        python=None if conda else _python(asked, python),
        assumed=tuple(one for draft in drafts for one in draft.assumed),
        sources=tuple(dict.fromkeys(draft.source for draft in drafts)),
    )


def _agreed(said: Iterable[tuple[str, str] | None], what: str) -> str | None:
    """What all say who say something, each with its place."""
    first = None
    for one in filter(None, said):
        if first is not None and one[0] != first[0]:
            raise InputError(
                f"the files name two {what}: {first[0]} in {first[1]}, and {one[0]}",
                at=one[1],
                do="write the same in both places",
            )
        first = first or one
    return first[0] if first is not None else None


def _joined_pip(drafts: Sequence[Draft]) -> PipPart:
    whole = PipPart()
    for part in (draft.pip for draft in drafts):
        if part.main is not None:
            whole.set_main(*part.main)
        for name, (url, at) in part.index_of.items():
            whole.set_index_of(name, url, at)
        for key in ("lines", "constraints", "extra", "repositories", "find_links", "no_binary"):
            getattr(whole, key).extend(getattr(part, key))
        whole.prerelease = whole.prerelease or part.prerelease
        whole.no_index = whole.no_index or part.no_index
        whole.allow_pypi = whole.allow_pypi and part.allow_pypi
    return whole


def _indexes(pip: PipPart, source: str) -> tuple[str, ...]:
    """The indexes; with ``--no-index`` the first directory of ``--find-links`` is the only one."""
    if not pip.no_index:
        return pip.indexes()
    folders = [one for one in pip.find_links if "://" not in one or one.startswith("file:")]
    if not folders:
        raise InputError(
            "--no-index, and no directory to look into instead", at=source, do="add --find-links ./DIRECTORY"
        )
    return (folders[0] if "://" in folders[0] else Path(folders[0]).absolute().as_uri(),)


def _joined_channels(drafts: Sequence[Draft], base: PurePath) -> tuple[str, ...]:
    """All channels, in an order that each file agrees with; among several such, as they are met."""
    orders = [
        list(dict.fromkeys(_channel_from(one, PurePath(draft.source).parent, base) for one in draft.channels))
        for draft in drafts
    ]
    left = list(dict.fromkeys(channel for order in orders for channel in order))
    placed: list[str] = []
    while left:
        waiting = {
            channel: before for order in orders for before, channel in pairwise(order) if before not in placed
        }
        following = next((channel for channel in left if channel not in waiting), None)
        if following is None:
            raise InputError(
                f"the files do not agree which of {left[0]} and {waiting[left[0]]} comes first",
                at=", ".join(draft.source for draft in drafts),
                do="write the channels in the same order; or give them: envforge lock -c CHANNEL -c CHANNEL",
            )
        placed.append(following)
        left.remove(following)
    return tuple(placed)


def _joined_platforms(drafts: Sequence[Draft], note: Callable[[str], None] | None) -> tuple[str, ...]:
    """The platforms that every file that names some has."""
    lists = [draft.platforms for draft in drafts if draft.platforms]
    shared = [one for one in (lists[0] if lists else []) if all(one in other for other in lists)]
    if lists and not shared:
        raise InputError(
            "the files have no platform in common",
            at=", ".join(draft.source for draft in drafts if draft.platforms),
            do="write one that all have below platforms; or name it: envforge lock -p PLATFORM",
        )
    dropped = sorted({one for other in lists for one in other} - set(shared))
    if dropped and note is not None:
        note(f"not every file is for {', '.join(dropped)}: left out")
    return tuple(shared)


# -- paths -------------------------------------------------------------------------------------------------


def _path_from(path: str, base: PurePath) -> str:
    """``path``, as it is seen from the working directory, as it is seen from ``base``."""
    if "://" in path or base == PurePath() or PurePath(path).is_absolute():
        return path
    try:
        found = PurePath(os.path.relpath(path, base)).as_posix()
    except ValueError:  # another drive
        return Path(path).absolute().as_posix()
    return found if found.startswith("..") or found == "." else f"./{found}"


def _channel_from(channel: str, directory: PurePath, base: PurePath) -> str:
    if not channel.startswith(".") or directory == base:
        return channel
    return _path_from(str(directory / channel), base)


def _seen_from(line: Line, base: PurePath) -> Line:
    if line.text.startswith((".", "/")):
        path, bracket, extras = line.text.partition("[")
        return replace(line, text=_path_from(path, base) + bracket + extras)
    name, at, path = line.text.partition(" @ ")
    if not at or not path.startswith("."):
        return line
    path, blank, marker = path.partition(" ")
    return replace(line, text=f"{name} @ {_path_from(path, base)}{blank}{marker}")


# -- Python ------------------------------------------------------------------------------------------------


def _python_lines(asked: Iterable[tuple[str, str]]) -> list[Line]:
    """``requires-python`` as conda dependencies, for an environment that conda brings a Python to."""
    return [Line(text=f"python {_conda_version(text)}", at=at) for text, at in asked if text.strip()]


def _conda_version(specifiers: str) -> str:
    """PEP 440 as conda writes it: the same, but for ``==3.11.*`` and ``===``."""
    words = [word.strip().replace("===", "==").replace(" ", "") for word in specifiers.split(",")]
    return ",".join(
        word[2:] if word.startswith("==") and word.endswith(".*") else word for word in words if word
    )


def _python(asked: Sequence[tuple[str, str]], given: str | None) -> str | None:
    """The one version that the files leave, if they leave one; ``given`` must be one that they allow."""
    if not asked:
        return given
    from packaging.specifiers import SpecifierSet

    wanted = SpecifierSet(",".join(text for text, _ in asked))
    fitting = {
        f"3.{minor}": [f"3.{minor}.{patch}" for patch in _PATCHES if wanted.contains(f"3.{minor}.{patch}")]
        for minor in _MINORS
    }
    if given is not None:
        patches = [given] if given.count(".") > 1 else [f"{given}.{patch}" for patch in _PATCHES]
        for text, at in asked:
            if not any(SpecifierSet(text).contains(patch) for patch in patches):
                raise InputError(
                    f"Python {given} was asked for, and the project needs {text}",
                    at=at,
                    do=f"envforge lock --python {_nearest(fitting, given)}",
                )
        return given
    minors = [minor for minor, patches in fitting.items() if patches]
    if len(minors) != 1:
        return None
    patches = fitting[minors[0]]
    return patches[0] if len(patches) == 1 else minors[0]


def _nearest(fitting: Mapping[str, Sequence[str]], given: str) -> str:
    """The Python X.Y among those that fit that is nearest to ``given``."""
    number = int(given.split(".")[1])
    minors = [minor for minor, patches in fitting.items() if patches]
    return min(minors, key=lambda minor: abs(int(minor.split(".")[1]) - number), default="VERSION")


# -- the output of conda env export ------------------------------------------------------------------------


def tied_to_a_platform(spec: EnvironmentSpec) -> tuple[Line, ...]:
    """The lines that name one build, which one platform has, if the file is the output of `conda env export`.

    A person writes a build now and then; a file in which most lines name one was written by a program.
    """
    exact = [line for line in spec.conda if _BUILT.fullmatch(line.text) and line.platforms is None]
    if len(exact) < max(3, 0.6 * len(spec.conda)):
        return ()
    builds = [(line, _BUILT.fullmatch(line.text)) for line in exact]
    return tuple(line for line, match in builds if match and not _NOARCH.fullmatch(match["build"]))
