"""The command line in this process, and what a lockfile holds in a form that can be compared."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import envforge.settings
from envforge.cli.app import run
from envforge.formats import conda_lock
from envforge.model.lockfile import Lockfile, canonical_name
from tests.conftest import Ended

GOLDEN = Path(__file__).parent / "golden"
PLAIN = Path(__file__).parents[1] / "formats" / "golden" / "plain.conda-lock.yml"
"""A lockfile with two platforms, three groups, conda packages and a wheel."""


def call(*words: object) -> Ended:
    """``envforge WORDS`` without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    envforge.settings._log.clear()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(list(map(str, words)))
    return Ended(status, out.getvalue(), err.getvalue())


def read(path: Path) -> Lockfile:
    """The lockfile at ``path``."""
    return conda_lock.read(path.read_text(encoding="utf-8"), source=path.name)


def held(lockfile: Lockfile, platform: str = "linux-64", group: str | None = "main") -> dict[str, str]:
    """Versions by canonical name of one platform, and one group or all."""
    return {
        canonical_name(row.name): row.version
        for row in lockfile.packages
        if row.platform == platform and group in (None, row.category)
    }
