"""Ctrl-C and SIGTERM while a job runs: raised at once in this process's work, noted while workers work."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Inside ``with``, the first SIGINT or SIGTERM is noted and ``heed`` raises it, a second one raises at once.

    Inside ``raised()`` every one raises at once: KeyboardInterrupt, or SystemExit with 143. Foreign code may swallow
    that (imports of Cython modules do), so it is noted too, for the next ``heed``. A training there has its own
    handlers. Outside the main thread, where Python allows no handlers, signals do what they did before.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._raising = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def heed(self) -> None:
        """Raise what was noted."""
        if self._noted is not None:
            _raise(self._noted)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        self.heed()
        self._raising = True
        try:
            yield
            self.heed()
        finally:
            self._raising = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self._noted = self._noted is not None, number
        if self._raising or again:
            _raise(number)


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
