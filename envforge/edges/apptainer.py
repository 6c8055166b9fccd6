"""Apptainer, or a Singularity that it grew out of, as a program that makes a SIF of an OCI archive."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from envforge.edges.process import Command, run
from envforge.edges.scratch import is_full
from envforge.edges.ustar import MTIME
from envforge.errors import CouldNotError

__all__ = ["Apptainer", "find_apptainer"]

_NAMES = ("apptainer", "singularity")
_OWN = ("APPTAINER_", "SINGULARITY_")
_SAME_BYTES = (1, 5)  # the Apptainer from which on SOURCE_DATE_EPOCH decides every time and identifier


@dataclass(frozen=True, kw_only=True)
class Apptainer:
    """The program: its path, its name, and what it says that its version is."""

    path: str
    name: str
    version: str

    @property
    def reproducible(self) -> bool:
        """Whether the same archive becomes the same SIF each time."""
        match = re.search(r"(\d+)\.(\d+)", self.version)
        numbers = (int(match[1]), int(match[2])) if match else (0, 0)
        return self.name == "apptainer" and numbers >= _SAME_BYTES

    def build(self, archive: Path, sif: Path) -> None:
        """Make the new file ``sif`` of an OCI archive; works beside the archive, unless the user says where.

        :raises CouldNotError: if it fails.
        """
        env = {name: value for name, value in os.environ.items() if name.startswith(_OWN)}
        for start in _OWN:
            env.setdefault(f"{start}TMPDIR", str(archive.parent))
            env.setdefault(f"{start}CACHEDIR", str(archive.parent / "cache"))
        env["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH") or str(MTIME)
        # Named without its directory: a colon in the path would begin a tag.
        argv = (self.path, "build", "--force", str(sif.absolute()), f"oci-archive:{archive.name}")
        done = run(Command(argv=argv, cwd=archive.parent, env=env))
        if done.returncode != 0:
            said = done.stderr + done.stdout
            lines = [line for line in said.splitlines() if line.strip()]
            fatal = next((line for line in lines if "FATAL" in line), "".join(lines[-1:]))
            raise CouldNotError(
                f"{self.name} failed: {fatal.removeprefix('FATAL:').strip()[:300]}",
                at=str(sif),
                do="set APPTAINER_TMPDIR to a local directory with room for the image"
                if is_full(said)
                else f"see the log; or: envforge image oci, and {self.name} build where that works",
                story=said,
            )

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_apptainer() -> Apptainer:
    """The Apptainer or Singularity of this machine.

    :raises CouldNotError: if there is none.
    """
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None:
            done = run(Command(argv=(path, "--version")), timeout=60)
            words = done.stdout.split()
            return Apptainer(path=path, name=name, version=words[-1] if words else "of no known version")
    raise CouldNotError(
        "there is neither apptainer nor singularity here, which makes a SIF",
        at=f"PATH={os.environ.get('PATH', '')}",
        do="envforge image oci; and where it is: apptainer build env.sif oci-archive:env.oci.tar",
    )
