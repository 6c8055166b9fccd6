"""How a person is told in what a tree differs: by cause, then by file, and not a thousand lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from envforge.cli.console import Console, print_result
from envforge.model.receipt import Difference

__all__ = ["Result", "counted", "print_answer", "shown"]

_KINDS = ("changed", "missing", "added", "unread")
_MOST = 40
"""Files that are named without ``--verbose``."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found at ``path``: so many entries, and how they differ from ``what``.

    ``repaired`` is the generation that was made because of it.
    """

    path: Path
    entries: int
    differences: Sequence[Difference]
    what: str
    leftovers: int = 0
    repaired: Path | None = None


def print_answer(console: Console, result: Result, document: Mapping[str, object]) -> None:
    """Print a result, and with ``--json`` the keys of ``document`` with it."""
    causes = _by_cause(result.differences)
    whole = {
        "path": str(result.path),
        "equal": not result.differences,
        "entries": result.entries,
        "differences": [asdict(difference) for difference in result.differences],
        "causes": [{"cause": cause, **counts} for cause, counts in causes.items()],
        "repaired": None if result.repaired is None else str(result.repaired),
        **document,
    }
    print_result(console, _lines(result, causes, verbose=console.verbose), whole)


def _lines(result: Result, causes: Mapping[str, Counter[str]], *, verbose: bool) -> Iterator[str]:
    for cause, counts in causes.items():
        yield f"{cause}: {_counts(counts)}"
    named = [d for d in result.differences if verbose or not d.cause]
    some = named if verbose else named[:_MOST]
    for difference in some:
        detail = f"   ({shown(difference.detail)})" if difference.detail else ""
        yield f"{difference.kind:<8} {shown(difference.path)}{detail}"
    if len(some) < len(named):
        yield f"and {len(named) - len(some)} more; --verbose names them all"
    if result.leftovers:
        files = counted(result.leftovers, "bytecode file", "bytecode files")
        yield f"{files} that programs left; --strict counts them"
    if result.differences:
        kinds = _counts(Counter(difference.kind for difference in result.differences))
        yield f"{result.path} is not equal to {result.what}: {kinds}"
        if result.repaired is not None:
            yield f"made anew: {result.path} -> {result.repaired.name}"
    else:
        yield f"{result.path} is equal to {result.what}: {result.entries} entries"


def _by_cause(differences: Iterable[Difference]) -> dict[str, Counter[str]]:
    causes: dict[str, Counter[str]] = {}
    for difference in differences:
        if difference.cause:
            causes.setdefault(difference.cause, Counter())[difference.kind] += 1
    return dict(sorted(causes.items()))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS if counts.get(kind))


def counted(number: int, one: str, many: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {one if number == 1 else many}"


def shown(text: str) -> str:
    """A name out of a file system as it can be printed anywhere: control characters and odd bytes escaped."""
    return text if text.isprintable() else ascii(text)[1:-1]
