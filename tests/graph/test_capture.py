"""Capture of a model's graph: a record of one call that tells the truth and leaves no trace."""

from __future__ import annotations

import collections
import dataclasses
import random
import threading
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError
from convscope.graph.capture import capture, facts, find_module, record, source_model
from convscope.graph.sizes import SizesChangedError


def leaves(graph: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]


def calls(graph: fx.GraphModule) -> list[str]:
    return [node.name for node in graph.graph.nodes if node.op.startswith("call")]


class Branching(nn.Module):
    """Goes a way that depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else x


class CoinToss(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if random.random() < 0.5 else x


class OwnGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.chance = np.random.default_rng(3)

    def forward(self, x: Tensor) -> Tensor:
        return x * float(self.chance.random())


class SharedNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.rand())


class Seeds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return x + torch.randn(1)


class Doubled(torch.autograd.Function):
    """Doubles, and says that it triples."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> Tensor:
        return delta * 3


class Unheard(nn.Module):
    """Makes a tensor that torch does not tell of."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(np.ones(1, np.float32))


class SetsAHook(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        if y.requires_grad:
            y.register_hook(lambda delta: delta * 5)  # type: ignore[no-untyped-call]
        return y


class AsksAutograd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            given = x if x.requires_grad else x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.energy(given).square().sum(), given, create_graph=True)
        return force


class UnderAutocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.conv(x)
        return y.float()


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.inner = inner
        self.block = nn.Sequential(nn.ReLU(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.inner(self.first(x)))
        return y


def hooked() -> nn.Module:
    inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1))
    inner.register_forward_hook(lambda module, given, result: result * 2)
    return inner


def parameter_hooked() -> nn.Module:
    inner = nn.Conv2d(3, 3, 3, padding=1)
    inner.weight.register_hook(lambda delta: delta * 2)  # type: ignore[no-untyped-call]
    return inner


X = torch.randn(2, 3, 5, 4)


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
        (SetsAHook, "sets a hook on a tensor"),
        (AsksAutograd, "calls autograd itself|changes what requires a gradient"),
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


def test_custom_functions_are_steps_with_their_own_derivative() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = Doubled.apply(x + 1)  # type: ignore[no-untyped-call]
            return y.relu()

    graph = capture(Net(), X)
    assert calls(graph) == ["add", "doubled", "relu"]
    x = torch.ones(2, requires_grad=True)
    graph(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [3.0, 3.0]


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


def test_frozen_by_no_grad() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

        @torch.no_grad()
        def features(self, x: Tensor) -> Tensor:
            y: Tensor = self.frozen(x)
            return y.relu()

        def forward(self, x: Tensor) -> Tensor:
            h = self.features(x)
            with torch.set_grad_enabled(False):
                scale = h.mean()
            y: Tensor = self.head(h) * scale
            return y

    model = Net()
    graph = capture(model, X)
    graph(X).sum().backward()
    assert model.frozen.weight.grad is None
    assert model.head.weight.grad is not None
    own = model.head.weight.grad.clone()
    model.zero_grad()
    model(X).sum().backward()
    assert torch.equal(own, model.head.weight.grad)


class InPlace(nn.Module):
    """Augmented assignment, aliases, views, parts, writing that autograd does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        first, copied, same = h, h.clone(), h.contiguous()
        h += 1.0
        h = self.relu(h)
        h = h.clone()
        flat = h.view(h.size(0), -1)
        flat[:, 3:5] = flat[:, :2] * 2
        upper, lower = h[:, :, :2], h.detach()
        lower.mul_(0.5)
        with torch.no_grad():
            upper.add_(0.25)
        h[h > 3] = 3.0
        y: Tensor = first + copied + same * 2 + flat.view_as(h) + upper.mean()
        return y


def test_writing_in_place_reaches_every_name_and_gradients_are_autograd_s() -> None:
    model = InPlace()
    x = X.clone().requires_grad_()
    graph = capture(model, x)
    assert leaves(graph) == ["conv", "relu"]
    results = []
    for each in (model, graph):
        leaf = X.clone().requires_grad_()
        y = each(leaf)
        results.append((y, *torch.autograd.grad(y.square().sum(), [leaf, *model.parameters()])))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_buffers_that_the_forward_changes_are_changed_by_the_graph_and_not_by_capturing() -> None:
    class Counting(nn.Module):
        steps: Tensor
        centre: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.register_buffer("steps", torch.zeros(()))
            self.register_buffer("centre", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            self.steps = self.steps + 1
            self.centre.mul_(0.9).add_(x.detach().mean((0, 2, 3)), alpha=0.1)
            y: Tensor = self.norm(x - self.centre.view(1, 3, 1, 1))
            return y

    model, twin = Counting(), Counting()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = capture(model, X)
    assert facts(graph).changes == ()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for _ in range(2):
        torch.testing.assert_close(graph(X), twin(X))
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


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


def test_weights_that_the_forward_writes_are_put_back() -> None:
    class Clips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([3.0, -3.0]))
            self.table = nn.Embedding(4, 2, max_norm=0.1)

        def forward(self, x: Tensor) -> Tensor:
            self.weight.data.clamp_(-1, 1)
            y: Tensor = self.table(torch.tensor([1, 2])) + x * self.weight
            return y

    model = Clips()
    table = model.table.weight.detach().clone()
    graph = capture(model, torch.ones(2))
    assert model.weight.tolist() == [3.0, -3.0]
    assert torch.equal(model.table.weight, table)
    found = graph(torch.ones(2))
    assert model.weight.tolist() == [1.0, -1.0], "the graph does what the model does"
    torch.testing.assert_close(found, model(torch.ones(2)))


