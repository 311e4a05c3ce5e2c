"""Ctrl-C, SIGTERM and SIGHUP as a wish that the loop grants after the batch under way."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from convscope.errors import LostProcessError


class StopSignals:
    """Inside ``with``, the first SIGINT, SIGTERM or SIGHUP (the terminal was closed) is noted in ``received``; a second
    SIGINT interrupts at once.

    A SIGHUP that was to be ignored stays so: ``nohup`` wants the run to go on. Where another process of the job was
    lost, SIGTERM ends nothing after ``with`` either: torchrun sends it to those that are left, and they end by
    themselves once the error is said. Outside the main thread, where Python allows no handlers, signals do what they
    did before.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if number != signal.SIGTERM or not isinstance(problem, LostProcessError):
                signal.signal(number, handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
