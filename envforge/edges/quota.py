"""What a quota leaves to this user, asked of the file system's own programs.

``lfs`` for Lustre, ``mmlsquota`` for GPFS (Storage Scale), ``quota`` for NFS and local disks; whichever of
them is there.  Ceph, and projects on XFS and ext4, need no asking: their quota is what ``statvfs`` says is
free.  A program that is missing, hangs, or says what nobody understands is no information and no error.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from envforge.edges.machine import Place
from envforge.edges.process import Command, run
from envforge.errors import CouldNotError

__all__ = ["Quota", "parse_lfs", "parse_mmlsquota", "parse_quota", "quotas_of"]

SECONDS = 4.0
"""How long each program may take; after the first that does not end, no other is asked."""

_LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "gfs2", "ocfs2", "nfs", "nfs4"))
_GPFS = "/usr/lpp/mmfs/bin"
_KILO = 1024


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What one quota leaves: ``of`` is whose it is (``user``, ``group``, ``project``, ``fileset``).

    ``bytes`` and ``files`` are what may still be added, never below 0; ``None`` where there is no limit.
    A soft limit does not count before its time of grace is over: until then, one may go past it.
    """

    of: str
    bytes: int | None
    files: int | None


def quotas_of(place: Place) -> tuple[Quota, ...]:
    """The quotas that hold for what this process will write at ``place``, as far as they can be asked for."""
    found: list[Quota] = []
    try:
        for quota in _asked(place):
            found.append(quota)  # noqa: PERF402 - those before one that hangs are kept
    except (CouldNotError, OSError):
        pass
    return tuple(found)


def _asked(place: Place) -> Iterator[Quota]:
    mount = place.mount
    if mount is None:
        return
    if mount.type.startswith("lustre"):
        yield from _lustre(place.directory, mount.point)
    elif mount.type in ("gpfs", "mmfs"):
        yield from _gpfs(place.directory, mount.source)
    elif mount.type in _LOCAL:
        said = _ask("quota", "-w", "-p", "-v", "-u", "-g", "-f", mount.point)
        yield from parse_quota(said, group=_group_of(place.directory), now=int(time.time()))


def _lustre(directory: Path, point: str) -> Iterator[Quota]:
    # With a P, new files belong to the project of the directory.
    project = re.match(r"\s*(\d+)\s+P\s", _ask("lfs", "project", "-d", str(directory)))
    asked = [("user", "-u", str(os.getuid())), ("group", "-g", str(_group_of(directory)))]
    if project is not None and int(project[1]) != 0:
        asked.append(("project", "-p", project[1]))
    for of, option, number in asked:
        found = parse_lfs(_ask("lfs", "quota", "-q", option, number, point), of)
        if found is not None:
            yield found


def _gpfs(directory: Path, device: str) -> Iterator[Quota]:
    device = device.rsplit("/", 1)[-1]
    said = _ask("mmlsattr", "-L", str(directory))
    named = re.search(r"^fileset name:\s*(\S+)", said, re.MULTILINE)
    fileset = named[1] if named else None
    asked = [("user", "-u", _user()), ("group", "-g", _group_name(_group_of(directory)))]
    if fileset is not None:
        asked.append(("fileset", "-j", fileset))
    for of, option, name in asked:
        found = parse_mmlsquota(_ask("mmlsquota", "-Y", option, name, device), of, fileset)
        if found is not None:
            yield found


def _ask(program: str, *words: str) -> str:
    """What a program says, whatever its exit status: ``quota`` exits with 1 where somebody is over quota.

    :raises CouldNotError: if it does not end in time.
    """
    path = shutil.which(program) or shutil.which(program, path=_GPFS)
    if path is None:
        return ""
    return run(Command(argv=(path, *words), env={"LC_ALL": "C"}), timeout=SECONDS).stdout


def _group_of(directory: Path) -> int:
    """The group that new files there belong to."""
    status = directory.stat()
    return status.st_gid if status.st_mode & stat.S_ISGID else os.getegid()


def _user() -> str:
    import pwd  # which Windows has not, and which it does not need

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _group_name(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


# -- what they say -----------------------------------------------------------------------------------


def parse_lfs(text: str, of: str) -> Quota | None:
    """Read ``lfs quota -q``: path, kilobytes, soft, hard, grace, files, soft, hard, grace; long paths wrap.

    Numbers in brackets are of servers that did not answer in full; no more than a lower bound, as good here.
    """
    words: list[str] = []
    for line in text.splitlines():
        words = [*words, *line.split()] if len(words) == 1 else line.split()
        found = _row(words[-8:], of, now=0) if len(words) >= 9 else None
        if found is not None:
            return found
    return None


def parse_quota(text: str, *, group: int, now: int) -> tuple[Quota, ...]:
    """Read ``quota -w -p -u -g -f``: one table for the user, one for each of the groups.

    :param group: the number of the group that counts.
    :param now: the time in seconds, which times of grace are held against.
    """
    of, found = None, []
    for line in text.splitlines():
        head = re.match(r"Disk quotas for (user|group) .*\((?:uid|gid) (\d+)\)", line)
        if head is not None:
            of = head[1] if head[1] == "user" or head[2] == str(group) else None
        elif of is not None and len(line.split()) >= 9:
            row = _row(line.split()[-8:], of, now=now)
            found += [row] if row is not None else []
    return tuple(found)


def parse_mmlsquota(text: str, of: str, fileset: str | None) -> Quota | None:
    """Read ``mmlsquota -Y``: a header of field names and rows, separated by colons.

    :param fileset: the one that counts where users have a quota in each.  Where it is not known and the rows
        are several, nothing is known.
    """
    names: list[str] = []
    rows = []
    for line in text.splitlines():
        fields = [unquote(field) for field in line.split(":")]
        if len(fields) > 2 and fields[2] == "HEADER":
            names = fields
        elif names and fields[0] == names[0]:
            rows.append(dict(zip(names, fields, strict=False)))
    if of != "fileset" and fileset is not None:
        rows = [row for row in rows if row.get("filesetname", "") in ("", fileset)]
    if len(rows) != 1:
        return None
    wanted = "blockUsage blockQuota blockLimit blockGrace filesUsage filesQuota filesLimit filesGrace"
    return _row([rows[0].get(name, "") for name in wanted.split()], of, now=0)


def _row(words: list[str], of: str, *, now: int) -> Quota | None:
    """Usage, soft limit, hard limit and grace of kilobytes, then of files."""
    kilobytes, files = _left(words[:4], now), _left(words[4:8], now)
    if kilobytes is None or files is None:
        return None
    return Quota(
        of=of, bytes=None if kilobytes < 0 else kilobytes * _KILO, files=None if files < 0 else files
    )


def _left(words: list[str], now: int) -> int | None:
    """What may be added; -1 for no limit, ``None`` for what is no quota."""
    *amounts, grace = words
    found = [re.fullmatch(r"\[?([0-9]{1,18})\]?\*?", word) for word in amounts]
    if len(found) != 3 or not all(found):
        return None
    used, soft, hard = (int(match[1]) for match in found if match is not None)
    over = grace == "expired" or (
        now > 0 and grace.isascii() and grace.isdigit() and 0 < int(grace[:18]) <= now
    )
    limits = [limit for limit in (soft if over else 0, hard) if limit > 0]
    return max(0, min(limits) - used) if limits else -1
