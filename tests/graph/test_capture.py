"""Capture of a model's graph: a record of one call that tells the truth and leaves no trace."""

from __future__ import annotations

import contextlib
import gc
import inspect
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.graph.cases import (
    Around,
    AsksATensor,
    AsksAutograd,
    AsksTheMode,
    Branching,
    CoinToss,
    Doubled,
    OwnGenerator,
    Seeds,
    SetsAHook,
    SharedNumpy,
    UnderAutocast,
    Unheard,
    X,
    calls,
    hooked,
    leaves,
    parameter_hooked,
)
from torch import Tensor, nn

from convscope import count, create_model, trace
from convscope.errors import ArgumentError
from convscope.graph import boundaries
from convscope.graph.capture import capture, facts, find_module, record, source_model
from convscope.graph.heard import is_library
from convscope.graph.writer import Writer


def test_torch_layers_are_leaves_and_containers_are_not() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten())
    x = torch.randn(2, 1, 6, 5)
    graph = capture(model, x)
    assert leaves(graph) == ["0", "1.0", "1.1", "2"]
    assert find_module(graph, list(graph.graph.nodes)[1]) is model[0]
    assert find_module(graph, next(iter(graph.graph.nodes))) is None
    assert source_model(graph) is model
    assert capture(graph) is graph
    assert torch.equal(graph(x), model(x))


def test_own_layers_are_leaves() -> None:
    from convscope.layers import ScaledTanh, Subsample2d

    assert leaves(capture(nn.Sequential(Subsample2d(1), ScaledTanh()), torch.randn(1, 1, 4, 4))) == ["0", "1"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Branching, "its way depends on its data"),
        (CoinToss, "draws chance of its own"),
        (OwnGenerator, "draws chance of its own"),
        (SharedNumpy, "draws chance of its own"),
        (Seeds, "seeds torch's generator itself"),
        (Unheard, "uses a tensor that no recorded call made"),
        (SetsAHook, "sets a hook on a tensor|asks whether gradients are wanted"),
        (AsksAutograd, "calls autograd itself|changes what requires a gradient|asks whether gradients are wanted"),
        (AsksTheMode, "asks whether gradients are wanted"),
        (AsksATensor, "asks whether gradients are wanted"),
        (UnderAutocast, "computes under autocast"),
        (hooked, "it has forward hooks"),
        (parameter_hooked, "its parameter 'weight' has hooks"),
    ],
)
def test_what_cannot_be_told_is_the_innermost_module_around_it(make: Callable[[], nn.Module], reason: str) -> None:
    import re

    inner = make()
    graph = capture(Around(inner), X)
    assert leaves(graph) == ["first", "inner", "block.0", "block.1"]
    assert re.match(reason, facts(graph).opaque["inner"])
    assert leaves(capture(Around(Around(inner)), X)) == [
        "first", "inner.first", "inner.inner", "inner.block.0", "inner.block.1", "block.0", "block.1",
    ]  # fmt: skip


@pytest.mark.parametrize("make", [Branching, lambda: nn.Conv2d(3, 2, 3), lambda: nn.LSTM(3, 4), hooked])
def test_whole_model_as_one_leaf(make: Callable[[], nn.Module]) -> None:
    model = make()
    x = torch.randn(2, 5, 3) if isinstance(model, nn.LSTM) else X
    graph = capture(model, x)
    assert leaves(graph) == ["model"]
    assert find_module(graph, list(graph.graph.nodes)[-2]) is model
    assert source_model(graph) is model


def test_what_the_garbage_collector_calls_is_not_the_model_s() -> None:
    model, called = create_model("lenet5"), []

    def callback(phase: str, info: dict[str, int]) -> None:
        called.append(time.perf_counter())

    before = gc.get_threshold()
    gc.callbacks.append(callback)
    gc.set_threshold(1)
    try:
        graph = capture(model, torch.rand(2, 1, 28, 28))
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(callback)
    assert len(called) > 10
    assert not facts(graph).opaque
    assert callback.__code__ not in facts(graph).codes
    assert next(node.target for node in graph.graph.nodes if node.op == "call_module") != "model"


class Custom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = Doubled.apply(x + 1)  # type: ignore[no-untyped-call]
        return y.relu()


@pytest.mark.skipif(boundaries._FUNCTION_APPLY is None, reason="this torch's functions are no Python")
def test_custom_functions_are_steps_with_their_own_derivative() -> None:
    graph = capture(Custom(), X)
    assert calls(graph) == ["add", "doubled", "relu"]
    x = torch.ones(2, requires_grad=True)
    graph(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]


