"""Facts about a machine: what kernels and quota programs say is read, and nonsense is no information."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from envforge.edges.machine import (
    LEVELS,
    Mount,
    Place,
    cgroup_cpus,
    cuda_version,
    glibc_version,
    jobs_available,
    kernel_version,
    microarchitecture,
    mount_of,
    parse_cpuinfo,
    parse_mountinfo,
    place_of,
)
from envforge.edges.peek import listed
from envforge.edges.quota import Quota, parse_lfs, parse_mmlsquota, parse_quota, quotas_of

quick = settings(max_examples=80, deadline=None, derandomize=True)
PRIVATE = ("unshare", "--map-root-user", "--mount")


def can_mount() -> bool:
    command = [*PRIVATE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


# -- the machine -------------------------------------------------------------------------------------


def test_this_machine_is_described() -> None:
    assert kernel_version() is not None
    assert glibc_version() is None or glibc_version().startswith("2.")  # type: ignore[union-attr]
    assert (microarchitecture() in LEVELS) == (os.uname().machine == "x86_64")
    assert (cuda_version() is None) or Path("/proc/driver/nvidia/version").exists()


def test_a_kernel_is_called_by_its_numbers() -> None:
    assert kernel_version("5.14.0-503.el9.x86_64") == "5.14.0"
    assert kernel_version("6.8-rc1") == "6.8"
    assert kernel_version("odd") is None


OLD = "fpu sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm"
HASWELL = f"{OLD} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
SKYLAKE = f"{HASWELL} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.mark.parametrize(
    ("flags", "level"),
    [("fpu sse sse2", 0), (OLD, 1), (HASWELL, 2), (SKYLAKE, 3), (SKYLAKE.replace(" fma ", " "), 1)],
)
def test_a_level_needs_every_flag_of_those_below(flags: str, level: int) -> None:
    text = f"processor\t: 0\nmodel name\t: flags : none\nflags\t\t: {flags}\nvmx flags\t: ept\n\n"
    assert parse_cpuinfo(text) == LEVELS[level]
    assert parse_cpuinfo("processor : 0\nFeatures : fp asimd\n") is None


# -- file systems ------------------------------------------------------------------------------------

MOUNTINFO = r"""
22 1 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
90 27 0:50 /sub /a\040b rw,nosuid,noexec shared:9 master:3 - nfs4 server:/home\040of\134all rw,vers=4.2
91 90 0:51 / /a\040b rw - lustre 10.0.0.1@o2ib:10.0.0.2@o2ib:/scratch rw,flock
nonsense
93 27 0:9 / /broken rw
"""


def test_mounts_are_read_with_their_blanks() -> None:
    mounts = parse_mountinfo(MOUNTINFO)
    assert [(m.id, m.type, m.point) for m in mounts] == [
        (22, "proc", "/proc"),
        (27, "ext4", "/"),
        (90, "nfs4", "/a b"),
        (91, "lustre", "/a b"),
    ]
    assert mounts[2].source == "server:/home of\\all"
    assert {"noexec", "vers=4.2"} <= mounts[2].options


def place(kind: str, directory: Path = Path("/"), source: str = "x") -> Place:
    mount = Mount(id=1, root="/", point=str(directory), type=kind, source=source, options=frozenset())
    return Place(directory=directory, device=1, mount=mount, bytes=1, inodes=1, noexec=False, read_only=False)


def test_which_file_systems_are_elsewhere_and_which_have_no_links() -> None:
    for kind in ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "cifs", "wekafs", "fuse.sshfs", "9p", "panfs"):
        assert place(kind).network, kind
    for kind in ("ext4", "xfs", "tmpfs", "overlay", "btrfs", "zfs", "fuse.squashfuse", "squashfs"):
        assert not place(kind).network, kind
        assert place(kind).symlinks, kind
    assert not place("vfat").symlinks
    assert not place("exfat").symlinks


def test_a_path_that_is_not_there_yet_has_a_place(tmp_path: Path) -> None:
    found = place_of(tmp_path / "not" / "there")
    assert found is not None
    assert found.directory == tmp_path
    assert found.device == tmp_path.stat().st_dev
    assert found.mount == mount_of(tmp_path)
    assert found.bytes is not None


_LOOK = """
import sys
from pathlib import Path
from envforge.edges.machine import place_of
for name in sys.argv[1:]:
    place = place_of(Path(name))
    print(place.mount.source, repr(place.mount.point), place.noexec, place.read_only, place.inodes)
