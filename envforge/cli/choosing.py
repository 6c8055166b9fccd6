"""Which platforms of a lockfile are shown, and what is asked of those who name another."""

from __future__ import annotations

import platform as machine
from collections.abc import Sequence
from contextlib import suppress

from envforge.errors import InputError
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import platform_of

__all__ = ["chosen_platforms", "one_platform"]


def chosen_platforms(lockfile: Lockfile, named: Sequence[str]) -> tuple[str, ...]:
    """The platforms that were named, or all that are locked.

    :raises InputError: for one that is not locked.
    """
    for platform in named:
        if platform not in lockfile.platforms:
            raise InputError(
                f"the lockfile has no packages for {platform}",
                at="-p",
                do=f"name one of: {', '.join(lockfile.platforms)}",
            )
    return tuple(dict.fromkeys(named)) or lockfile.platforms


def one_platform(lockfile: Lockfile, named: Sequence[str]) -> tuple[str, ...]:
    """The platforms that were named; else the only one, this machine's, or the first that is locked.

    :raises InputError: for one that is not locked, or where none is.
    """
    platforms = chosen_platforms(lockfile, named)
    if named or len(platforms) == 1:
        return platforms
    if not platforms:
        raise InputError("the lockfile has no platforms", at="platforms", do="envforge lock -p linux-64")
    here = None
    with suppress(InputError):
        here = platform_of(machine.system(), machine.machine())
    return (here,) if here in platforms else platforms[:1]
