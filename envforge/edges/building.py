"""The files of a build: an sdist unpacked, a project copied, and the wheel in one canonical form."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from envforge.edges.archive import BROKEN_ZIP, check_member, checked_wheel
from envforge.errors import CouldNotError, InputError

__all__ = ["OLDEST", "canonical_wheel", "copy_project", "unpack_sdist"]

OLDEST = 315532800
"""1980-01-01: no zip has an older file."""
_NEWEST = 4354819198
_LIMIT = 8 << 30
_MOST = 500_000
_ANYWHERE = ("__pycache__", "*.egg-info", "*.py[co]")
_ON_TOP = (
    ".git", ".hg", "build", "dist", ".venv", "venv", ".tox", ".nox", "node_modules",
    ".mypy_cache", ".pytest_cache", ".ruff_cache",
)  # fmt: skip


def unpack_sdist(archive: Path, directory: Path, name: str) -> tuple[Path, int]:
    """Unpack a ``.tar.gz`` into the empty ``directory``.

    :param name: what an error should call it.
    :returns: the directory of the project in it, and the time of its newest file in seconds since 1970.
    :raises InputError: if it is no sdist, or one that names a place outside of ``directory``.
    """
    try:
        with gzip.open(archive) as content, tarfile.open(fileobj=content, mode="r|") as tar:
            newest = _unpack(tar, directory, name)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, OSError) as error:
        raise _no_sdist(name, str(error)) from error
    tops = sorted(directory.iterdir())
    if len(tops) != 1 or not tops[0].is_dir() or tops[0].is_symlink():
        raise _no_sdist(name, "it does not hold one directory")
    return tops[0], min(max(newest, OLDEST), _NEWEST)


def _unpack(tar: tarfile.TarFile, directory: Path, name: str) -> int:
    total = count = newest = 0
    links: set[str] = set()
    for member in tar:
        total, count = total + member.size, count + 1
        if total > _LIMIT or count > _MOST:
            raise _no_sdist(name, "it unpacks to too much")
        inner = member.name.removeprefix("./").rstrip("/")
        if inner in ("", "."):
            continue
        check_member(inner, at=name)
        if any(inner == link or inner.startswith(f"{link}/") for link in links):
            raise _no_sdist(name, f"{inner} lies behind a link")
        target = directory / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            target.mkdir(exist_ok=True)
        elif member.issym():
            end = os.path.normpath(os.path.join(os.path.dirname(inner), member.linkname))  # noqa: PTH118,PTH120
            if member.linkname.startswith("/") or end.split("/")[0] == "..":
                raise _no_sdist(name, f"the link {inner} leaves it")
            target.symlink_to(member.linkname)
            links.add(inner)
        elif member.isreg():
            _write(tar, member, target)
            newest = max(newest, int(member.mtime))
        else:
            raise _no_sdist(name, f"{inner} is no file, directory or link")
    return newest


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ValueError(member.name)
    with target.open("xb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _no_sdist(name: str, why: str) -> InputError:
    return InputError(
        f"the sdist {name} cannot be used: {why}", at=name, do="take another version, or ask who published it"
    )


def copy_project(project: Path, directory: Path) -> None:
    """Copy a project to build it: to the new ``directory``, without what earlier builds left in it.

    What is asked of git (a version from a tag) is answered: ``.git`` is there as a link.

    :raises CouldNotError: if it cannot be read.
    """
    anywhere = shutil.ignore_patterns(*_ANYWHERE)

    def left_out(folder: str, names: list[str]) -> set[str]:
        found = anywhere(folder, names)
        if Path(folder) == project:
            found |= {n for n in names if n in _ON_TOP and not (project / n / "__init__.py").exists()}
        return found

    try:
        shutil.copytree(project, directory, symlinks=True, ignore=left_out)
        if (project / ".git").exists():
            (directory / ".git").symlink_to((project / ".git").resolve())
    except (OSError, shutil.Error) as error:
        raise CouldNotError(f"the project cannot be copied: {error}", at=str(project)) from error


def canonical_wheel(wheel: Path, destination: Path) -> None:
    """Write the files of ``wheel`` to ``destination`` as every machine would: the same order, time and modes.

    They are stored as they are, because two zlibs compress differently.

    :raises InputError: if the wheel is none.
    """
    with checked_wheel(wheel, wheel.name) as (source, members, folder), destination.open("xb") as file:
        ordered = sorted(members, key=lambda m: (m.filename.startswith(f"{folder}/"), m.filename))
        try:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as out:
                for member in ordered:
                    info = zipfile.ZipInfo(member.filename, (1980, 1, 1, 0, 0, 0))
                    executable = member.external_attr >> 16 & 0o111
                    info.external_attr = (0o100755 if executable else 0o100644) << 16
                    info.create_system, info.file_size = 3, member.file_size
                    with source.open(member) as content, out.open(info, "w") as target:
                        shutil.copyfileobj(content, target, 1 << 20)
        except BROKEN_ZIP as error:
            raise InputError(f"the wheel that was built is broken: {error}", at=wheel.name) from error
