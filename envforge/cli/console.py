"""What people see: progress on a terminal, quiet in a log, results on stdout."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from envforge.cli.options import together
from envforge.reporting import Progress, Reporter, human_size

__all__ = [
    "Console",
    "diary",
    "human_size",
    "output_options",
    "print_result",
    "read_text",
    "write_atomically",
]

_LONGEST_DIARY = 10_000
_diary: list[str] = []
"""What was said by this process, and what was not said for want of a terminal; for the log of a failure."""


@dataclass(frozen=True)
class Console(Reporter):
    """The command line's reporter: steps on a terminal or with ``--verbose``, notes unless ``--quiet``."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    noted: set[str] = field(default_factory=set, compare=False)
    """Notes so far: what holds for several platforms is said once."""

    @property
    def _lively(self) -> bool:
        return not self.quiet and (self.verbose or sys.stderr.isatty())

    def step(self, text: str) -> None:
        _write_down(text)
        if self._lively:
            click.echo(f"  {text}", err=True)

    def note(self, text: str) -> None:
        _write_down(f"note: {text}")
        if not self.quiet and text not in self.noted:
            self.noted.add(text)
            click.echo(f"note: {text}", err=True)

    def detail(self, text: str) -> None:
        _write_down(text)
        if self.verbose:
            click.echo(f"  {text}", err=True)

    @contextmanager
    def task(self, text: str, total: int | None, unit: str = "bytes") -> Iterator[Progress]:
        if self.quiet or not sys.stderr.isatty():
            yield Progress()
            return
        try:
            bar = _bar(text, total, unit)
        except ModuleNotFoundError:  # a bundle's runtime has no rich
            yield Progress()
            return
        with bar as progress:
            yield progress


def _write_down(text: str) -> None:
    if len(_diary) < _LONGEST_DIARY:
        _diary.append(f"{time.strftime('%H:%M:%S')} {text}")


def diary() -> tuple[str, ...]:
    """Every step, note and detail so far, with its time."""
    return tuple(_diary)


def _bar(text: str, total: int | None, unit: str) -> AbstractContextManager[Progress]:
    """A progress bar.

    :raises ModuleNotFoundError: where there is nothing to draw one with.
    """
    from rich.console import Console as Screen
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    counted = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("  {task.description}"), BarColumn(), counted, TimeRemainingColumn())
    bars = Bars(*columns, console=Screen(stderr=True), transient=True)

    @contextmanager
    def drawn() -> Iterator[Progress]:
        with bars:
            task = bars.add_task(text, total=total)

            class Drawn(Progress):
                def advance(self, amount: int) -> None:
                    bars.update(task, advance=amount)

            yield Drawn()

    return drawn()


output_options = together(
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors."),
    click.option("-v", "--verbose", is_flag=True, help="Say each step, also without a terminal."),
)
"""The options that every subcommand takes."""


def print_result(console: Console, lines: Iterable[str], document: Mapping[str, Any]) -> None:
    """Print the result on stdout: as JSON with ``--json``, else as lines."""
    if console.json:
        click.echo(json.dumps(document, indent=2))  # ASCII: a file name need not be UTF-8
        return
    for line in lines:
        click.echo(line)


def read_text(path: Path, *, limit: int = 100_000_000) -> str:
    """A text file that the user named.

    :raises InputError: if it does not exist, is no text, or is larger than ``limit`` bytes.
    """
    from envforge.errors import InputError

    try:
        if path.is_dir():
            raise InputError("a directory where a file is needed", at=str(path), do="name a file")
        if path.stat().st_size > limit:
            raise InputError(f"larger than {human_size(limit)}", at=str(path), do="name the right file")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise InputError("no such file", at=str(path), do="check the path, or name another") from error
    except UnicodeDecodeError as error:
        raise InputError("not a text file (UTF-8)", at=str(path), do="name the right file") from error
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", at=str(path), do=f"ls -l {shlex.quote(str(path))}"
        ) from error


def write_atomically(path: Path, text: str) -> None:
    """Write beside and rename: ``path`` is the old file or the new one, never half of one."""
    import os

    from envforge.errors import CouldNotError

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise CouldNotError(
            f"cannot write: {error.strerror or error}", at=str(path), do="name another place: -o FILE"
        ) from error
    finally:
        beside.unlink(missing_ok=True)
