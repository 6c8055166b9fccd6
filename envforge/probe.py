"""Probing: the profile of this node, and a shell program that finds the same where there is no Python."""

from __future__ import annotations

import platform
from importlib.resources import files

from envforge.edges import machine
from envforge.errors import CouldNotError
from envforge.model.platforms import default_target, platform_of
from envforge.model.profile import ClusterProfile

__all__ = ["probe", "script"]


def probe() -> ClusterProfile:
    """The profile of this machine.

    :raises InputError: on a machine that conda has no platform for.
    :raises CouldNotError: on a Linux whose C library is not glibc.
    """
    name = platform_of(platform.system(), platform.machine())
    linux = name.startswith("linux-")
    glibc = machine.glibc_version() if linux else None
    if linux and glibc is None:
        raise CouldNotError(
            "the C library of this machine is not glibc, which conda packages need",
            at="getconf GNU_LIBC_VERSION",
            do="run it on a node, or in a container, with glibc",
        )
    driver = machine.nvidia_driver() if linux else None
    baseline = next(p.build for p in default_target(name).virtual_packages if p.name == "__archspec")
    return ClusterProfile(
        platform=name,
        glibc=glibc,
        kernel=machine.kernel_version() if linux else None,
        macos=platform.mac_ver()[0] or None if name.startswith("osx-") else None,
        microarchitecture=(machine.microarchitecture() if linux else None) or baseline,
        driver=driver,
        cuda=(machine.cuda_version() or machine.cuda_of_driver(driver)) if driver else None,
        mpi=machine.mpi_library() if linux else None,
        distribution=machine.distribution() if linux else None,
    )


def script() -> str:
    """A POSIX sh program that prints what :func:`probe` finds, as ``formats/profile_json.py`` writes it.

    It needs a shell, and of other programs ``uname`` and ``getconf`` or ``ldd``.
    """
    text = (files("envforge") / "templates" / "probe.sh").read_text(encoding="ascii")
    table = "".join(f"{release} {cuda}\n" for release, cuda in machine.DRIVERS)
    return text.replace("@DRIVERS@", table)
