"""``--profile``, as every command takes it: a file that ``envforge probe`` wrote, or words typed by hand."""

from __future__ import annotations

import re
from pathlib import Path

from envforge.model.platforms import Target
from envforge.model.profile import parse_profile

__all__ = ["PROFILE_HELP", "profile_mpi", "profile_target"]

PROFILE_HELP = "a file of 'envforge probe', or 'linux-64 glibc=2.28 cuda=12.4 x86_64_v3'"


def profile_target(text: str) -> Target:
    """The target that ``--profile TEXT`` means.

    :raises InputError: if it is neither a profile typed by hand nor a file that holds one.
    """
    return _read(text)[0]


def profile_mpi(text: str) -> str | None:
    """The path of the MPI's library that the profile names; one that is typed by hand names none.

    :raises InputError: as :func:`profile_target`.
    """
    return _read(text)[1]


def _read(text: str) -> tuple[Target, str | None]:
    words = text.split()
    if Path(text).exists() or re.search(r"[/\\]|\.json$", words[0] if words else ""):
        from envforge.cli.console import read_text
        from envforge.formats import profile_json

        profile = profile_json.read(read_text(Path(text), limit=1_000_000), source=text)
        return profile.target(), profile.mpi
    return parse_profile(text), None
