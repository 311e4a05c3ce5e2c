"""Edits of a model and the way back; long jobs that give way to short ones."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest
import torch
from torch import nn

from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.surgery import Surgeon
from convscope.explorer.worker import Worker
from convscope.inspect.attribution import StoppedError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 2, 2), nn.ReLU())


def test_each_edit_and_the_way_back() -> None:
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    surgeon = Surgeon(model)
    kernel: Any = model.get_parameter("0.weight").detach()
    assert surgeon.change("0", "weight", (1, 0, 2, 2), 0.5).text == "0.weight[1, 0, 2, 2] = 0.5"
    assert float(kernel[1, 0, 2, 2]) == 0.5
    surgeon.change("0", "weight", (1, 0), -1, scale=True)
    assert float(kernel[1, 0, 2, 2]) == -0.5
    torch.testing.assert_close(kernel[1, 0, :2], -before["0.weight"][1, 0, :2])
    surgeon.silence("0", 1)
    surgeon.silence("1", 2)
    y = model.eval()[:2](torch.randn(1, 2, 5, 5))
    assert not y[0, 2].any()
    assert not kernel[1].any()
    assert all(torch.equal(value, before[name]) for name, value in surgeon.originals().items())
    assert set(surgeon.originals()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    while surgeon.edits:
        surgeon.undo()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_edits_that_cannot_be() -> None:
    surgeon = Surgeon(net())
    with pytest.raises(UnknownNameError, match="parameter: got '0.kernel'"):
        surgeon.change("0", "kernel", (0,), 1)
    with pytest.raises(ArgumentError, match=r"index: got \[3\], wanted a place within \(3, 2, 3, 3\)"):
        surgeon.change("0", "weight", (3,), 1)
    with pytest.raises(ArgumentError, match="wanted one whose weight lists the output maps first"):
        surgeon.silence("2", 0)
    with pytest.raises(ArgumentError, match="wanted a layer with weights of its own"):
        surgeon.silence("3", 0)
    with pytest.raises(ArgumentError, match="wanted an edit to take back"):
        surgeon.undo()
    assert surgeon.edits == []


def test_a_long_job_gives_way_and_one_that_waits_does_too() -> None:
    stop, begun = threading.Event(), threading.Event()
    order: list[str] = []

    def long(name: str) -> str:
        begun.set()
        if not stop.wait(20):
            return f"{name} ended"
        raise StoppedError("cancelled")

    def short() -> str:
        order.append("short")
        return "done"

    async def run() -> None:
        worker = Worker(stop.set, stop.clear)
        first = asyncio.create_task(worker.job(lambda: long("first"), 1, "evidence", True, gives_way=True))
        await asyncio.to_thread(begun.wait)
        waiting = asyncio.create_task(worker.job(lambda: long("second"), 1, "checks", True, gives_way=True))
        await asyncio.sleep(0)
        assert await worker.job(short, 1, "show", True) == "done"
        for each in (first, waiting):
            with pytest.raises(StoppedError):
                await each
        worker.close()

    with concurrent.futures.ThreadPoolExecutor(1) as aside:  # a browser's test may have left a loop in this thread
        aside.submit(asyncio.run, run()).result()
    assert order == ["short"]
