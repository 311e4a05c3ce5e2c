"""Capturing changes nothing: neither the model nor chance nor other threads."""

from __future__ import annotations

import collections
import random
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.graph.cases import (
    Around,
    CoinToss,
    OwnGenerator,
    X,
    leaves,
)
from torch import Tensor, nn

from convscope.graph.capture import capture, facts


class Remembers(nn.Module):
    """Keeps things of its calls wherever a module can."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None
        self.seen: list[Any] = []
        self.count = collections.Counter({"calls": 0})
        self.state = types.SimpleNamespace(total=0, queue=collections.deque([1]))
        self.scale = torch.full((3, 1, 1), 2.0)  # no buffer

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        self.seen.append(x)
        self.count["calls"] += 1
        self.state.total += 1
        self.state.queue.append(2)
        return F.relu(x) * self.scale


def test_capture_leaves_model_and_chance_as_they_were() -> None:
    model = Around(nn.Sequential(Remembers(), CoinToss(), OwnGenerator(), nn.BatchNorm2d(3)))
    state, coin, numbers = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=True)
    remembers, own = model.get_submodule("inner.0"), model.get_submodule("inner.2")
    assert isinstance(remembers, Remembers)
    assert isinstance(own, OwnGenerator)
    drawn = own.chance.bit_generator.state
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [list(vars(module)) for module in model.modules()]
    x = X.clone()
    graph = capture(model, x)
    assert (remembers.last, remembers.seen, remembers.count["calls"]) == (None, [], 0)
    assert (remembers.state.total, list(remembers.state.queue)) == (0, [1])
    assert [list(vars(module)) for module in model.modules()] == attributes
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == coin
    assert str(np.random.get_state(legacy=True)) == str(numbers)
    assert own.chance.bit_generator.state == drawn
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(x, X)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert set(facts(graph).changes) == {
        "inner.0.last", "inner.0.seen", "inner.0.count.calls", "inner.0.state.total", "inner.0.state.queue",
    }  # fmt: skip


def test_in_inference_mode_and_without_gradients() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.inference_mode():
        graph = capture(model, X.clone())
    with torch.no_grad():
        capture(model, X)
    graph(X).sum().backward()
    assert model[0].weight.grad is not None


def test_other_threads_notice_nothing_and_captures_may_meet() -> None:
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    shared: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Remembers(), nn.Flatten())
    shared[2].scale = torch.ones(4, 1, 1)
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    wanted, problems, stop = other(X), [], threading.Event()

    def work() -> None:
        while not stop.is_set():
            if not torch.equal(other(X), wanted):
                problems.append("another result")

    def take() -> None:
        for _ in range(5):
            graph = capture(shared, X)
            if leaves(graph) != ["0", "1", "3"]:
                problems.append(str(leaves(graph)))

    def guarded(function: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                function()
            except Exception as error:
                problems.append(repr(error))

        return run

    worker = threading.Thread(target=guarded(work))
    takers = [threading.Thread(target=guarded(take)) for _ in range(3)]
    for thread in (worker, *takers):
        thread.start()
    for thread in takers:
        thread.join()
    stop.set()
    worker.join()
    assert problems == []
    assert shared[2].seen == []
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())


def test_a_profiler_at_work_is_put_back() -> None:
    import cProfile
    import sys

    events: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        events.append(event)

    sys.setprofile(note)
    try:
        capture(nn.Sequential(nn.ReLU()), X)
        assert sys.getprofile() is note
    finally:
        sys.setprofile(None)
    assert events
    profile = cProfile.Profile()
    profile.enable()
    capture(nn.Sequential(nn.ReLU()), X)
    profile.disable()


def test_what_the_model_raises_comes_out_and_nothing_stays_changed() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.calls = nn.BatchNorm2d(3), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.norm(x)
            raise KeyError("mine")

    model = Fails()
    with pytest.raises(KeyError, match="mine"):
        capture(model, X)
    assert model.calls == 0
    assert int(model.norm.num_batches_tracked or 0) == 0
