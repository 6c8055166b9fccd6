"""Progress and messages, as an object that verbs are given.

A verb calls a :class:`Reporter`; the command line draws it, a test records it, and the default says
nothing.  Nothing below ``cli`` prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Progress", "Recorder", "Reporter", "human_size"]


class Reporter:
    """Hooks with no effect; subclass and override what is of use."""

    def step(self, text: str) -> None:
        """A stage of the work begins: one short line in the present tense."""

    def note(self, text: str) -> None:
        """Something that the user should know although the work goes on."""

    def detail(self, text: str) -> None:
        """Something for ``--verbose`` and for the log file only."""

    @contextmanager
    def task(self, text: str, total: int | None, unit: str = "bytes") -> Iterator[Progress]:  # noqa: ARG002
        """A piece of work whose progress is counted.

        :param text: what is being done.
        :param total: how much there is in all, in ``unit``; ``None`` if not known.
        :param unit: ``"bytes"`` or the plural of what is counted (``"files"``, ``"packages"``).
        """
        yield Progress()


class Progress:
    """What a running task is told; may be called from several threads."""

    def advance(self, amount: int) -> None:
        """``amount`` more of the unit is done."""


@dataclass
class Recorder(Reporter):
    """A reporter that remembers, for tests and for ``--json``."""

    steps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def step(self, text: str) -> None:
        self.steps.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)


def human_size(size: int) -> str:
    """A number of bytes for people: ``1.5 GB``; powers of ten, as disks and quotas are sold."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
