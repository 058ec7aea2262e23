"""Processes that each hold one function and apply it to what they are sent; results in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from scalegan.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers(AbstractContextManager["Workers[Task, Result]"], Generic[Task, Result]):
    """Spreads work over processes, which import the main module anew and end with this one.

    Each computes on one thread, also if there is but one: on more, sums are added up in another
    order, and the last bits of a result would depend on the number of cores.

    Args:
        make: makes the function, once per process; can be pickled.
        count: processes; 1 = this one alone.
    """

    def __init__(self, make: Callable[[], Callable[[Task], Result]], count: int) -> None:
        self.pool = None
        if count == 1:
            self.num_threads = _use_threads(1)
            self.function = make()
        else:
            context = multiprocessing.get_context("spawn")  # forks of threaded processes may hang
            self.pool = ProcessPoolExecutor(count, context, _start, (make,))
        # Two tasks a process keep all of them busy while a result is being used.
        self.ahead = 2 * count

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
        else:
            _use_threads(self.num_threads)

    def map(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Result]]:
        """Yield tasks with their results, in order; tasks are drawn a bounded number ahead.

        Raises:
            DataError: if a process was ended from outside.
        """
        if self.pool is None:
            for task in tasks:
                yield task, self.function(task)
            return
        pending: deque[tuple[Task, Future[Result]]] = deque()
        try:
            for task in tasks:
                pending.append((task, self.pool.submit(_apply, task)))
                if len(pending) > self.ahead:
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process ended early, by lack of memory or a crash in a decoder",
                "run the same command again with fewer --workers; complete shards are kept",
            ) from None


_functions: list[Callable[[Any], Any]] = []
"""In a worker process: its one function."""


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _use_threads(1)
    _functions.append(make())


def _use_threads(count: int) -> int:
    """Have PyTorch compute on so many threads; return how many there were before."""
    if "torch" not in sys.modules:  # importing it takes seconds, and nothing computes with it
        return count
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before


def _end_with_parent() -> None:
    """End this process when the one that feeds it was killed: nobody else would."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _apply(task: Any) -> Any:
    return _functions[0](task)
