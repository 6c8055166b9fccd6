"""Unpacking the runtime of a bundle: a tar of files, directories and links that stay inside it."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path

from envforge.edges.archive import check_member
from envforge.edges.scratch import is_full, room_remedy
from envforge.errors import CouldNotError, InputError

__all__ = ["unpack_runtime"]

_LIMIT = 2 << 30
"""Bytes that a runtime may unpack to; one has 100 million."""
_MOST = 100_000
_TOP = "runtime"
_EXTENSIONS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE,
)  # fmt: skip


def unpack_runtime(archive: Path, directory: Path) -> None:
    """Unpack ``runtime.tar.gz``, whose hash was checked, into ``directory``: it makes ``directory/runtime``.

    :raises InputError: if it holds anything else than a runtime has.
    :raises CouldNotError: if there is no room.
    """
    try:
        # Of several members, as gzip allows: tarfile by itself reads the first.
        with gzip.open(archive) as content, _plain(content) as tar:
            _unpack(tar, str(directory), str(archive))
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise _refused(f"it cannot be read: {error}", str(archive)) from error
    except OSError as error:
        if is_full(error):
            raise CouldNotError(
                "there is no room to unpack the runtime", at=str(directory), do=room_remedy(directory)
            ) from error
        raise _refused(f"it cannot be unpacked: {error.strerror or error}", str(archive)) from error


class _Plain(tarfile.TarInfo):
    """A member of a tar without extensions: tarfile would read one into memory, however large."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS:
            raise tarfile.ReadError("its tar has extensions")
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


def _plain(content: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=content, mode="r|", tarinfo=_Plain)


def _unpack(tar: tarfile.TarFile, root: str, place: str) -> None:
    total = count = 0
    folders = {""}
    for member in tar:
        total, count = total + member.size, count + 1
        if total > _LIMIT or count > _MOST:
            raise _refused("it unpacks to too much", place)
        name = check_member(member.name, at=place)
        if name.split("/")[0] != _TOP:
            raise _refused(f"{name} is no part of it", place)
        parent = name.rpartition("/")[0]
        if parent not in folders:  # so no link is ever walked through
            raise _refused(f"{name} comes before its directory", place)
        target = f"{root}/{name}"
        if member.isdir():
            os.mkdir(target)
            os.chmod(target, 0o755)
            folders.add(name)
        elif member.issym():
            _check_link(name, member.linkname, place)
            os.symlink(member.linkname, target)
        elif member.isreg():
            _write(tar, member, target)
        else:
            raise _refused(f"{name} is no file, directory or link", place)


def _check_link(name: str, text: str, place: str) -> None:
    end = os.path.normpath(os.path.join(os.path.dirname(name), text))
    if text.startswith("/") or end.split("/")[0] != _TOP:
        raise _refused(f"the link {name} leaves it", place)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    content = tar.extractfile(member)
    if content is None:
        raise ValueError(member.name)
    mode = 0o755 if member.mode & 0o100 else 0o644
    number = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(number, "wb") as file:
        os.fchmod(number, mode)
        while chunk := content.read(1 << 20):
            file.write(chunk)


def _refused(why: str, place: str) -> InputError:
    return InputError(
        f"the runtime cannot be used: {why}", at=place, do="do not use this bundle; ask whoever made it"
    )
