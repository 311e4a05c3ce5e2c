"""What only the compiled engine can show: instruction sets, threads, repeatability, errors, memory, interrupts."""

from __future__ import annotations

import importlib.util
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.native import cases
from tests.native.comparing import ONE_LAYER, WHOLE_NETWORK, check, check_step, pictures, randomised
from torch import nn

from convscope import create_model
from convscope.models import MODELS
from convscope.native import NativeNetwork, accelerate, availability
from convscope.spec import spec_of

pytestmark = [
    pytest.mark.skipif(not availability.available(), reason=f"not built: {availability.problem()}"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning"),
]

ISAS = ("avx512", "avx2", "portable")
SIX = ("lenet5", "lenet5_1998", "mcdnn_column", "slides_cifar10", "slides_stl10")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    engine = availability.engine()
    if request.param not in engine.isas():
        pytest.skip(f"this processor has no {request.param}")
    before = engine.isa()
    engine.set_isa(request.param)
    yield request.param
    engine.set_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", cases.ALL)
def test_every_operator_on_every_instruction_set(name: str, isa: str) -> None:
    make, shape = cases.ALL[name]
    tolerance = WHOLE_NETWORK if "residual" in name or "chain" in name else ONE_LAYER
    check(randomised(make()).train(), pictures(19, shape), tolerance)


@pytest.mark.parametrize("name", SIX)
def test_whole_networks(name: str, isa: str) -> None:
    model = create_model(name)
    described = spec_of(model)
    assert described is not None
    channels, height, width = described.input_shape
    card = MODELS[name].card
    for count in (1, 17) if height > 50 else (1, 15, 16, 17, 33, 64):
        x, targets = pictures(count, (channels, height, width)), torch.arange(count) % card.classes
        check_step(model, card.loss, x, targets, WHOLE_NETWORK)


@pytest.mark.parametrize("name", ["conv everything", "residual", "batch norm chain", "inception", "linear wide"])
@pytest.mark.parametrize("count", [1, 16, 33, 64])
def test_threads(name: str, count: int, threads: int) -> None:
    make, shape = cases.ALL[name]
    count = max(count, 2) if "norm" in name or name == "residual" else count
    check(randomised(make()).train(), pictures(count, shape), WHOLE_NETWORK)


def test_runs_repeat_bit_for_bit(threads: int, isa: str) -> None:
    def run() -> tuple[list[float], torch.Tensor]:
        model = randomised(nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.4),
            nn.Linear(96, 10),
        ))  # fmt: skip
        network = NativeNetwork(model, (3, 8, 10), "cross_entropy")
        flat = network.memory.flat
        losses = []
        for step in range(5):
            loss, _ = network.loss_and_grad(pictures(77, (3, 8, 10), step), torch.arange(77) % 10, seed=3, step=step)
            flat.values.add_(flat.gradients, alpha=-0.05)
            losses.append(loss)
        return losses, torch.cat([each.flatten().double() for each in model.state_dict().values()])

    first, again = run(), run()
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])


def test_dropout_does_not_depend_on_threads_or_instruction_set(isa: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout(0.5))
    x = pictures(40, (1, 5, 6))
    network = NativeNetwork(model.train(), (1, 5, 6))
    results = []
    for count in (1, 2, 3):
        network.threads = count
        results.append(network.forward(x, seed=9, step=4) != 0)
    engine = availability.engine()
    engine.set_isa(engine.isas()[0])
    other = NativeNetwork(model, (1, 5, 6)).forward(x, seed=9, step=4) != 0
    assert all(torch.equal(each, other) for each in results)
    assert not torch.equal(network.forward(x, seed=9, step=5) != 0, other)
    assert not torch.equal(network.forward(x, seed=10, step=4) != 0, other)


def network_of(records: list[dict[str, Any]], **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "input_shape": (1, 6, 6), "records": records, "outputs": [1], "parameter_count": 0, "state_count": 0, **changes,
    }  # fmt: skip
    return availability.engine().Network(**arguments)


