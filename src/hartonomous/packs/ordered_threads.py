"""Threads that work on items one behind the other and give results back in their order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from hartonomous.core.closing import Closing

T = TypeVar("T")
R = TypeVar("R")


class OrderedThreads(Closing):
    """A ``map`` whose calls run in ``workers`` threads; use it as a context manager.

    Items are taken in the thread that asks for results, one more ahead than there are threads, so
    that memory is bounded. What a call raises is raised where its result is taken.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, name)
        self._most = workers + 1

    def __call__(self, work: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """Yield ``work(item)`` of each item, in their order."""
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(work, item))
                if len(waiting) == self._most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()

    def close(self) -> None:
        """Wait for the calls that run, and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)
