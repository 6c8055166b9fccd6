"""In what two lockfiles differ: text for a terminal, Markdown for a review, JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from envforge.cli.tables import aligned
from envforge.model.difference import Change, LockDifference, Pair, build_number, needs_of
from envforge.model.holding import build_of, origin_of
from envforge.model.lockfile import LockedPackage

__all__ = ["difference_document", "markdown_lines", "summary", "text_lines"]

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def text_lines(difference: LockDifference) -> Iterator[str]:
    """What a person reads: a line a package, those that were asked for first; nothing if nothing differs."""
    yield from _circumstances(difference)
    direct = [change for change in difference.changes if change.direct]
    others = [change for change in difference.changes if not change.direct]
    cells = [_cells(change, difference) for change in (*direct, *others)]
    lines = list(aligned(cells))
    if direct and others:
        yield "asked for:"
        yield from (f"  {line}" for line in lines[: len(direct)])
        yield "with them:"
        yield from (f"  {line}" for line in lines[len(direct) :])
    else:
        yield from lines


def markdown_lines(difference: LockDifference, title: str) -> Iterator[str]:
    """The same for a pull request; what was not asked for is folded away.

    :param title: what is compared; escaped here, as is all that comes from a lockfile.
    """
    yield f"### {_escaped(title)}: {summary(difference)}"
    for line in _circumstances(difference):
        yield ""
        yield f"- {_escaped(line)}"
    direct = [change for change in difference.changes if change.direct]
    others = [change for change in difference.changes if not change.direct]
    if direct:
        yield ""
        yield from _table(direct, difference, bold=True)
    if others:
        yield ""
        more = f"{len(others)} more that come with them" if direct else f"{len(others)} packages"
        yield f"<details><summary>{more}</summary>"
        yield ""
        yield from _table(others, difference, bold=False)
        yield ""
        yield "</details>"


def summary(difference: LockDifference) -> str:
    """``3 added, 12 upgraded``; ``no package differs``."""
    parts = [f"{count} {kind}" for kind, count in difference.counts.items()]
    return ", ".join(parts) or ("no package differs" if difference else "no difference")


def difference_document(difference: LockDifference) -> dict[str, Any]:
    """Everything, for ``--json``."""
    return {
        "equal": not difference,
        "platforms": list(difference.platforms),
        "platforms_added": dict(difference.platforms_added),
        "platforms_removed": dict(difference.platforms_removed),
        "targets": {
            platform: {"old": old, "new": new} for platform, (old, new) in difference.targets.items()
        },
        "channels": None
        if difference.channels is None
        else {"old": list(difference.channels[0]), "new": list(difference.channels[1])},
        "counts": difference.counts,
        "changes": [_change(change) for change in difference.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "manager": change.manager,
        "direct": change.direct,
        "old": change.old,
        "new": change.new,
        "platforms": [
            {"platform": pair.platform, "old": _row(pair.old), "new": _row(pair.new)} for pair in change.pairs
        ],
    }


def _row(row: LockedPackage | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "version": row.version,
        "build": build_of(row) or None,
        "manager": row.manager,
        "origin": origin_of(row) or None,
        "group": row.category,
        "url": row.url or None,
        "sha256": row.sha256,
    }


# -- one line ------------------------------------------------------------------------------------------


def _circumstances(difference: LockDifference) -> Iterator[str]:
    for word, platforms in (
        ("added", difference.platforms_added),
        ("removed", difference.platforms_removed),
    ):
        for platform, count in platforms.items():
            yield f"platform {platform} {word}: {count} packages"
    yield from _targets(difference.targets)
    if difference.channels is not None:
        old, new = (", ".join(urls) for urls in difference.channels)
        yield f"channels: {old} → {new}"


def _targets(targets: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for platform, (old, new) in targets.items():
        gone, come = (
            [word for word in one.split() if word not in other.split()]
            for one, other in ((old, new), (new, old))
        )
        yield f"{platform} assumes {' '.join(come) or 'nothing'} instead of {' '.join(gone) or 'nothing'}"


def _cells(change: Change, difference: LockDifference) -> tuple[str, ...]:
    name = change.name + (" (PyPI)" if change.manager == "pip" else "")
    return (change.kind, name, _versions(change), _details(change), _where(change, difference))


def _versions(change: Change) -> str:
    old, new = change.old, change.new
    return f"{old} → {new}" if old and new and old != new else str(new or old)


def _where(change: Change, difference: LockDifference) -> str:
    return "" if change.platforms == difference.platforms else ", ".join(change.platforms)


def _details(change: Change) -> str:
    pairs = change.pairs
    parts = []
    if change.kind == "rebuilt":
        parts.append(_rebuilt(pairs))
    moves = {_moved(pair) for pair in pairs} - {None}
    if moves:
        parts += sorted(f"{old} → {new}" for old, new in filter(None, moves))
    groups = {(pair.old.category, pair.new.category) for pair in pairs if pair.old and pair.new}
    parts += sorted(f"group {old} → {new}" for old, new in groups if old != new)
    if change.kind == "amended":
        parts.append(_amended(pairs))
    return ", ".join(parts)


def _moved(pair: Pair) -> tuple[str, str] | None:
    """Short names of origins, as far as they tell the two apart."""
    if pair.old is not None and pair.new is not None and pair.old.manager != pair.new.manager:
        return (pair.old.manager.replace("pip", "PyPI"), pair.new.manager.replace("pip", "PyPI"))
    if pair.moved is None:
        return None
    old, new = (origin.rpartition("/")[2] for origin in pair.moved)
    return (old, new) if old and new and old != new else pair.moved


def _rebuilt(pairs: Sequence[Pair]) -> str:
    builds = {pair.builds for pair in pairs}
    for words in ({(build_number(old), build_number(new)) for old, new in builds}, builds):
        old, new = min(words)
        if len(words) == 1 and old != new:
            return f"build {old} → {new}"
    return "another file"


def _amended(pairs: Sequence[Pair]) -> str:
    """What is asked of others now, and was before."""
    gone: set[str] = set()
    come: set[str] = set()
    for pair in pairs:
        if pair.old is not None and pair.new is not None:
            before, after = ({f"{n} {t}" for n, t in needs_of(row).items()} for row in (pair.old, pair.new))
            gone, come = gone | (before - after), come | (after - before)
    return f"needs {', '.join(sorted(come)) or 'nothing'} instead of {', '.join(sorted(gone)) or 'nothing'}"


# -- Markdown ------------------------------------------------------------------------------------------


def _table(changes: Iterable[Change], difference: LockDifference, *, bold: bool) -> Iterator[str]:
    yield "| | package | version | | platforms |"
    yield "|---|---|---|---|---|"
    for change in changes:
        kind, name, versions, details, where = (_escaped(cell) for cell in _cells(change, difference))
        yield f"| {kind} | {f'**{name}**' if bold else name} | {versions} | {details} | {where or 'all'} |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.replace("\n", " "))