RELU: dict[str, Any] = {"kind": "relu", "name": "act", "inputs": [0], "output": 1}
CONV: dict[str, Any] = {
    "kind": "conv2d", "name": "c1", "inputs": [0], "output": 1, "parameters": {"weight": 0},
    "attributes": {"out_channels": 2, "kernel_size": [3, 3]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("records", "changes", "message"),
    [
        ([{**RELU, "kind": "wobble"}], {}, "^act"),
        ([{**RELU, "attributes": {"slop": 1}}], {}, "^act"),
        ([{**RELU, "inputs": [5]}], {}, "^act"),
        ([{**RELU, "inputs": []}], {}, "^act"),
        ([{**RELU, "inputs": [0, 0]}], {}, "^act"),
        ([RELU, {**RELU, "name": "again"}], {}, "^again"),
        ([RELU], {"outputs": [4]}, "4"),
        ([{**CONV, "attributes": {"kernel_size": [3, 3]}}], {"parameter_count": 18}, "^c1"),
        ([{**CONV, "attributes": {"out_channels": 2, "kernel_size": [7, 7]}}], {"parameter_count": 98}, "^c1"),
        ([{**CONV, "attributes": {**CONV["attributes"], "stride": [0, 1]}}], {"parameter_count": 18}, "^c1"),
        ([{**CONV, "attributes": {**CONV["attributes"], "groups": 2}}], {"parameter_count": 18}, "^c1"),
        ([CONV], {"parameter_count": 17}, "^c1"),
        ([{**CONV, "parameters": {}}], {"parameter_count": 18}, "^c1"),
        ([{**CONV, "parameters": {"weight": -1}}], {"parameter_count": 18}, "c1"),
        ([{**CONV, "attributes": {**CONV["attributes"], "table": [[0], [3]]}}], {"parameter_count": 18}, "^c1"),
        ([RELU], {"input_shape": (1, 0, 6)}, "input"),
    ],
)
def test_impossible_plans_are_refused(records: list[dict[str, Any]], changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError), match=message):
        network_of(records, **changes)


@pytest.mark.parametrize("bad", [-1, 10, 2**40])
def test_targets_out_of_range(bad: int) -> None:
    network = NativeNetwork(create_model("lenet5"), (1, 28, 28), "cross_entropy")
    targets = torch.zeros(20, dtype=torch.int64)
    targets[17] = bad
    with pytest.raises(ValueError, match="target"):
        network.loss_and_grad(pictures(20, (1, 28, 28)), targets)
    targets[17] = 9
    assert network.loss_and_grad(pictures(20, (1, 28, 28)), targets)[0] > 0


def test_too_much_memory_is_an_exception() -> None:
    huge = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1))
    with pytest.raises((MemoryError, RuntimeError)):
        NativeNetwork(huge, (1, 2**21, 2**21)).forward(torch.empty(1).expand(2, 1, 2**21, 2**21))


def test_interrupting_a_step_leaves_a_consistent_model() -> None:
    model = create_model("slides_stl10")
    network = NativeNetwork(model, (3, 96, 96), "cross_entropy")
    flat = network.memory.flat
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, targets = pictures(64, (3, 96, 96)), torch.arange(64) % 4
    before = flat.values.clone()
    steps = 0
    timer = threading.Timer(0.4, lambda: signal.raise_signal(signal.SIGINT))

    def train() -> None:
        nonlocal steps
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            network.loss_and_grad(x, targets)
            optimiser.step()
            steps += 1
            if steps == 1:  # on a loaded machine it may take longer than the timer
                timer.start()

    # A shell that starts the tests in the background has them ignore SIGINT; here it has to arrive.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, handler)
    assert steps > 0
    assert flat.values_intact()
    assert torch.isfinite(flat.values).all()
    assert not torch.equal(flat.values, before)
    loss, _ = network.loss_and_grad(x, targets)
    check(model, x[:5], WHOLE_NETWORK)
    assert loss == loss


def test_two_threads_may_use_one_network() -> None:
    model = create_model("lenet5", activation="relu", pool="max").eval()
    network = NativeNetwork(model, (1, 28, 28))
    x = pictures(64, (1, 28, 28))
    wanted = network.forward(x)
    results: list[bool] = []

    def use() -> None:
        results.extend(torch.equal(network.forward(x), wanted) for _ in range(20))

    workers = [threading.Thread(target=use) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [True] * 60


def test_memory_does_not_grow_with_the_batch() -> None:
    network = NativeNetwork(create_model("lenet5"), (1, 28, 28), "cross_entropy", threads=2)
    network.loss_and_grad(pictures(64, (1, 28, 28)), torch.zeros(64, dtype=torch.int64))
    small = network.memory_bytes()
    network.loss_and_grad(pictures(2048, (1, 28, 28)), torch.zeros(2048, dtype=torch.int64))
    assert network.memory_bytes() <= 1.01 * small


def test_it_describes_what_is_fused() -> None:
    network = NativeNetwork(create_model("lenet5", activation="relu", pool="max"), (1, 28, 28), "cross_entropy")
    lines = network.describe().splitlines()
    assert any("c1" in line and "s2" in line for line in lines) or len(lines) < len(network.plan.records)


def _soak() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    description = importlib.util.spec_from_file_location("soak", path)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module


@pytest.mark.long
def test_a_short_soak_does_not_grow() -> None:
    found = _soak().soak(8.0)
    assert found["rounds"] >= 8
    # a leak of one network a round would be about a megabyte each
    assert found["growth_mb"] < 40


def test_accelerated_modules_are_given_back() -> None:
    import gc
    import weakref

    fast = accelerate(create_model("lenet5"))
    fast(pictures(3, (1, 28, 28))).sum().backward()
    watch = weakref.ref(fast.model)
    del fast
    gc.collect()
    assert watch() is None
