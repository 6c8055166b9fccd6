"""By whom: what pip, uv or conda did in an environment after it was installed.

They leave records of what they brought: a ``*.dist-info`` with ``RECORD`` and ``INSTALLER``, a file in
``conda-meta``.  A record that is not in the receipt claims the files that it lists, if they are what it says
they are; one that is gone claims the missing files of its package.  Nothing is excused by that: a difference
stays one, and is only told together with others of its cause.

The records are files from outside: any size, any content, whatever paths.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.receipt import Difference, FileRecord, Receipt
from envforge.node.proving.leftovers import bytecode_sources

__all__ = ["attribute"]

_LIMIT = 64_000_000
_WORD = re.compile(r"[\w.+!-]{1,60}", re.ASCII)
_CONDA_META = "conda-meta/"
_CONDA_OWN = frozenset((f"{_CONDA_META}history", f"{_CONDA_META}state"))


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """One deed: its words, who owns what it brought, and what is to be put down to it.

    ``listed`` maps paths to the sha256 that the record says, ``None`` where it need not say one; ``gone`` is
    the owner whose missing files it took away, below one of ``places``.
    """

    cause: str
    owner: str
    listed: Mapping[str, str | None]
    gone: str | None = None
    places: tuple[str, ...] = ("",)

    def covers(self, difference: Difference, state: str | None) -> bool:
        if difference.kind == "missing":
            return difference.owner == self.gone and difference.path.startswith(self.places)
        if difference.path not in self.listed or state is None:
            return False
        said = self.listed[difference.path]
        return said is None or (state.startswith("f") and state.rpartition(" ")[2] == said)


def attribute(
    tree: Path,
    receipt: Receipt,
    differences: Sequence[Difference],
    expected: Mapping[str, FileRecord],
    states: Mapping[str, str],
) -> tuple[Difference, ...]:
    """``differences`` with a cause where one is known.

    :param expected: the entries of the receipt; ``states``: every entry as it was found.
    """
    open_ = {difference.path: difference for difference in differences}
    # conda first: its Python packages have a RECORD, too.
    claims = [*_conda(tree, receipt, open_, states), *_wheels(tree, receipt, open_, states)]
    if not claims:
        return tuple(differences)
    made: dict[str, Difference] = {}
    for claim in claims:
        for path, difference in open_.items():
            if path not in made and claim.covers(difference, states.get(path)):
                made[path] = replace(difference, cause=claim.cause, owner=difference.owner or claim.owner)
    _add_bytecode(open_, made)
    _add_directories(open_, made, expected, states)
    return tuple(made.get(difference.path, difference) for difference in differences)


def _add_bytecode(open_: Mapping[str, Difference], made: dict[str, Difference]) -> None:
    for path, difference in open_.items():
        if path in made:
            continue
        source = next((made[s] for s in bytecode_sources(path) if s in made), None)
        if source is not None:
            owner = difference.owner or source.owner
            made[path] = replace(difference, cause=source.cause, owner=owner)


def _add_directories(
    open_: Mapping[str, Difference],
    made: dict[str, Difference],
    expected: Mapping[str, FileRecord],
    states: Mapping[str, str],
) -> None:
    """A directory came or went for the cause of all that is different below it, if that is one."""
    folders = {
        path: set[str]()
        for path, difference in open_.items()
        if (difference.kind == "added" and states.get(path, "").startswith("d"))
        or (difference.kind == "missing" and path in expected and expected[path].kind == "directory")
    }
    for path in open_:
        if path in folders:
            continue
        cause = made[path].cause if path in made else ""
        above = path.rpartition("/")[0]
        while above:
            if above in folders:
                folders[above].add(cause)
            above = above.rpartition("/")[0]
    for path, causes in folders.items():
        if len(causes) == 1 and "" not in causes:
            made[path] = replace(open_[path], cause=causes.pop())


# -- wheels ---------------------------------------------------------------------------------------------


def _wheels(
    tree: Path, receipt: Receipt, open_: Mapping[str, Difference], states: Mapping[str, str]
) -> Iterable[_Claim]:
    new: dict[tuple[str, str], str] = {}
    old: dict[tuple[str, str], str] = {}
    for path, difference in open_.items():
        folder, _, name = path.rpartition("/")
        site, _, info = folder.rpartition("/")
        if name == "RECORD" and info.endswith(".dist-info") and "?" not in _identity(info):
            key = (site, canonical_name(_identity(info)[0]))
            (old if difference.kind == "missing" else new)[key] = info
    for key in sorted(new.keys() | old.keys()):
        site, _ = key
        below = f"{site}/" if site else ""
        was = old.get(key)
        gone = open_[f"{below}{was}/RECORD"].owner if was is not None else None
        places = (below, "bin/", "share/")
        if key not in new:
            name, version = _identity(was or "")
            yield _Claim(cause=f"{name} {version} was removed", owner="", listed={}, gone=gone, places=places)
            continue
        info = new[key]
        name, version = _identity(info)
        again = open_[f"{below}{info}/RECORD"].kind == "changed"
        cause = f"{_installer(tree / below / info, states, f'{below}{info}')} installed {name} {version}"
        cause += " again" if again else f" (was {_identity(was)[1]})" if was is not None else ""
        listed = _record(tree, receipt, site, f"{below}{info}/RECORD", states)
        claim = _Claim(cause=cause, owner=f"pip:{key[1]}", listed=listed, gone=gone, places=places)
        if not again or _is_proven(claim, open_, states):
            yield claim


def _is_proven(claim: _Claim, open_: Mapping[str, Difference], states: Mapping[str, str]) -> bool:
    """Whether a record that was changed in place agrees with another file, and was not just edited."""
    return any(
        said is not None and path in open_ and claim.covers(open_[path], states.get(path))
        for path, said in claim.listed.items()
    )


def _identity(info: str) -> tuple[str, str]:
    name, _, version = info.removesuffix(".dist-info").partition("-")
    return _word(name), _word(version)


def _word(text: object) -> str:
    return text if isinstance(text, str) and _WORD.fullmatch(text) else "?"


def _installer(info: Path, states: Mapping[str, str], path: str) -> str:
    text = _read(info / "INSTALLER", states.get(f"{path}/INSTALLER"), 200) or ""
    name = _word(text.strip())
    return "an unknown installer" if name == "?" else name


def _record(
    tree: Path, receipt: Receipt, site: str, path: str, states: Mapping[str, str]
) -> dict[str, str | None]:
    """What a wheel's RECORD lists: path in the environment and sha256 in hex."""
    import base64
    import csv

    listed: dict[str, str | None] = {}
    text = _read(tree / path, states.get(path), _LIMIT) or ""
    try:
        for row in csv.reader(text.splitlines()):
            inside = _inside(row[0], site, (str(tree), receipt.generation, receipt.prefix)) if row else None
            if inside is None:
                continue
            kind, _, said = (row[1] if len(row) > 1 else "").partition("=")
            if kind == "sha256":
                listed[inside] = base64.urlsafe_b64decode(f"{said}==").hex()
            elif inside == path or inside.endswith(".pyc"):
                listed[inside] = None
    except (csv.Error, ValueError):
        pass  # what was read until here is claimed
    return listed