def test_tensors_that_are_no_buffers() -> None:
    kept = torch.tensor([1.0, 2.0, 3.0])

    class Constants(nn.Module):
        weights: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weights", torch.arange(3.0))
            self.plain = torch.full((3,), 2.0)
            self.several = [torch.ones(3), {"deep": torch.full((3,), 0.5)}]

        def forward(self, x: Tensor, offset: Tensor = torch.zeros(3)) -> Any:  # noqa: B008
            first: Any
            deep: Any
            first, deep = self.several
            return x * self.weights + self.plain * kept + first + deep["deep"] + offset + torch.tensor([1.0])

    model, x = Constants(), torch.randn(2, 3)
    graph = capture(model, x)
    torch.testing.assert_close(graph(x), model(x))
    assert hasattr(model, "plain")
    kept.add_(1)
    torch.testing.assert_close(graph(x), model(x))


def test_sizes_are_followed_and_comparisons_of_sizes_hold() -> None:
    class Shapes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            if h % 2:
                x = F.pad(x, (0, 0, 0, 1))
            y = x.view(n, c // 3, 3, -1).mean(2).reshape(x.size(0), -1)
            z: Tensor = y / (h * w) ** 0.5 + torch.arange(y.shape[-1])
            return z

    model = Shapes()
    graph = capture(model, X)
    for shape in ((2, 3, 5, 4), (7, 6, 3, 2), (1, 3, 9, 9)):
        x = torch.randn(shape)
        torch.testing.assert_close(graph(x), model(x))
    with pytest.raises(SizesChangedError, match="0 = 0 did not hold before|0 ≠ 0 held before"):
        graph(torch.randn(2, 3, 4, 4))


def test_sizes_are_numbers_like_any_other() -> None:
    import copy
    import json
    import pickle

    kept: list[Any] = []

    class Keeps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kept.append(x.shape[1])
            kept.append(x.shape[0] / x.size(1))
            assert isinstance(kept[0], int)
            assert f"{kept[0]:03d}" == "003"
            assert [*range(kept[0])] == [0, 1, 2]
            assert max(kept[0], 2) == 3
            assert {3: "c"}[kept[0]] == "c"
            return x

    capture(Keeps(), X)
    size, quotient = kept
    assert type(size + 1) is int
    assert json.dumps(size) == "3"
    assert type(pickle.loads(pickle.dumps(size))) is int
    assert type(copy.deepcopy(quotient)) is float
    assert size == 3
    assert size < 4


class Pair(NamedTuple):
    one: Tensor
    two: Tensor


@dataclasses.dataclass
class Record:
    logits: Tensor
    parts: list[Tensor]


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: (a, [b, a]), lambda a, b: {"a": a, "more": {"b": b}}, Pair, lambda a, b: Record(a, [b, a + b]),
        lambda a, b: collections.OrderedDict(first=a, second=b), lambda a, b: torch.max(a, 1),
        lambda a, b: (a, None, 3, "words"),
    ],
)  # fmt: skip
def test_outputs_of_any_structure(build: Callable[[Tensor, Tensor], Any]) -> None:
    from convscope.graph import structure

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return build(x * 2, x.relu())

    x = torch.randn(2, 3)
    graph = capture(Net(), x)
    found, wanted = graph(x), Net()(x)
    assert type(found) is type(wanted)
    for one, other in zip(structure.leaves(found), structure.leaves(wanted), strict=True):
        assert torch.equal(one, other) if isinstance(other, Tensor) else one == other
    assert calls(graph)


def test_inputs_of_any_structure() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, pairs: list[Tensor], *more: Tensor, scale: float = 1.0, **named: Any) -> Tensor:
            y = x * scale + pairs[0] - pairs[1] + sum(more)
            return y + named["mask"]["inner"] if "mask" in named else y

    x = torch.randn(2, 3)
    given = (x, [x + 1, x * 3], x, x)
    named = {"scale": 2.0, "mask": {"inner": torch.ones(3)}}
    graph = capture(Net(), *given, **named)
    names = [node.target for node in graph.graph.nodes if node.op == "placeholder"]
    assert names == ["x", "pairs", "more_0", "more_1", "mask", "scale"]
    torch.testing.assert_close(graph(*given, mask=named["mask"]), Net()(*given, **named))


def test_integers_go_in() -> None:
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(12, 2))
    tokens = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    assert torch.equal(capture(model, tokens)(tokens), model(tokens))


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