"""


@pytest.mark.skipif(not can_mount(), reason="no file system can be mounted here")
def test_what_lies_on_top_counts(tmp_path: Path) -> None:
    below, odd = tmp_path / "a" / "b", tmp_path / "c d\\e\r\u2028"
    below.mkdir(parents=True)
    odd.mkdir()
    script = """
    mount -t tmpfs hidden a/b && mount -t tmpfs -o noexec,nr_inodes=100 above a && mkdir a/b
    mount -t tmpfs first "$0" && mount -t tmpfs -o ro second "$0"
    exec "$@"
    """
    program = [sys.executable, "-c", _LOOK, "a/b", str(odd / "x" / "y")]
    done = subprocess.run(
        [*PRIVATE, "sh", "-c", script, str(odd), *program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    above, second = done.stdout.splitlines()
    assert above == f"above {str(tmp_path / 'a')!r} True False 98"
    assert second.startswith(f"second {str(odd)!r} False True ")


# -- processors --------------------------------------------------------------------------------------


def machine(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 30 0:29 /job /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "files", "cpus"),
    [
        ("0::/user/job\n", V2, {"sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, None),
        ("0::/user/job\n", V2, {"sys/fs/cgroup/user/job/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/user/job\n", V2, {"sys/fs/cgroup/user/job/cpu.max": "800000 100000\n",
                                "sys/fs/cgroup/user/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/../../up\n", V2, {"sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        ("4:cpuacct,cpu:/job/step\n1:name=systemd:/x\n", V1,
         {"sys/fs/cgroup/cpu,cpuacct/step/cpu.cfs_quota_us": "400000\n",
          "sys/fs/cgroup/cpu,cpuacct/step/cpu.cfs_period_us": "100000\n"}, 4.0),
        ("4:cpu,cpuacct:/job\n", V1,
         {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/\n", V2, {"sys/fs/cgroup/cpu.max": "5 0\n"}, None),
        ("", "", {}, None),
    ],
)  # fmt: skip
def test_a_control_group_and_those_above_limit_processors(
    tmp_path: Path, cgroup: str, mountinfo: str, files: dict[str, str], cpus: float | None
) -> None:
    assert cgroup_cpus(machine(tmp_path, cgroup, mountinfo, files)) == cpus


def test_no_more_jobs_than_processors() -> None:
    assert 1 <= jobs_available() <= len(os.sched_getaffinity(0))
    one = min(os.sched_getaffinity(0))
    command = f"import os; os.sched_setaffinity(0, {{{one}}})\n"
    command += "from envforge.edges.machine import jobs_available; print(jobs_available())"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


# -- quotas ------------------------------------------------------------------------------------------

LFS = "     /scratch 9829776*  9000000 10000000  6d23h59m   44320       0   50000       -\n"
LFS_WRAPPED = (
    "/lustre/of/a/long/name\n        [1041408]       0 6291456       -     [0]       0       0       -\n"
)
LFS_DEFAULTS = (
    "/lustre7 982177580 0 1000000000 - 443208230 0 0 -\nuid 1234 is using default file quota setting\n"
)
LFS_NONE = "     /scratch     128       0       0       -       3       0       0       -\n"
LFS_EXPIRED = "     /scratch    1500    1000    2000 expired       3       0       0       -\n"

MMLS = (
    "mmlsquota:user:HEADER:version:reserved:reserved:filesystemName:quotaType:id:name:blockUsage:blockQuota:"
    "blockLimit:blockInDoubt:blockGrace:filesUsage:filesQuota:filesLimit:filesInDoubt:filesGrace:remarks:"
    "fid:filesetname:\n"
)
HOME = "mmlsquota:user:0:1:::fs1:USR:1234:me:1862016:31457280:31457280:0:none:9000:0:10000:0:none::0:home:\n"
WORK = "mmlsquota:user:0:1:::fs1:USR:1234:me:13445536:0:0:0:none:100:0:0:0:none::1:work%3Aone:\n"

QUOTA = """\
Disk quotas for user me (uid 1234): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
 nas:/export/home of all 2097156* 1000000 15728640 1900000000       1       0   40000       0
