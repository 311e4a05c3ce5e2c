from __future__ import annotations

import asyncio
import threading

import pytest

from convscope.explorer.worker import Worker
from convscope.inspect.attribution import StoppedError


def test_a_long_job_is_cancelled_before_its_turn_too() -> None:
    """What a window cancels may still be waiting, for another's job or for the thread that runs it."""
    cancelled, gate = threading.Event(), threading.Event()

    async def asked() -> None:
        worker = Worker(cancelled.set, cancelled.clear)
        begun = asyncio.create_task(worker.job(lambda: gate.wait(30), 1, "short", False))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(worker.job(lambda: "never", 1, "long", False, gives_way=True))
        others = asyncio.create_task(worker.job(lambda: cancelled.is_set(), 2, "long", False, gives_way=True))
        await asyncio.sleep(0)
        worker.cancel(1)
        later = asyncio.create_task(worker.job(lambda: cancelled.is_set(), 1, "long", False, gives_way=True))
        await asyncio.sleep(0)
        gate.set()
        assert await begun
        with pytest.raises(StoppedError, match="cancelled before its turn"):
            await waiting
        assert await others is False
        assert await later is False
        worker.close()

    asyncio.run(asked())


def test_the_running_one_is_told() -> None:
    cancelled, begun = threading.Event(), threading.Event()

    def long() -> bool:
        begun.set()
        return cancelled.wait(30)

    async def asked() -> None:
        worker = Worker(cancelled.set, cancelled.clear)
        running = asyncio.create_task(worker.job(long, 1, "long", False, gives_way=True))
        await asyncio.to_thread(begun.wait, 30)
        worker.cancel(2)
        assert await running
        worker.close()

    asyncio.run(asked())


def test_one_that_waits_cancels_no_long_one() -> None:
    cancelled, begun, gate = threading.Event(), threading.Event(), threading.Event()

    def long() -> bool:
        begun.set()
        gate.wait(30)
        return cancelled.is_set()

    async def asked() -> None:
        worker = Worker(cancelled.set, cancelled.clear)
        running = asyncio.create_task(worker.job(long, 1, "long", False, gives_way=True))
        await asyncio.to_thread(begun.wait, 30)
        looking = asyncio.create_task(worker.job(lambda: "seen", 1, "look", False, waits=True))
        await asyncio.sleep(0)
        gate.set()
        assert await running is False
        assert await looking == "seen"
        worker.close()

    asyncio.run(asked())
