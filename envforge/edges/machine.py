"""Facts about this machine and the file systems that it sees.  Nothing is written, and nothing here fails.

What cannot be found out is ``None``: half of the nodes of the world lack one file or another below ``/proc``.
Functions that read what a kernel says take it as text, so that what other kernels say can be tried.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DRIVERS",
    "LEVELS",
    "Mount",
    "Place",
    "cgroup_cpus",
    "cuda_of_driver",
    "cuda_version",
    "distribution",
    "glibc_version",
    "jobs_available",
    "kernel_version",
    "may_link",
    "microarchitecture",
    "mount_of",
    "mpi_library",
    "nearest_directory",
    "nvidia_driver",
    "parse_cpuinfo",
    "parse_mountinfo",
    "place_of",
]

LEVELS = ("x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4")
"""The levels of the x86-64 psABI, each of which holds those before it."""
NETWORK_JOBS = 4
"""Threads on a network file system: a few hide the way to the server, more only make its other users wait."""

_FLAGS = {
    "x86_64_v2": "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3",
    "x86_64_v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
    "x86_64_v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""The psABI's features as Linux calls them: ``pni`` is SSE3, ``abm`` has LZCNT."""

DRIVERS = (
    (590, "13.1"), (580, "13.0"), (575, "12.9"), (570, "12.8"), (565, "12.7"), (560, "12.6"), (555, "12.5"),
    (550, "12.4"), (545, "12.3"), (535, "12.2"), (530, "12.1"), (525, "12.0"), (520, "11.8"), (515, "11.7"),
    (510, "11.6"), (495, "11.5"), (470, "11.4"), (465, "11.3"), (460, "11.2"), (455, "11.1"), (450, "11.0"),
    (440, "10.2"), (418, "10.1"), (410, "10.0"), (396, "9.2"), (390, "9.1"), (384, "9.0"),
)  # fmt: skip
"""The first release of NVIDIA's driver for Linux with each CUDA, the newest first."""

_NETWORK = frozenset((
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "dvs", "fhgfs", "glusterfs", "gpfs", "lustre",
    "lustre_lite", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte", "smb3",
    "smbfs", "wekafs",
    "fuse.beegfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs",
    "fuse.mfs", "fuse.moosefs", "fuse.quobyte", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.weka",
))  # fmt: skip
_NO_SYMLINKS = frozenset(("vfat", "msdos", "umsdos", "exfat", "fuse.exfat"))


# -- the machine -------------------------------------------------------------------------------------


def glibc_version() -> str | None:
    """The version of the C library, such as ``2.28``; ``None`` where that is not glibc."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):  # another system, another C library
        return None
    found = re.match(r"\d+\.\d+", version)
    return found[0] if name == "glibc" and found else None


def kernel_version(release: str | None = None) -> str | None:
    """The numbers that a kernel's release begins with: ``5.14.0-503.el9`` is ``5.14.0``."""
    found = re.match(r"\d+(\.\d+)*", os.uname().release if release is None else release)
    return found[0] if found else None


def microarchitecture() -> str | None:
    """The highest level of the x86-64 psABI that this processor has; ``None`` for any other processor."""
    return parse_cpuinfo(_read(Path("/proc/cpuinfo"))) if os.uname().machine == "x86_64" else None


def parse_cpuinfo(text: str) -> str | None:
    """The level of the first processor of ``/proc/cpuinfo``; ``None`` without a line of flags."""
    line = re.search(r"^flags[ \t]*:(.*)$", text, re.MULTILINE)
    if line is None:
        return None
    flags, found = set(line[1].split()), LEVELS[0]
    for level in LEVELS[1:]:
        if not flags.issuperset(_FLAGS[level].split()):
            break
        found = level
    return found


def cuda_version() -> str | None:
    """The newest CUDA that the NVIDIA driver of this machine runs; ``None`` without a driver.

    The driver's library is asked, which starts nothing and touches no GPU, and only where the kernel has the
    driver.  A driver whose library is not found counts as none: no program here finds it either.
    """
    if not Path("/proc/driver/nvidia/version").exists():
        return None
    import ctypes  # only who has a driver pays for it

    number = ctypes.c_int(0)
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}" if status == 0 and number.value > 0 else None


