"""The vocabulary of trouble.

::

    EnvforgeError
    ├── AnswerNo        1   the question has an answer, and it is no
    │   └── UnsatisfiableError   nothing satisfies the specification
    ├── InputError      2   wrong usage, or a file that cannot be used as it is
    ├── CouldNotError   3   network, disk, permission, a missing tool
    └── BusyError      75   somebody else is at it: try again

Every exception that leaves envforge's own code is one of these.  It says *what* went wrong, *where*
(``file:line``, ``packages[3].hash``, a URL) and *what helps*, each in one line; it never prints and
never exits: ``envforge.cli`` does both.
"""

from __future__ import annotations

__all__ = [
    "AnswerNo",
    "BusyError",
    "CouldNotError",
    "EnvforgeError",
    "InputError",
    "UnsatisfiableError",
]


class EnvforgeError(Exception):
    """Root of everything that envforge raises on purpose.

    :param what: what went wrong, one sentence without a full stop.
    :param at: where: ``file:line``, a key path such as ``package[3].hash``, a URL without secrets.
    :param do: what helps, best as a line to paste.
    :param story: the long version (a solver's explanation, a tool's output); goes to the log file.
    """

    exit_code = 3

    def __init__(
        self, what: str, *, at: str | None = None, do: str | None = None, story: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.do = do
        self.story = story

    def inside(self, outer: str) -> EnvforgeError:
        """Prefix the location with where the part was found: ``hash`` becomes ``package[3].hash``."""
        self.at = outer if not self.at else f"{outer}{'' if self.at.startswith('[') else ': '}{self.at}"
        return self

    def __str__(self) -> str:
        return self.what if not self.at else f"{self.what} (at {self.at})"


class AnswerNo(EnvforgeError):
    """The answer is no: a check that does not hold."""

    exit_code = 1


class UnsatisfiableError(AnswerNo):
    """Nothing satisfies the specification."""


class InputError(EnvforgeError):
    """Wrong usage, or input that cannot be used as it is."""

    exit_code = 2


class CouldNotError(EnvforgeError):
    """The world refused: network, disk, permission, a missing tool."""

    exit_code = 3


class BusyError(EnvforgeError):
    """Somebody else is at it; the same command may work in a moment."""

    exit_code = 75
