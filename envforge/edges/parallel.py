"""Several pieces of work at once, in threads, that end together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

__all__ = ["in_parallel"]

_T = TypeVar("_T")


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
