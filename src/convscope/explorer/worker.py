"""Two lanes of work: jobs that run the network, one at a time, and answers that are read from what is there.

A job that is still waiting is dropped when a newer one of the same kind from the same window arrives: the latest input
wins. A long one gives way: it is cancelled when a short one arrives. Answers never wait for a job.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from convscope.errors import ConvscopeError
from convscope.inspect.attribution import StoppedError

T = TypeVar("T")
MOST_WAITING = 64


class SupersededError(ConvscopeError):
    """A newer request of the same kind came before this one was begun."""

    def __init__(self) -> None:
        super().__init__("superseded by a newer request")


class BusyError(ConvscopeError):
    """Too many requests wait already."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_WAITING} requests are waiting; this one was dropped")


class Worker:
    """The lanes of one session. ``close`` waits for what is running."""

    def __init__(self, cancel: Callable[[], None], resume: Callable[[], None]) -> None:
        self._jobs = ThreadPoolExecutor(1, "explorer-job")
        self._answers = ThreadPoolExecutor(2, "explorer-answer")
        self._newest: dict[tuple[int, str], int] = {}
        self._ended: dict[int, int] = {}  # window → the newest job that it had asked for when it cancelled
        self._count = 0
        self._waiting = 0
        self._short: set[int] = set()  # numbers of jobs that do not give way and wait for their turn
        self._long_runs = False
        self._lock = threading.Lock()
        self._cancel, self._resume = cancel, resume

    async def answer(self, work: Callable[[], T]) -> T:
        with self._entered():
            return await asyncio.get_running_loop().run_in_executor(self._answers, work)

    async def job(
        self,
        work: Callable[[], T],
        window: int,
        kind: str,
        latest: bool,
        gives_way: bool = False,
        waits: bool = False,
    ) -> T:
        """Run in turn. With ``latest``, raises SupersededError when a newer one of its kind came meanwhile; with
        ``gives_way`` StoppedError when a short one did, unless that ``waits`` for its turn."""
        with self._lock:
            self._count += 1
            number = self._count
            self._newest[window, kind] = number
            if not (gives_way or waits):
                self._short.add(number)
                if self._long_runs:
                    self._cancel()

        def run() -> T:
            with self._lock:
                self._short.discard(number)
                if latest and self._newest.get((window, kind)) != number:
                    raise SupersededError
                if gives_way and number <= self._ended.get(window, 0):
                    raise StoppedError("cancelled before its turn")
                if gives_way and self._short:
                    raise StoppedError("gave way to another request")
                self._resume()
                self._long_runs = gives_way
            try:
                return work()
            finally:
                self._long_runs = False

        try:
            with self._entered():
                return await asyncio.get_running_loop().run_in_executor(self._jobs, run)
        finally:
            self._short.discard(number)  # of a page that went away before its turn

    def cancel(self, window: int) -> None:
        """Ask the running job to stop, and leave out the long ones of ``window`` that still wait for their turn."""
        with self._lock:
            self._ended[window] = self._count
            self._cancel()

    def close(self) -> None:
        self._cancel()
        self._jobs.shutdown(wait=True, cancel_futures=True)
        self._answers.shutdown(wait=True, cancel_futures=True)

    def _entered(self) -> _Place:
        return _Place(self)


class _Place:
    """A place in the queue, given back on the way out."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def __enter__(self) -> None:
        with self._worker._lock:
            if self._worker._waiting >= MOST_WAITING * 4:
                raise BusyError
            self._worker._waiting += 1

    def __exit__(self, *exc: object) -> None:
        with self._worker._lock:
            self._worker._waiting -= 1
