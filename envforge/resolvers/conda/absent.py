"""What was asked for and is in no channel, in any build or in none that fits: all of it, and what is near."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from envforge.model.platforms import PLATFORMS
from envforge.model.spec import Line
from envforge.model.urls import redacted
from envforge.resolvers.conda.universe import is_newer

if TYPE_CHECKING:
    from rattler import MatchSpec, RepoDataRecord

    from envforge.resolvers.conda.solver import Asked

__all__ = ["Problem", "absent", "joined", "kept_elsewhere", "variant_of"]

_CONDA_NAMES = {
    "torch": "pytorch",
    "opencv-python": "opencv",
    "opencv-python-headless": "opencv",
    "tables": "pytables",
    "sklearn": "scikit-learn",
    "cv2": "opencv",
    "pil": "pillow",
    "tensorflow-gpu": "tensorflow",
    "jax-cuda": "jax",
    "graphviz-python": "python-graphviz",
    "msgpack": "msgpack-python",
    "bs4": "beautifulsoup4",
    "yaml": "pyyaml",
    "faiss": "faiss-gpu",
    "dgl-cuda": "dgl",
    "mpi": "openmpi",
    "mkl-python": "mkl-service",
    "tensorrt": "tensorrt-libs",
}
"""What people write, because PyPI or an import calls it so, and what conda-forge calls it."""

_HOMES = {"r-": "conda-forge", "bioconductor-": "bioconda"}
"""How packages begin of which one channel has nearly all."""
_NOT_ON_PYPI = ("r-", "bioconductor-", "perl-", "lib", "ros-", "_")
_SHOWN = 12

_SELECTORS = {
    "linux-64": "linux64",
    "osx-arm64": "arm64",
    "osx-64": "osx64",
    "win-64": "win64",
    "linux-aarch64": "aarch64",
    "linux-ppc64le": "ppc64le",
}
"""By platform, the word that conda-lock has for it; in the order in which people look for them."""

_HASH = re.compile(r"_?h[0-9a-f]{7}(?=_|$)|_\d+$")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: said, the places it comes from, and what helps."""

    what: str
    at: tuple[str, ...]
    do: tuple[str, ...]


def joined(words: Sequence[str], last: str = "and") -> str:
    """``a, b and c``."""
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def variant_of(build: str) -> str:
    """A build string without its hash and number: ``cuda129_mkl_py312_h04de0ce_300`` is cuda129_mkl_py312."""
    while True:
        shorter = _HASH.sub("", build)
        if shorter == build or not shorter:
            return build
        build = shorter


async def absent(asked: Asked) -> list[Problem]:
    """What is asked for that no channel has for the platform, all at once; empty if each line has a build."""
    lines = [(line, spec) for line, spec in zip(asked.request.specs, asked.specs, strict=True)
             if not spec.name.normalized.startswith("__")]  # fmt: skip
    found = _by_name(await asked.records(spec.name.normalized for _, spec in lines))
    lacking = [(line, spec) for line, spec in lines if spec.name.normalized not in found]
    unmet = [
        (line, spec)
        for line, spec in lines
        if spec.name.normalized in found and not _has(spec, found[spec.name.normalized], asked.cutoff)
    ]
    if not lacking and not unmet:
        return []
    elsewhere = await _elsewhere(asked, [spec.name.normalized for _, spec in lacking + unmet])
    known = await asked.names() if lacking else []
    problems: list[Problem] = []
    there = [(line, where) for line, spec in lacking if (where := _having(elsewhere, spec))]
    if there:
        problems.append(_lacks(there, asked.request.target.platform))
    gone = {line for line, _ in there}
    unknown = [(line, spec.name.normalized) for line, spec in lacking if line not in gone]
    if unknown:
        problems.append(_unknown(unknown, known, asked.request.channels))
    problems += [
        _no_such_build(line, spec, found[spec.name.normalized], _having(elsewhere, spec), asked)
        for line, spec in unmet
    ]
    return problems


def _by_name(channels: Sequence[Sequence[RepoDataRecord]]) -> dict[str, list[RepoDataRecord]]:
    found: dict[str, list[RepoDataRecord]] = {}
    for record in (record for records in channels for record in records):
        found.setdefault(record.name.normalized, []).append(record)
    return found


def _has(spec: MatchSpec, records: Sequence[RepoDataRecord], cutoff: datetime | None) -> bool:
    return any(spec.matches(record) and not is_newer(record, cutoff) for record in records)


async def _elsewhere(asked: Asked, names: Sequence[str]) -> dict[str, dict[str, list[RepoDataRecord]]]:
    """By platform, what the channels have of the packages for others than the one asked about."""
    from rattler.exceptions import GatewayError

    found = {}
    for platform in PLATFORMS:
        if platform != asked.request.target.platform:
            try:
                found[platform] = _by_name(await asked.records(names, platform=platform))
            except GatewayError:  # offline, or a channel without it: then nothing is said about it
                continue
    return found


def _having(elsewhere: dict[str, dict[str, list[RepoDataRecord]]], spec: MatchSpec) -> list[str]:
    return [
        platform
        for platform, found in elsewhere.items()
        if any(map(spec.matches, found.get(spec.name.normalized, ())))
    ]