Disk quotas for group others (gid 77): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
 nas:/export/home of all  20       0      21       0       1       0       0       0
Disk quotas for group mine (gid 78): 
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
 nas:/export/home of all  20       0      30       0       1       0       0       0
Disk quotas for group none (gid 79): none
"""  # noqa: W291 - as it says it


def test_lfs_says_what_is_left() -> None:
    assert parse_lfs(LFS, "user") == Quota(of="user", bytes=(10000000 - 9829776) * 1024, files=50000 - 44320)
    assert parse_lfs(LFS_WRAPPED, "group") == Quota(of="group", bytes=(6291456 - 1041408) * 1024, files=None)
    assert parse_lfs(LFS_DEFAULTS, "user") == Quota(of="user", bytes=17822420 * 1024, files=None)
    assert parse_lfs(LFS_NONE, "user") == Quota(of="user", bytes=None, files=None)
    assert parse_lfs(LFS_EXPIRED, "user") == Quota(of="user", bytes=0, files=None)  # over the soft one
    assert parse_lfs("lfs quota: '/home' not on a mounted Lustre filesystem\n", "user") is None


def test_mmlsquota_says_what_is_left_in_the_fileset() -> None:
    home = Quota(of="user", bytes=(31457280 - 1862016) * 1024, files=1000)
    assert parse_mmlsquota(MMLS + HOME, "user", None) == home
    assert parse_mmlsquota(MMLS + HOME + WORK, "user", "home") == home
    assert parse_mmlsquota(MMLS + HOME + WORK, "user", "work:one") == Quota(of="user", bytes=None, files=None)
    assert parse_mmlsquota(MMLS + HOME + WORK, "user", None) is None
    assert parse_mmlsquota("mmlsquota: no such file system\n", "user", None) is None


def test_quota_says_what_is_left_to_the_user_and_one_group() -> None:
    user = Quota(of="user", bytes=(15728640 - 2097156) * 1024, files=39999)
    assert parse_quota(QUOTA, group=78, now=1800000000) == (
        user,
        Quota(of="group", bytes=10 * 1024, files=None),
    )
    assert parse_quota(QUOTA, group=79, now=1900000001) == (Quota(of="user", bytes=0, files=39999),)
    assert parse_quota("Disk quotas for user root (uid 0): none\n", group=0, now=1) == ()


def program(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


def test_the_programs_of_the_file_system_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_ = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    assert quotas_of(place("lustre", tmp_path)) == ()  # there is no lfs
    program(
        bin_,
        "lfs",
        'case "$*" in "project -d "*) echo "13579 P /somewhere";;\n'
        f"*' -u '*) printf '%s' '{LFS}';; *' -p 13579 '*) printf '%s' '{LFS_WRAPPED}';; esac",
    )
    assert [quota.of for quota in quotas_of(place("lustre", tmp_path))] == ["user", "project"]
    program(bin_, "lfs", f"echo '13579 - /somewhere'; [ \"$1\" = project ] || printf '%s' '{LFS}'")
    assert [quota.of for quota in quotas_of(place("lustre", tmp_path))] == ["user", "group"]  # no project's
    program(bin_, "mmlsattr", "echo 'file name: x'; echo 'fileset name:         home'")
    program(bin_, "mmlsquota", f"[ \"$4\" = fs1 ] && [ \"$2\" = -u ] && printf '%s' '{MMLS}{HOME}{WORK}'")
    assert [quota.files for quota in quotas_of(place("gpfs", tmp_path, "/dev/fs1"))] == [1000]
    program(bin_, "quota", f"printf '%s' '{QUOTA}'; exit 1")
    assert [quota.of for quota in quotas_of(place("nfs4", tmp_path))][:1] == ["user"]
    assert quotas_of(place("tmpfs", tmp_path)) == ()


def test_a_program_that_hangs_or_cannot_start_is_no_information(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envforge.edges.quota.SECONDS", 0.3)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    program(tmp_path / "bin", "lfs", "exec /bin/sleep 60")
    program(tmp_path / "bin", "quota", "exit 1")
    (tmp_path / "bin" / "quota").write_bytes(b"\0nothing that starts")
    began = time.monotonic()
    assert quotas_of(place("lustre", tmp_path)) == ()
    assert time.monotonic() - began < 30  # of the 180 that three would take
    assert quotas_of(place("nfs", tmp_path)) == ()


# -- nonsense ----------------------------------------------------------------------------------------

PARSERS: dict[str, Callable[[str], object]] = {
    "cpuinfo": parse_cpuinfo,
    "mountinfo": parse_mountinfo,
    "kernel": kernel_version,
    "lfs": lambda text: parse_lfs(text, "user"),
    "mmlsquota": lambda text: parse_mmlsquota(text, "user", "home"),
    "quota": lambda text: parse_quota(text, group=78, now=1),
    "paths.json": lambda text: listed(text.encode(errors="surrogatepass")),
}
PATHS = (
    '{"paths": [{"_path": "a.py", "size_in_bytes": 5, "prefix_placeholder": "/x", "file_mode": "binary"}]}'
)
SOUND = (MOUNTINFO, LFS, LFS_WRAPPED, MMLS + HOME + WORK, QUOTA, f"flags : {SKYLAKE}\n", PATHS)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """What a program says, with a piece of it replaced by anything."""
    text = draw(st.sampled_from(SOUND))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    return text[:start] + draw(st.text(max_size=20)) + text[end:]


@pytest.mark.parametrize("kind", PARSERS)
@quick
@given(text=st.one_of(st.text(), damaged()))
@example(text="0 ²")
@example(text="/x " + "9" * 5000 + " 0 0 - 0 0 0 -")
@example(text="[" * 100_000)
@example(text='{"paths": [{"_path": "a", "size_in_bytes": ' + "9" * 30 + "}]}")
@example(text='{"paths": [{"_path": "a", "size_in_bytes": 1e400}]}')
@example(text='{"paths": [{"_path": 1, "size_in_bytes": -1}, 3]}')
@example(text='{"paths": [{"_path": "a", "prefix_placeholder": "\\ud800", "file_mode": "binary"}]}')
def test_no_text_from_outside_is_an_error(kind: str, text: str) -> None:
    PARSERS[kind](text)


@quick
@given(
    cgroup=st.text(alphabet=st.sampled_from("0123:/.,cpu\n")),
    mountinfo=st.one_of(st.just(V1 + V2), st.text(max_size=60)),
    limit=st.text(max_size=12),
)
def test_no_control_group_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, cgroup: str, mountinfo: str, limit: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    files = {"sys/fs/cgroup/cpu.max": limit}
    (root / "proc/self").mkdir(parents=True)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    for name, text in {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, **files}.items():
        (root / name).write_bytes(text.encode(errors="surrogatepass"))
    found = cgroup_cpus(root)
    assert found is None or found >= 0
