"""What an index does not have: a wheel that fits, or the project at all."""

from __future__ import annotations

from envforge.errors import UnsatisfiableError

__all__ = ["NoWheelError", "UnknownProjectError"]


class NoWheelError(UnsatisfiableError):
    """Of ``project`` in ``versions`` (a specifier) there is no wheel that fits."""

    def __init__(
        self, what: str, *, project: str, versions: str, at: str | None, do: str, story: str
    ) -> None:
        super().__init__(what, at=at, do=do, story=story)
        self.project = project
        self.versions = versions


class UnknownProjectError(UnsatisfiableError):
    """No index has ``projects``."""

    def __init__(self, what: str, *, projects: tuple[str, ...], at: str | None, do: str, story: str) -> None:
        super().__init__(what, at=at, do=do, story=story)
        self.projects = projects

    def add(self, more: UnknownProjectError) -> None:
        """Say what ``more`` says, too."""
        self.what = f"{self.what}; {more.what}"
        self.at = ", ".join(dict.fromkeys(at for at in (self.at, more.at) if at)) or None
        self.story = f"{self.story}\n\n{more.story}"
        self.projects = (*self.projects, *more.projects)
