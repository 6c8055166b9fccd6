"""Python's garbage collector, out of the way while a large file is read or written.

A lockfile becomes some 100,000 small objects, none of them garbage and none in a cycle; looking through them
again and again takes as long as making them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """A block, or as a decorator a function, in which no cycles are looked for."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
