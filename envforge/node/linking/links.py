"""Symbolic links that packages bring, and whether anything could be written through one to somewhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

__all__ = ["escaping_link"]

_DEEPEST = 40  # links followed for one path, as in the kernel

Links = Mapping[tuple[str, ...], Sequence[str]]


def escaping_link(path: str, links: Links) -> str | None:
    """The link through which ``path``, taken as a place to write to, may lie outside the root.

    :param path: relative to the root.
    :param links: the text of every link by the parts of its path; several where packages do not agree, and
        then each is followed, because who wins is not known here.
    """
    parts = PurePosixPath(path).parts[:-1]
    for end in range(1, len(parts) + 1):
        if parts[:end] in links and _leaves(parts, links, 0):
            return "/".join(parts[:end])
    return None


def _leaves(parts: tuple[str, ...], links: Links, followed: int) -> bool:
    here: tuple[str, ...] = ()
    for at, part in enumerate(parts):
        if part == "..":
            if not here:
                return True
            here = here[:-1]
            continue
        here = (*here, part)
        if here in links:
            rest = parts[at + 1 :]
            return followed >= _DEEPEST or any(
                _goes_out(text, here[:-1], rest, links, followed + 1) for text in links[here]
            )
    return False


def _goes_out(text: str, base: tuple[str, ...], rest: tuple[str, ...], links: Links, followed: int) -> bool:
    target = PurePosixPath(text)
    return target.is_absolute() or _leaves((*base, *target.parts, *rest), links, followed)
