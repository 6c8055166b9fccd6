"""Several pieces of work at once, in threads, that end together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from typing import TypeVar

from envforge.errors import CouldNotError

__all__ = ["Stop", "in_parallel"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stop:
    """Tells the pieces that run to end."""

    event: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """To be called again and again by a long piece.

        :raises CouldNotError: if it is to end.
        """
        if self.event.is_set():
            raise CouldNotError("stopped, because another download failed")


def in_parallel(
    tasks: Sequence[Callable[[], _T]], jobs: int, stop: Callable[[], None] = lambda: None
) -> list[_T]:
    """Run ``tasks`` in threads and return what they return, in their order.

    After the first failure, or Ctrl-C, no further one is begun and ``stop`` is called for those that run.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, jobs))
    futures: list[Future[_T]] = [pool.submit(task) for task in tasks]
    try:
        for future in as_completed(futures):
            future.result()
    except BaseException:
        stop()
        pool.shutdown(wait=False, cancel_futures=True)
        wait([future for future in futures if not future.cancelled()], timeout=5)
        raise
    pool.shutdown()
    return [future.result() for future in futures]
