"""Whether a wheel that was built here works elsewhere."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from envforge.edges.archive import checked_wheel
from envforge.edges.machine import glibc_version
from envforge.errors import UnsatisfiableError
from envforge.formats.elf import read_elf
from envforge.model.lockfile import canonical_name
from envforge.model.platforms import Target
from envforge.resolvers.pypi.target import wheel_tags

__all__ = ["check_fits"]

_LIBC = re.compile(r"(libc|libm|libpthread|libdl|librt|libutil|libgcc_s|libstdc\+\+|ld-linux[\w-]*)\.so\.\d+")


def check_fits(wheel: Path, target: Target, python_version: str, *, at: str | None = None) -> None:
    """Whether a wheel that was built here works on ``target``.

    A pure wheel does.  Any other must have come out for the very platform, and call nothing that a node of
    the target may lack: a newer glibc, a library of this machine.

    :raises UnsatisfiableError: if not, with the reason.
    """
    _, _, _, tags = parse_wheel_filename(wheel.name)
    if not tags & set(wheel_tags(target, python_version)):
        made = ".".join(sorted({f"{tag.interpreter}-{tag.abi}-{tag.platform}" for tag in tags}))
        raise _misfit(wheel, f"it is for {made}, not for {target.platform} and Python {python_version}", at)
    if all(tag.platform == "any" for tag in tags) or not any(
        tag.platform.startswith("linux_") for tag in tags
    ):
        if not all(tag.platform == "any" or tag.platform.startswith("manylinux") for tag in tags):
            raise _misfit(wheel, "only for Linux are wheels built that are not pure Python", at)
        return
    here, there = glibc_version(), target.version("__glibc")
    glibc, library = _calls(wheel)
    if library is not None:
        raise _misfit(wheel, f"it is linked to {library} of this machine", at)
    if there is None or glibc > _numbers(there):
        needs = ".".join(map(str, glibc))
        raise _misfit(
            wheel,
            f"built here, with glibc {here}, it needs {needs}, and the target has {there or 'none'}",
            at,
        )


def _calls(wheel: Path) -> tuple[tuple[int, int], str | None]:
    """The glibc that the programs and libraries in a wheel need, and a library that is not in it."""
    glibc, needed, inside = (0, 0), set(), set()
    with checked_wheel(wheel, wheel.name) as (archive, members, _):
        for member in members:
            inside.add(member.filename.rpartition("/")[2])
            with archive.open(member) as start:
                if start.read(4) != b"\x7fELF":
                    continue
            with tempfile.TemporaryFile() as file, archive.open(member) as content:
                shutil.copyfileobj(content, file)
                file.seek(0)
                elf = read_elf(file)
            if elf is not None:
                glibc = max(glibc, elf.glibc)
                needed |= set(elf.needed)
    foreign = sorted(name for name in needed - inside if not _LIBC.fullmatch(name))
    return glibc, foreign[0] if foreign else None


def _numbers(version: str) -> tuple[int, int]:
    parts = [int(part) for part in version.split(".")[:2]]
    return parts[0], parts[1] if len(parts) > 1 else 0


def _misfit(wheel: Path, why: str, at: str | None) -> UnsatisfiableError:
    name = canonical_name(wheel.name.split("-")[0])
    return UnsatisfiableError(
        f"the wheel that was built of {name} cannot be used: {why}",
        at=at or wheel.name,
        do="build it on a machine like the cluster, put the wheel on an index, and require NAME==VERSION",
    )
