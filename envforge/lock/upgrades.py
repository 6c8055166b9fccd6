"""``-P``: which locked versions are let go, and what became of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.runtime import runtime_rows
from envforge.model.spec import EnvironmentSpec

__all__ = ["Upgrade", "check_upgrades", "unmoved"]

_UPGRADE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)((?:[=<>!~][^\[\];@]*[^\[\];@=<>!~])?)")


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A package whose locked version is let go, and the versions that it may have then, empty for any.

    ``versions`` is the rest of a MatchSpec, or a specifier: ``=2.1``, ``>=2,<3``.
    """

    name: str
    versions: str = ""

    @classmethod
    def parse(cls, text: str) -> Upgrade:
        """Read ``numpy``, ``numpy=2.1`` or ``numpy>=2,<3``.

        :raises InputError: if it is none of that form.
        """
        match = _UPGRADE.fullmatch(re.sub(r"\s+", "", text))
        if match is None:
            raise InputError(
                f"{text!r} names no package", at="-P", do="write it as numpy, numpy=2.1 or 'numpy>=2,<3'"
            )
        return cls(name=match[1], versions=match[2])

    @property
    def specifier(self) -> str:
        """The versions in the words of PyPI, where ``=2.1`` is ``==2.1.*``."""
        return re.sub(r"^=([^=].*)", r"==\1.*", self.versions)

    def __str__(self) -> str:
        return self.name + self.versions


def check_upgrades(upgrades: Sequence[Upgrade], previous: Lockfile | None, spec: EnvironmentSpec) -> None:
    """Refuse a name that is neither locked nor asked for: it is mistyped, and nothing would happen.

    :raises InputError: with what may have been meant.
    """
    if previous is None:
        return
    rows = (*previous.packages, *_runtimes(previous))
    known = {canonical_name(row.name): row.name for row in rows}
    known |= {canonical_name(match[0]): match[0] for match in map(_named, _texts(spec)) if match is not None}
    for upgrade in upgrades:
        if canonical_name(upgrade.name) not in known:
            import difflib

            close = difflib.get_close_matches(canonical_name(upgrade.name), known, n=1)
            raise InputError(
                f"{upgrade.name} is not locked, and no line asks for it",
                at=f"-P {upgrade}",
                do=f"envforge lock -P {known[close[0]]}{upgrade.versions}" if close else "envforge list",
            )


def _runtimes(lockfile: Lockfile) -> Iterator[LockedPackage]:
    """The packages of the runtimes that are locked; what cannot be read is locked anew and has none."""
    for platform in lockfile.platforms:
        with suppress(InputError):
            yield from runtime_rows(lockfile, platform)


def _named(text: str) -> re.Match[str] | None:
    return re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text.rpartition("::")[2].strip())


def _texts(spec: EnvironmentSpec) -> Iterator[str]:
    return (line.text for line in spec.conda + spec.pip)


def unmoved(upgrades: Sequence[Upgrade], previous: Lockfile, lockfile: Lockfile) -> Iterator[str]:
    """Of each package that was let go and did not move, why that is, in words."""
    for upgrade in upgrades:
        before, after = (_versions(upgrade.name, one) for one in (previous, lockfile))
        if before and not after:
            yield f"nothing needs {upgrade.name} any more"
        elif before and before == after:
            yield f"{upgrade.name} stays at {', '.join(sorted(set(after.values())))}: nothing newer fits"


def _versions(name: str, lockfile: Lockfile) -> dict[str, str]:
    wanted = canonical_name(name)
    return {row.platform: row.version for row in lockfile.packages if canonical_name(row.name) == wanted}