def _lacks(lines: Sequence[tuple[Line, Sequence[str]]], platform: str) -> Problem:
    """What other platforms have: ``lines``, each with those that have it."""
    said = [
        f"{line.text} ({joined(where)} {'has' if len(where) == 1 else 'have'} it)" for line, where in lines
    ]
    return Problem(
        what=f"{platform} lacks {joined(said)}",
        at=tuple(line.at for line, _ in lines),
        do=(kept_elsewhere([line for line, _ in lines], lines[0][1], platform),),
    )


def kept_elsewhere(lines: Sequence[Line], where: Sequence[str], platform: str) -> str:
    """How to keep ``lines`` for the platforms ``where`` and still lock for ``platform``."""
    word = next((word for name, word in _SELECTORS.items() if name in where), None)
    without = f"lock without -p {platform}"
    if word is None or not all(re.search(r"\.ya?ml", line.at) for line in lines):
        return f"keep {joined([line.text for line in lines])} for other platforms only, or {without}"
    return f"write {', '.join(f'- {line.text}  # [{word}]' for line in lines)}, or {without}"


def _unknown(lacking: Sequence[tuple[Line, str]], known: Sequence[str], channels: Sequence[str]) -> Problem:
    """The names that no channel has on any platform, in one go."""
    names = list(dict.fromkeys(name for _, name in lacking))
    near = {name: found for name in names if (found := _near(name, known)) is not None}
    do = [f"write {found} for {name}" for name, found in near.items()]
    left = [name for name in names if name not in near]
    for prefix, home in _HOMES.items():
        there = [name for name in left if name.startswith(prefix)]
        if there and not any(url.rstrip("/").endswith(f"/{home}") for url in channels):
            do.append(f"add {home} to the channels for {_some(there)}")
            left = [name for name in left if name not in there]
    if left:
        it = "it" if len(left) == 1 else "them"
        pip = "" if all(name.startswith(_NOT_ON_PYPI) for name in left) else f", take {it} from pip"
        do.append(f"check the spelling of {_some(left)}{pip}, or add the channel that has {it}")
    return Problem(
        what=f"no package {_some(names, 'or')} in {joined([redacted(url) for url in channels])}",
        at=tuple(line.at for line, _ in lacking),
        do=tuple(do),
    )


def _some(names: Sequence[str], last: str = "and") -> str:
    shown = names[:_SHOWN]
    return joined([*shown, *([f"{len(names) - _SHOWN} others"] if len(names) > _SHOWN else [])], last)


def _near(name: str, known: Sequence[str]) -> str | None:
    """What conda calls ``name``, or of what it is a slip of the keys; what is only alike is of no help."""
    guess = _CONDA_NAMES.get(name)
    if guess in known:
        return guess
    close = difflib.get_close_matches(name, [one for one in known if one[:1] == name[:1]], n=5, cutoff=0.75)
    return next((one for one in close if _edits(name, one) <= (1 if len(name) < 8 else 2)), None)


def _edits(one: str, other: str) -> int:
    """How many letters are added, removed, changed or exchanged with the next to make one the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, their in enumerate(other, 1):
            row.append(min(row[j - 1] + 1, before[j] + 1, before[j - 1] + (mine != their)))
            if i > 1 and j > 1 and mine == other[j - 2] and one[i - 2] == their:
                row[j] = min(row[j], earlier[j - 2] + 1)
    return row[-1]


def _no_such_build(
    line: Line, spec: MatchSpec, records: Sequence[RepoDataRecord], where: Sequence[str], asked: Asked
) -> Problem:
    from rattler import MatchSpec

    name = spec.name.normalized
    if any(map(spec.matches, records)):
        what = f"every {line.text} was made after {asked.request.exclude_newer}"
        return Problem(what=what, at=(line.at,), do=("take a later --exclude-newer",))
    what = f"no build of {name} is {line.text}"
    version = str(spec.version or "*")
    right_version = [record for record in records if MatchSpec(f"{name} {version}").matches(record)]
    if right_version and spec.build is not None:
        builds = list(dict.fromkeys(variant_of(str(record.build)) for record in _newest_first(right_version)))
        more = f" and {len(builds) - 4} others" if len(builds) > 5 else ""
        return Problem(what=what, at=(line.at,), do=(f"there is: {', '.join(builds[:5])}{more}",))
    if where:
        what += f", and {joined(where)} {'has' if len(where) == 1 else 'have'} one"
        return Problem(
            what=what, at=(line.at,), do=(kept_elsewhere([line], where, asked.request.target.platform),)
        )
    near = _nearest(version, records)
    return Problem(what=what, at=(line.at,), do=(f"the nearest is {name} {joined(near, 'or')}",))


def _newest_first(records: Sequence[RepoDataRecord]) -> list[RepoDataRecord]:
    return sorted(records, key=lambda record: (record.version, record.build_number), reverse=True)


def _nearest(wanted: str, records: Sequence[RepoDataRecord]) -> list[str]:
    """The versions just below and just above the first one that ``wanted`` names."""
    from rattler import Version

    named = re.search(r"\d[\w.!+]*", wanted)
    versions = sorted({record.version for record in records})
    if named is None:
        return [str(versions[-1])]
    middle = Version(named[0].rstrip(".*"))
    below = [version for version in versions if version <= middle]
    above = [version for version in versions if version > middle]
    return [str(version) for version in (*below[-1:], *above[:1])]