def _inside(path: str, site: str, roots: Sequence[str]) -> str | None:
    """A path of a RECORD, relative to the environment; ``None`` if it leads elsewhere."""
    if path.startswith("/"):
        root = next((root for root in roots if path.startswith(f"{root}/")), None)
        return None if root is None else posixpath.normpath(path[len(root) + 1 :])
    joined = posixpath.normpath(posixpath.join(site, path))
    return None if joined.startswith("../") else joined


# -- conda packages -------------------------------------------------------------------------------------


def _conda(
    tree: Path, receipt: Receipt, open_: Mapping[str, Difference], states: Mapping[str, str]
) -> Iterable[_Claim]:
    locked = {_record_path(package): package for package in receipt.packages if package.manager == "conda"}
    records = [
        path
        for path in open_
        if path.startswith(_CONDA_META) and path.endswith(".json") and path.count("/") == 1
    ]
    old = {locked[p].name: locked[p] for p in records if p in locked and open_[p].kind == "missing"}
    found = False
    for path in records:
        if open_[path].kind != "added" or not states[path].startswith("f"):
            continue
        document = _document(tree / path, states[path])
        name, version = _word(document.get("name")), _word(document.get("version"))
        if "?" in (name, version):
            continue
        was = old.pop(name, None)
        cause = f"conda installed {name} {version}" + (f" (was {was.version})" if was is not None else "")
        listed = {**_conda_paths(document), path: None}
        gone = None if was is None else f"conda:{name}"
        found = True
        yield _Claim(cause=cause, owner=f"conda:{name}", listed=listed, gone=gone)
    for package in old.values():
        cause = f"{package.name} {package.version} was removed"
        yield _Claim(cause=cause, owner="", listed={}, gone=f"conda:{package.name}")
    if found or old:
        yield _Claim(cause="conda wrote its history", owner="conda", listed=dict.fromkeys(_CONDA_OWN))


def _record_path(package: LockedPackage) -> str:
    return f"{_CONDA_META}{package.filename.removesuffix('.conda').removesuffix('.tar.bz2')}.json"


def _document(path: Path, state: str) -> dict[str, object]:
    import json

    try:
        value = json.loads(_read(path, state, _LIMIT) or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _conda_paths(document: Mapping[str, object]) -> dict[str, str | None]:
    files = document.get("files")
    data = document.get("paths_data")
    paths = data.get("paths") if isinstance(data, dict) else None
    listed: dict[str, str | None] = {}
    for name in files if isinstance(files, list) else ():
        if isinstance(name, str):
            listed[name] = None
    for entry in paths if isinstance(paths, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("_path"), str):
            said = entry.get("sha256_in_prefix") or entry.get("sha256")
            plain = isinstance(said, str) and entry.get("path_type") in (None, "hardlink")
            listed[entry["_path"]] = said if plain else None
    return listed


def _read(path: Path, state: str | None, limit: int) -> str | None:
    """The text of a file that was seen as one; ``None`` if it is none any more, or larger than ``limit``."""
    if state is None or not state.startswith("f"):
        return None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            content = file.read(limit + 1)
    except OSError:
        return None
    return None if len(content) > limit else content.decode("utf-8", "surrogateescape")
