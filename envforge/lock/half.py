"""What came out of the PyPI half: a noun, so that who has no such half need not load what makes it."""

from __future__ import annotations

from dataclasses import dataclass

from envforge.model.built import BuiltWheel
from envforge.model.lockfile import LockedPackage
from envforge.model.python import python_key

__all__ = ["Half"]


@dataclass(frozen=True, kw_only=True)
class Half:
    """What came out: rows, what conda met of what they need, and the wheels that were built.

    ``python`` is the version that was said, where no conda package brings one; ``torch`` the one of PyTorch's
    indexes that torch was taken from.
    """

    rows: tuple[LockedPackage, ...] = ()
    met: str = ""
    built: tuple[BuiltWheel, ...] = ()
    python: str | None = None
    torch: str | None = None

    def custom(self, platform: str) -> dict[str, str]:
        """What the lockfile is to say beside the rows."""
        said = {python_key(platform): self.python, f"envforge.torch.{platform}": self.torch}
        return {key: value for key, value in said.items() if value}
