"""The laboratory: a Debian with a real Apptainer, made once and kept in ``ENVFORGE_LAB``."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["HERE", "Laboratory", "command", "laboratory", "made_root", "make_root"]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Laboratory:
    """A root file system with Apptainer in it; ``/base`` in there is a base image."""

    root: Path

    def run(self, directory: Path, *argv: str, network: bool = False, status: int = 0) -> str:
        """Run a program in it, in ``directory`` of this machine, and return all that it printed."""
        (directory / "tmp").mkdir(exist_ok=True)
        variables = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "APPTAINER_TMPDIR": str(directory / "tmp"),
            "NETWORK": "host" if network else "none",
        }
        with subprocess.Popen(
            ["/bin/sh", str(HERE / "enter-root.sh"), str(self.root), str(directory), *argv],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=600)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
                raise
        assert process.returncode == status, f"{' '.join(argv)}: status {process.returncode}\n{said}"
        return said


def laboratory() -> Laboratory:
    """The laboratory; where it cannot be made, the test is skipped with the reason."""
    lab = made_root("apptainer-root.sh", "")
    own = "python{}.{}".format(*sys.version_info)
    if not (lab.root / "base/usr/bin" / own).exists():
        pytest.skip(f"the wheels made by this {own} do not fit the Python of Debian {lab.root.name}")
    return lab


def made_root(script: str, kind: str) -> Laboratory:
    """The root file system that ``script`` makes, once; where it cannot, the test is skipped with why."""
    suite = _debian()
    return Laboratory(make_root(script, f"{kind}-{suite}" if kind else suite, suite))


def make_root(script: str, name: str, *words: str) -> Path:
    """What ``script`` makes of ``words``, once, under ``name``; where it cannot, the test is skipped."""
    parent = Path(os.environ.get("ENVFORGE_LAB") or Path(tempfile.gettempdir()) / "envforge-lab")
    root = parent / name
    made = subprocess.run(
        ["/bin/sh", str(HERE / script), str(root), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if made.returncode == 77:
        pytest.skip(made.stderr.strip().splitlines()[-1])
    assert made.returncode == 0, made.stderr
    return root


def _debian() -> str:
    """The codename of this Debian: the demonstration's interpreter needs the libraries it was built with."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    if system.get("ID") != "debian" or "VERSION_CODENAME" not in system:
        pytest.skip("this machine is not a released Debian, whose libraries the base image has to have")
    return system["VERSION_CODENAME"]


def command(directory: Path, *words: str) -> str:
    """Run ``envforge`` as a user does, in ``directory``, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "envforge", *words],
        cwd=directory,
        env={"PATH": os.defpath, "HOME": str(directory), "ENVFORGE_CACHE": str(directory / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout
