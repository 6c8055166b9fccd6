"""Columns for people."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence

__all__ = ["aligned", "cut", "width"]


def aligned(cells: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """Lines of columns as wide as they need to be, two blanks apart; one that is all empty is left out.

    :param right: the columns that are set flush right.
    """
    if not cells:
        return
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    kept = [column for column, width in enumerate(widths) if width]
    for line in cells:
        words = [
            line[column].rjust(widths[column]) if column in right else line[column].ljust(widths[column])
            for column in kept
        ]
        yield "  ".join(words).rstrip()


def width() -> int | None:
    """The columns of the terminal on stdout, or ``COLUMNS``; ``None`` where a line may have any length."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdigit():
        return None
    return shutil.get_terminal_size().columns


def cut(line: str, columns: int | None) -> str:
    """``line``, its end replaced by ``…`` where it has more than ``columns``."""
    return line if columns is None or len(line) <= columns else line[: max(0, columns - 1)] + "…"