def test_what_holds_a_custom_function_is_one_step_where_torch_hides_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From torch 2.14 on ``apply`` is no Python."""
    monkeypatch.setattr(boundaries, "_FUNCTION_APPLY", None)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), Custom(), nn.Flatten())
    graph = capture(model, X)
    assert leaves(graph) == ["0", "1", "2"]
    x = X.clone().requires_grad_()
    graph(x).sum().backward()
    found, x.grad = x.grad, None
    model(x).sum().backward()
    assert found is not None
    assert x.grad is not None
    torch.testing.assert_close(found, x.grad, rtol=0, atol=0)


def test_torch_s_own_chance_is_drawn_anew() -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x + torch.randn(1), 0.5, self.training)

    model = Noise()
    state = torch.get_rng_state()
    graph = capture(model, X)
    assert torch.equal(torch.get_rng_state(), state)
    assert calls(graph) == ["randn", "add", "dropout"]
    torch.manual_seed(5)
    once, again = graph(X), graph(X)
    torch.manual_seed(5)
    assert torch.equal(model(X), once)
    assert not torch.equal(once, again)


def test_replaced_forwards_are_followed() -> None:
    def circular(self: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, bias)

    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    own = model.forward
    model.forward = lambda x: 3 * own(x)
    model[0]._conv_forward = types.MethodType(circular, model[0])
    graph = capture(model, X)
    assert calls(graph) == ["pad", "conv2d", "_1", "mul"]
    assert torch.equal(graph(X), model(X))


def test_parametrised_layers_are_looked_into() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.ReLU())
    graph = capture(model, X)
    assert calls(graph) == ["_weight_norm", "conv2d", "_1"]
    assert torch.equal(graph(X), model(X))


def test_choices_by_training_mode_are_those_at_capture() -> None:
    class Auxiliary(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x, x * 2) if self.training else x

    model = Auxiliary()
    assert isinstance(capture(model.train(), X)(X), tuple)
    assert isinstance(capture(model.eval(), X)(X), Tensor)


def test_loops_over_recurrent_cells_are_seen() -> None:
    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(x.size(0), 4)
            for step in x.unbind(1):
                h, c = self.cell(step, (h, c))
            return h

    model, x = Cells(), torch.randn(2, 3, 3)
    graph = capture(model, x)
    assert leaves(graph) == ["cell"] * 3
    assert torch.equal(graph(x), model(x))
    other = torch.randn(5, 3, 3)
    assert torch.equal(graph(other), model(other))


def test_derivatives_of_the_recorded_call_itself() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2))
    found: list[Any] = []

    def look(result: Tensor, given: list[Tensor]) -> None:
        found.append(torch.autograd.grad(result.sum(), [*given, *model.parameters()]))

    x = X.clone().requires_grad_()
    record(model, (x,), look=look)
    wanted = torch.autograd.grad(model(x).sum(), [x, *model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(found[0], wanted, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capture("lenet5"), r"model: got 'str', wanted a torch\.nn\.Module"),  # type: ignore[arg-type]
        (lambda: capture(nn.Sequential(nn.ReLU())), "input_shape: got None, wanted"),
        (lambda: capture(nn.Sequential(nn.ReLU()), X, X), r"inputs: got '2 in order', wanted those of forward\(input"),
        (lambda: capture(nn.Sequential(nn.ReLU()), X, y=1), "inputs: got '1 in order, y'"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


class TwiceAsMuch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Late(nn.Module):
    """A time limit ends in the midst of the model's own call."""

    def forward(self, x: Tensor) -> Tensor:
        raise TimeoutError("the caller's time is up")


@pytest.mark.parametrize("read", [lambda m: capture(m, X), lambda m: count(m, X.shape[1:]), lambda m: trace(m, X)])
def test_a_time_limit_says_nothing_of_the_model_s_input(read: Callable[[nn.Module], Any]) -> None:
    with pytest.raises(TimeoutError, match="the caller's time is up"):
        read(nn.Sequential(nn.Conv2d(3, 4, 3), Late()))


def test_a_time_limit_within_the_recording_is_no_opaque_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any) -> None:
        raise TimeoutError("the caller's time is up")

    monkeypatch.setattr(Writer, "step", late)
    with pytest.raises(TimeoutError, match="the caller's time is up"):
        capture(TwiceAsMuch(), X)


def test_whose_code_it_is() -> None:
    def file(of: Any) -> str:
        return str(inspect.getsourcefile(of))

    assert all(is_library(file(each)) for each in (torch.no_grad, nn.Conv2d, contextlib.suppress, capture))
    assert not any(is_library(file(each)) for each in (Around, pytest.raises, test_whose_code_it_is))


COMPILED = """
import sys, torch
from convscope import accelerate, count, trace
from torch import nn

calls = []

def backend(graph, inputs):
    calls.append(len(graph.graph.nodes))
    return graph.forward

def doubled(x):
    return x.sin() * 2

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head, self.compiled = nn.Conv2d(1, 4, 3), nn.Linear(144, 3), None
    def forward(self, x):
        function = torch.compile(doubled, backend=backend) if LATE else early
        return self.head(function(self.conv(x)).flatten(1))

LATE = sys.argv[1] == "late"
early = None if LATE else torch.compile(doubled, backend=backend)
torch.manual_seed(0)
net, x = Net().eval(), torch.randn(5, 1, 8, 8)
assert ("torch._dynamo" in sys.modules) is not LATE
traced = trace(net, x)
assert [layer.type for layer in traced.layers] == ["Conv2d", "sin", "mul", "flatten", "Linear"], traced
assert count(net, (1, 8, 8)).multiply_adds == 4 * 9 * 36 + 144 * 3
assert not calls
own = net(x)
assert calls  # the model's own calls are compiled as before
fast = accelerate(net)(x)
assert torch.allclose(traced.logits, own, atol=1e-6) and torch.allclose(fast, own, atol=1e-5)
"""


@pytest.mark.long
@pytest.mark.parametrize("when", ["early", "late"])
def test_compiled_functions_are_heard_as_they_are_written(when: str) -> None:
    """In a process of its own: the compiler, once imported, stays; "late" it is first asked for within the call."""
    done = subprocess.run([sys.executable, "-c", COMPILED, when], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
