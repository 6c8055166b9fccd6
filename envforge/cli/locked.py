"""What ``lock`` prints: what is locked now, and what moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envforge.cli.console import Console, print_result
from envforge.model.lockfile import Lockfile
from envforge.model.profile import option_for
from envforge.model.spec import EnvironmentSpec

if TYPE_CHECKING:
    from envforge.model.difference import LockDifference
    from envforge.resolvers.conda import LesserVariant

__all__ = ["Locked", "print_locked"]

_FEW = 3
_MOST = 30
"""How many lines of what moved are shown without ``--verbose``."""


@dataclass(frozen=True, kw_only=True)
class Locked:
    """The lockfile before, if there was one, and after; ``written`` is whether it lies at ``path``.

    ``lesser`` are, by platform, the packages that are as they are only because of what was assumed.
    """

    spec: EnvironmentSpec
    before: Lockfile | None
    after: Lockfile
    lesser: Mapping[str, tuple[LesserVariant, ...]]
    path: Path
    written: bool

    @property
    def changed(self) -> bool:
        """Whether the two differ in anything at all."""
        return self.before != self.after

    def difference(self) -> LockDifference | None:
        """What moved; ``None`` where nothing was locked before."""
        if self.before is None:
            return None
        from envforge.diff import diff
        from envforge.list import asked_by

        asked = [*asked_by(self.spec, self.before), *asked_by(self.spec, self.after)]
        return diff(self.before, self.after, asked=asked)


def print_locked(console: Console, locked: Locked) -> None:
    """Print the result: the platforms, what moved since the lock before, and the state of the file."""
    for line in _lesser(locked):
        console.note(line)
    difference = locked.difference()
    lines = [*_platforms(locked.after)]
    if difference is not None and difference:
        lines += _moved(difference, most=None if console.verbose else _MOST)
    digest = locked.after.digest()
    lines.append(f"{locked.path} {_state(locked)}   ({digest[:12]})")
    document = {
        "lockfile": str(locked.path),
        "digest": digest,
        "changed": locked.changed,
        "written": locked.written,
        "platforms": _platforms_document(locked),
        "groups": list(locked.after.groups),
        "difference": None if difference is None else _document(difference),
    }
    print_result(console, lines, document)


def _platforms(lockfile: Lockfile) -> Iterator[str]:
    for platform, counts in _counts(lockfile).items():
        conda, pip, target = counts.values()
        yield f"{platform:<14} {conda:>4} conda {pip:>4} pip   assuming {target}"


def _counts(lockfile: Lockfile) -> dict[str, dict[str, Any]]:
    """Packages by platform; one of several groups counts once."""
    found: dict[str, dict[str, Any]] = {}
    for platform in lockfile.platforms:
        keys = {(row.manager, row.name) for row in lockfile.packages if row.platform == platform}
        pip = sum(manager == "pip" for manager, _ in keys)
        found[platform] = {"conda": len(keys) - pip, "pip": pip, "target": str(lockfile.target(platform))}
    return found


def _platforms_document(locked: Locked) -> dict[str, dict[str, Any]]:
    return {
        platform: {
            **counts,
            "lesser": [
                {
                    "name": one.name,
                    "locked": one.locked,
                    "better": one.better,
                    "option": None if one.instead else option_for(one.package),
                    "instead": one.instead,
                }
                for one in locked.lesser.get(platform, ())
            ],
        }
        for platform, counts in _counts(locked.after).items()
    }


def _lesser(locked: Locked) -> Iterator[str]:
    """What is only a lesser variant, a line for each platform and option that would change it."""
    for platform, variants in sorted(locked.lesser.items()):
        target = locked.after.target(platform)
        for one in variants:
            if one.instead is not None:
                yield (
                    f"{platform}: {one.package} is assumed, and {one.name} is {one.locked} all the same; "
                    f"{one.better} makes use of it: write {one.instead}"
                )
        for package in dict.fromkeys(one.package for one in variants if one.instead is None):
            of = [one for one in variants if one.package == package and one.instead is None]
            told = [f"{one.name} is {one.locked} and not {one.better}" for one in of[:_FEW]]
            more = f", and {len(of) - _FEW} more" if len(of) > _FEW else ""
            has = target.version(package.name) if target is not None else None
            assumed = (
                f"{package.name} {has}" if has and package.name != "__archspec" else f"no {package.name}"
            )
            option = option_for(package)
            yield (
                f"{platform}: {assumed} is assumed, so {', '.join(told)}{more}; "
                f"if the cluster has it: envforge lock {option}"
            )


def _document(difference: LockDifference) -> dict[str, Any]:
    from envforge.cli.differences import difference_document

    return difference_document(difference)


def _moved(difference: LockDifference, *, most: int | None) -> Iterator[str]:
    from envforge.cli.differences import summary, text_lines

    lines = list(text_lines(difference))
    yield from lines[:most]
    if most is not None and len(lines) > most:
        yield f"… and {len(lines) - most} more; --verbose shows them all"
    yield summary(difference)


def _state(locked: Locked) -> str:
    if not locked.written:
        return "would be written" if locked.changed else "would stay as it is"
    return "written" if locked.changed else "unchanged"