def nvidia_driver(root: Path = Path("/")) -> str | None:
    """The version of the NVIDIA driver that the kernel has, such as ``550.54.15``; ``None`` without one.

    :param root: where ``proc`` lies; only a test says otherwise.
    """
    line = re.search(r"^NVRM version:(.*)$", _read(root / "proc/driver/nvidia/version"), re.MULTILINE)
    found = re.search(r"(?<!\S)[0-9]{3,4}(\.[0-9]{1,4}){1,3}(?!\S)", line[1]) if line else None
    return found[0] if found else None


def cuda_of_driver(driver: str | None) -> str | None:
    """The newest CUDA that a release of the driver runs, where the driver itself cannot be asked."""
    release = int(driver.partition(".")[0]) if driver else 0
    return next((cuda for least, cuda in DRIVERS if release >= least), None)


def mpi_library(root: Path = Path("/"), variables: Mapping[str, str] = os.environ) -> str | None:
    """The path of the MPI that programs find here; ``None`` without one, or if it is one of the system's.

    Of Cray's it is the one that can stand for any MPICH.  Often a module says which there is.

    :param root: where the file system begins; only a test says otherwise.
    """
    folders = variables.get("LD_LIBRARY_PATH", "").split(":")
    if cray := variables.get("MPICH_DIR"):
        folders.insert(0, f"{cray}/lib-abi-mpich")
    for name, below in (("MPI_HOME", "lib"), ("I_MPI_ROOT", "lib/release"), ("I_MPI_ROOT", "lib")):
        folders += [f"{variables[name]}/{below}"] if variables.get(name) else []
    for folder in folders:
        place = root / folder.lstrip("/")
        if not folder.startswith("/") or (place / "libc.so.6").exists():
            continue
        found = next((f"{folder}/{name}" for name in _MPI if (place / name).exists()), None)
        if found is not None:
            return found if re.fullmatch(r"[A-Za-z0-9._+@=/-]+", found) else None
    return None


def distribution(root: Path = Path("/")) -> str | None:
    """What the system calls itself (os-release's ``PRETTY_NAME``), in letters that need no care anywhere."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        found = re.search(r"^PRETTY_NAME=(.*)$", _read(root / name), re.MULTILINE)
        if found is not None:
            return re.sub(r"[^A-Za-z0-9._()/+: -]", "", found[1])[:80] or None
    return None


_MPI = ("libmpi.so.12", "libmpi.so.40")
"""What the library is called: in the family of MPICH, and that of Open MPI."""


# -- file systems ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    id: int
    root: str
    point: str
    type: str
    source: str
    options: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The file system that a path lies on, or will lie on.

    ``directory`` is the nearest directory that there is.  ``bytes`` and ``inodes`` are what is free for this
    user; ``None`` where the file system does not say, or knows no such limit.
    """

    directory: Path
    device: int
    mount: Mount | None
    bytes: int | None
    inodes: int | None
    noexec: bool
    read_only: bool

    @property
    def type(self) -> str:
        """The type of the file system, such as ``ext4``; ``unknown`` where the kernel does not tell."""
        return "unknown" if self.mount is None else self.mount.type

    @property
    def network(self) -> bool:
        """Whether the files lie on other machines."""
        return self.type in _NETWORK

    @property
    def symlinks(self) -> bool:
        """Whether it can hold symbolic links."""
        return self.type not in _NO_SYMLINKS


def nearest_directory(path: Path) -> Path:
    """``path`` or the nearest directory above it that exists."""
    absolute = path.absolute()
    return next((part for part in (absolute, *absolute.parents) if part.is_dir()), Path(absolute.anchor))


