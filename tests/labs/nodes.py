"""Nodes that have nothing but what a bundle asks for: made once, and kept in ``ENVFORGE_LAB``."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Ended
from tests.labs.support import make_root

__all__ = ["FLAVOURS", "BareNode", "bare_node"]

HERE = Path(__file__).parent
FLAVOURS = ("dash", "bash", "busybox")
_SUITE = "bookworm"


@dataclass(frozen=True)
class BareNode:
    """A root file system with a shell, tar, gzip and a few small tools; see ``node-root.sh``."""

    root: Path
    emulator: str | None = None
    """What its programs are started by, where they are for aarch64."""

    def __call__(self, directory: Path, *argv: str, env: Mapping[str, str] | None = None) -> Ended:
        """Run a program in it, without network, in ``directory`` of this machine."""
        variables = {"PATH": os.environ["PATH"], "NETWORK": "none"}
        if self.emulator is not None:
            variables["EMULATOR"] = self.emulator
        inside = {"PATH": "/usr/bin", "RECORD": f"{directory}/record", **(env or {})}
        settings = " ".join(f'{name}="${{LAB_{name}}}"; export {name};' for name in inside)
        variables |= {f"LAB_{name}": value for name, value in inside.items()}
        script = f'{settings} unset NETWORK OLDPWD; exec "$@"'
        enter = ["/bin/sh", str(HERE / "enter-root.sh"), str(self.root), str(directory)]
        done = subprocess.run(
            [*enter, "/bin/sh", "-c", script, "sh", *argv],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


def bare_node(flavour: str) -> BareNode:
    """The node whose ``sh`` is ``flavour``; where it cannot be made, the test is skipped with the reason."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if platform.system() != "Linux":
        pytest.skip("needs Linux")
    root = make_root("node-root.sh", f"node-{_SUITE}", _SUITE)
    return BareNode(root / flavour)