def place_of(path: Path) -> Place | None:
    """The file system that ``path`` lies on, or would; ``None`` where nothing can be found out about it."""
    directory = nearest_directory(path)
    try:
        found, status = os.statvfs(directory), directory.stat()
    except (OSError, AttributeError):
        return None
    return Place(
        directory=directory,
        device=status.st_dev,
        mount=mount_of(directory),
        bytes=found.f_bavail * found.f_frsize if found.f_blocks else None,
        inodes=found.f_favail if found.f_files else None,
        noexec=bool(found.f_flag & getattr(os, "ST_NOEXEC", 8)),
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def mount_of(directory: Path) -> Mount | None:
    """The mount that ``directory`` lies on, as the kernel says; else the longest mount point above it."""
    mounts = parse_mountinfo(_read(Path("/proc/self/mountinfo")))
    number = _mount_id(directory)
    exact = [mount for mount in mounts if mount.id == number]
    real = os.path.realpath(directory)
    above = sorted((m for m in mounts if _holds(m.point, real)), key=lambda mount: len(mount.point))
    found = exact or above  # of several at one point the last lies on top
    return found[-1] if found else None


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts of ``/proc/self/mountinfo``; lines that are none are passed over."""
    return tuple(mount for line in text.split("\n") if (mount := _mount(line)) is not None)


def _mount(line: str) -> Mount | None:
    before, dash, after = line.partition(" - ")
    left, right = before.split(" "), after.split(" ")
    if not dash or len(left) < 6 or len(right) < 2 or not re.fullmatch(r"[0-9]{1,18}", left[0]):
        return None
    return Mount(
        id=int(left[0]),
        root=_unescaped(left[3]),
        point=_unescaped(left[4]),
        type=right[0],
        source=_unescaped(right[1]),
        options=frozenset(left[5].split(",")) | frozenset((right[2] if len(right) > 2 else "").split(",")),
    )


def _unescaped(text: str) -> str:
    """Blanks, tabs, line ends and backslashes are written as three octal digits."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda found: chr(int(found[1], 8)), text)


def _mount_id(directory: Path) -> int | None:
    try:
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    except (OSError, AttributeError):
        return None
    try:
        found = re.search(r"^mnt_id:\s*(\d+)$", _read(Path(f"/proc/self/fdinfo/{handle}")), re.MULTILINE)
    finally:
        os.close(handle)
    return int(found[1]) if found else None


def may_link(owner: int) -> bool:
    """Whether this user may make hard links to files of ``owner``: most kernels are told to forbid it."""
    if os.geteuid() in (0, owner):
        return True
    return _read(Path("/proc/sys/fs/protected_hardlinks")).strip() == "0"


def _holds(point: str, path: str) -> bool:
    return path == point or path.startswith(point if point.endswith("/") else f"{point}/")


# -- processors --------------------------------------------------------------------------------------


def jobs_available(path: Path | None = None) -> int:
    """How many threads and processes this process should use.

    The processors that it may use (affinity, and what its control group grants), and not what the machine
    has; on a network file system no more than :data:`NETWORK_JOBS`.

    :param path: where will be written or read.
    """
    try:
        processors = len(os.sched_getaffinity(0)) or 1
    except AttributeError:  # macOS
        processors = os.cpu_count() or 1
    granted = cgroup_cpus()
    if granted is not None:
        processors = min(processors, max(1, math.ceil(granted)))
    place = place_of(path) if path is not None else None
    return min(processors, NETWORK_JOBS) if place is not None and place.network else processors


def cgroup_cpus(root: Path = Path("/")) -> float | None:
    """How much processor time the control groups grant, in processors; ``None`` without a limit.

    The limit of a group holds for all below it, so that the least on the way up counts.

    :param root: where ``proc`` lies; only a test says otherwise.
    """
    mounts = parse_mountinfo(_read(root / "proc/self/mountinfo"))
    limits = [
        limit
        for controllers, group in _groups(_read(root / "proc/self/cgroup"))
        for mount in mounts
        if _is_mount_of(mount, controllers)
        for directory in _way_up(mount, group)
        if (limit := _limit(root / directory.lstrip("/"))) is not None
    ]
    return min(limits, default=None)


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """The groups that may limit processors: ``(controllers, path)``, no controllers for version 2."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and number.isdigit() and (controllers == "" or "cpu" in controllers.split(",")):
            yield controllers, path


def _is_mount_of(mount: Mount, controllers: str) -> bool:
    if controllers == "":
        return mount.type == "cgroup2"
    return mount.type == "cgroup" and "cpu" in mount.options


def _way_up(mount: Mount, group: str) -> Iterator[str]:
    """The directories of the group and of all above it, as far as they are seen from here."""
    inside = group.removeprefix(mount.root.rstrip("/")) if _holds(mount.root, group) else "/"
    parts = [part for part in inside.split("/") if part]
    if ".." in parts:  # a group outside this namespace
        parts = []
    for count in range(len(parts), -1, -1):
        yield "/".join((mount.point.rstrip("/"), *parts[:count]))


def _limit(directory: Path) -> float | None:
    quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(directory / "cpu.cfs_quota_us").strip()
        period = _read(directory / "cpu.cfs_period_us").strip()
    number = re.compile(r"[0-9]{1,18}")  # "max" and -1 are none
    if not number.fullmatch(quota) or not number.fullmatch(period) or int(period) == 0:
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
