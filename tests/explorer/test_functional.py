"""Functions and methods are explained as the modules are; a network that ends in a softmax gets no second one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.explorer.fixtures import printed_by
from tests.explorer.test_arithmetic import closes, some
from torch import Tensor, nn
from torch.nn import functional as F

from convscope.errors import ArgumentError
from convscope.explorer.network import Network
from convscope.explorer.protocol import Arguments
from convscope.explorer.session import Session
from convscope.explorer.snapshot import Question, Snapshot
from convscope.layers.losses import loss_for


class Written(nn.Module):
    """Everything between the layers with weights is a function; ``ways`` keeps each value and its gradient."""

    def __init__(self, end: str = "log_softmax") -> None:
        super().__init__()
        self.end = end
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2, ceil_mode=True, count_include_pad=False)
        x = F.adaptive_avg_pool2d(x, (3, 2))
        x = self.fc(x.mean((2, 3)))
        return F.softmax(x, -1) if self.end == "softmax" else x.log_softmax(1) if self.end else x


def snapshot_of(model: nn.Module, shape: tuple[int, ...] = (1, 13, 11)) -> Snapshot:
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5)).to(next(model.parameters()).dtype)
    return Snapshot(Network(model.eval(), shape), Question(x, 1, "cross_entropy"), 1)


def by_autograd(snapshot: Snapshot, model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """(value, ∂J/∂value) of every call, by torch's own functions on leaves one after another."""
    kept: dict[str, Tensor] = {}

    class Keep(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            y = super().run_node(n)
            if isinstance(y, Tensor) and n.op.startswith("call"):
                y.retain_grad()
                kept[n.name] = y
            return y

    x = snapshot.question.x.clone().requires_grad_()
    y = Keep(torch.fx.symbolic_trace(model)).run(x)
    loss = F.nll_loss(y.log() if model.end == "softmax" else y, torch.tensor([1]))
    torch.autograd.backward(loss)
    return {name: (value.detach(), value.grad) for name, value in kept.items() if value.grad is not None}


@pytest.mark.parametrize("end", ["log_softmax", "softmax"])
def test_functions_are_explained_by_their_own_sums(end: str) -> None:
    torch.manual_seed(1)
    model = Written(end).double()
    snapshot = snapshot_of(model)
    families = [node.family for node in snapshot.network.nodes.values()]
    assert families == [
        "conv", "activation", "max_pool", "conv", "activation", "mean_pool", "adaptive_mean_pool", "total", "linear",
        end,
    ]  # fmt: skip
    truth = by_autograd(snapshot, model)
    before = {"relu": "conv1", "tanh": "conv2", end: "fc"}  # δ of these stands at what they read
    for name in snapshot.layers:
        y, _ = truth[name]
        delta = truth[before.get(name, name)][1]
        for unit in some(tuple(y.shape[1:]), 60):
            found = snapshot.forward(name, unit)
            assert found.note != "linearised"
            closes(found, float(y[(0, *unit)]))
            closes(snapshot.backward(name, unit), float(delta[(0, *unit)]))


@pytest.mark.parametrize(
    ("over", "keepdim"), [((2, 3), False), ((2, 3), True), ((-1,), False), ((1,), True), ((1, 2), False)]
)
def test_sums_and_means_over_any_dimensions(over: tuple[int, ...], keepdim: bool) -> None:
    class Sums(nn.Module):
        def __init__(self, mean: bool) -> None:
            super().__init__()
            self.conv, self.mean = nn.Conv2d(1, 4, 3), mean
            self.fc = nn.Linear(self.reduced(torch.zeros(1, 4, 5, 3)).numel(), 3)

        def reduced(self, x: Tensor) -> Tensor:
            return x.mean(over, keepdim=keepdim) if self.mean else torch.sum(x, over, keepdim=keepdim)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(torch.flatten(self.reduced(self.conv(x)), 1))
            return y

    for mean in (True, False):
        torch.manual_seed(2)
        model = Sums(mean).double()
        snapshot = snapshot_of(model, (1, 7, 5))
        (name,) = [node.name for node in snapshot.network.nodes.values() if node.family.startswith("total")]
        c = snapshot.layers["conv"].y.clone().requires_grad_()
        y = model.reduced(c)
        loss = F.cross_entropy(model.fc(torch.flatten(y, 1)), torch.tensor([1]))
        (delta,) = torch.autograd.grad(loss, c)
        for unit in np.ndindex(*y.shape[1:]):
            closes(snapshot.forward(name, unit), float(y.detach()[(0, *unit)]))
        for unit in np.ndindex(*c.shape[1:]):
            closes(snapshot.backward("conv", unit), float(delta[(0, *unit)]))


class Bare(nn.Module):
    """Functions with weights of the model's own, a constant, and parts that are put together again."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(4, 2, 3, 3)), nn.Parameter(torch.randn(4))
        self.v = nn.Parameter(torch.randn(3, 4 * 12))
        self.mean = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        c = F.conv2d(x, self.w, self.b, stride=2)
        n = F.batch_norm(c, self.mean, 2 * torch.ones_like(self.mean))
        first, second = torch.tanh(n).chunk(2, 1)
        return F.linear(torch.flatten(torch.cat((second, 2 * first), 1), 1), self.v)


def test_functions_are_given_parameters_and_constants_again() -> None:
    torch.manual_seed(3)
    model = Bare().double()
    snapshot = snapshot_of(model, (2, 9, 7))
    c = F.conv2d(snapshot.question.x, model.w, model.b, stride=2).detach().requires_grad_()
    n = F.batch_norm(c, model.mean, 2 * torch.ones_like(model.mean))
    n.retain_grad()
    first, second = torch.tanh(n).chunk(2, 1)
    loss = F.cross_entropy(F.linear(torch.cat((second, 2 * first), 1).flatten(1), model.v), torch.tensor([1]))
    torch.autograd.backward(loss)
    for name, value in {"conv2d": c, "batch_norm": n}.items():
        assert value.grad is not None
        for unit in some(value.shape[1:], 12):
            closes(snapshot.forward(name, unit), float(value.detach()[(0, *unit)]))
            closes(snapshot.backward(name, unit), float(value.grad[(0, *unit)]))
    for name, layer in snapshot.layers.items():
        unit = (0,) * len(layer.shape)
        closes(snapshot.forward(name, unit), float(layer.y[(0, *unit)]))
        if snapshot.network.readers[name]:
            assert np.isfinite(snapshot.backward(name, unit).value)
    with pytest.raises(ArgumentError, match="parameters are a module's"):
        snapshot.gradient("conv2d", "weight", (0, 0, 0, 0))


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.chunk(3, 1),
        lambda x: torch.split(x, [1, 2, 3], dim=1),
        lambda x: torch.chunk(x, 3, dim=-1),
        lambda x: x.split((2, 1, 4), 2),
    ],
)
def test_a_part_is_the_whole_s_own_numbers(cut: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
    """A part's value is one number of the whole; δ of the whole comes back through every part that is read."""

    class Parted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 6, 3)

        def forward(self, x: Tensor) -> Tensor:
            first, _, third = cut(self.conv(x))
            whole = torch.cat([first.flatten(1).cumsum(1), third.flatten(1).sin()], 1)
            return whole[:, ::7][:, :3]

    torch.manual_seed(5)
    model = Parted().double()
    snapshot = snapshot_of(model, (2, 9, 8))
    y = model.conv(snapshot.question.x).detach().requires_grad_()
    parts = cut(y)
    for each in parts:
        each.retain_grad()
    out = torch.cat([parts[0].flatten(1).cumsum(1), parts[2].flatten(1).sin()], 1)[:, ::7][:, :3]
    torch.autograd.backward(F.cross_entropy(out, torch.tensor([1])))
    names = [name for name, node in snapshot.network.nodes.items() if node.kind in ("chunk", "split")]
    assert snapshot.network.readers["conv"] == [(name, 0) for name in names]
    assert "conv" not in snapshot.network.hidden
    for name, part in zip(names, (parts[0], parts[2]) if len(names) == 2 else parts, strict=True):
        for unit in some(tuple(part.shape[1:]), 12):
            found = snapshot.forward(name, unit)
            closes(found, float(part.detach()[(0, *unit)]))
            assert found.terms.coefficient is not None
            assert found.terms.coefficient.tolist() == [1]
            if part.grad is not None and snapshot.network.readers[name]:
                closes(snapshot.backward(name, unit), float(part.grad[(0, *unit)]))
    assert y.grad is not None
    for unit in some(tuple(y.shape[1:]), 40):
        closes(snapshot.backward("conv", unit), float(y.grad[(0, *unit)]))


def test_a_weight_that_the_network_computes_is_a_constant() -> None:
    torch.manual_seed(4)
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3))
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Tanh(), normed, nn.Flatten(), nn.Linear(3 * 15, 3)).double()
    snapshot = snapshot_of(model, (2, 9, 7))
    first = model[0](snapshot.question.x).detach().requires_grad_()
    second = model[2](model[1](first))
    torch.autograd.backward(F.cross_entropy(model[4](model[3](second)), torch.tensor([1])))
    assert first.grad is not None
    for unit in some(first.shape[1:], 12):
        closes(snapshot.backward("0", unit), float(first.grad[(0, *unit)]))
    for unit in some(second.shape[1:], 12):
        closes(snapshot.forward("conv2d", unit), float(second.detach()[(0, *unit)]))


@pytest.mark.parametrize("maps", [1, 4])
@pytest.mark.parametrize("straight", [True, False])
def test_the_slope_of_a_rectifier_is_a_sum_over_what_comes_back_behind_it(maps: int, straight: bool) -> None:
    class Sloped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.fc = nn.Conv2d(2, 4, 3), nn.PReLU(maps), nn.Linear(4 * 35, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.conv(x))
            out: Tensor = self.fc((y if straight else torch.cat(y.chunk(2, 1), 1) + y).flatten(1))
            return out

    torch.manual_seed(5)
    model = Sloped().double()
    snapshot = snapshot_of(model, (2, 9, 7))
    torch.autograd.backward(F.cross_entropy(model(snapshot.question.x), torch.tensor([1])))
    assert model.act.weight.grad is not None
    for index in range(maps):
        closes(snapshot.gradient("act", "weight", (index,)), float(model.act.weight.grad[index]))


@pytest.mark.parametrize("end", ["softmax", "log_softmax"])
@pytest.mark.parametrize("gap", [1.0, 18.0, 30.0, 60.0])
def test_an_ending_softmax_is_not_put_on_twice(end: str, gap: float) -> None:
    """J, p and δ are those of the same network without its end under cross-entropy, in float64, also where p is 1 in
    float32, or in float64."""
    torch.manual_seed(0)
    model = Written(end)
    with torch.no_grad():
        model.fc.bias.copy_(torch.tensor([0, gap, 0]))
    snapshot = snapshot_of(model)
    twin = copy.deepcopy(model).double()
    twin.end = ""
    logits = twin(snapshot.question.x.double())
    loss = torch.log1p(torch.exp(logits[0, [0, 2]] - logits[0, 1]).sum())
    torch.autograd.backward(loss)
    assert snapshot.loss == pytest.approx(float(loss.detach()), rel=2e-5)
    output, target = model(snapshot.question.x).detach(), torch.tensor([1])  # in float32, whose 1 is no 1
    assert float(snapshot.objective.value(output, target)) == pytest.approx(float(loss.detach()), rel=1e-4)
    assert snapshot.probabilities is not None
    rest = -math.expm1(-float(loss.detach()))
    assert 1 - float(snapshot.probabilities[1]) == pytest.approx(rest, rel=1e-4, abs=2e-16)
    torch.testing.assert_close(snapshot.probabilities, logits.detach()[0].softmax(0), rtol=2e-5, atol=1e-7)
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None
        expected = parameter.grad.float()
        largest = float(expected.abs().max())
        assert largest > 0
        torch.testing.assert_close(snapshot.gradients[name], expected, rtol=1e-3, atol=largest * 1e-4)
    wrong = loss_for("cross_entropy").value(model(snapshot.question.x), torch.tensor([1]))
    if end == "softmax":
        assert abs(float(wrong.detach()) - float(loss.detach())) > 0.05  # what a second softmax would say


@pytest.mark.parametrize("kind", ["probability", "loss"])
def test_copied_code_knows_how_the_network_ends(kind: str) -> None:
    for end, gap in (("softmax", 1.0), ("log_softmax", 1.0), ("softmax", 19.0), ("log_softmax", 19.0)):
        torch.manual_seed(1)
        model = Written(end)
        with torch.no_grad():
            model.fc.bias.copy_(torch.tensor([0, gap, 0]))
        session = Session(model, input_shape=(1, 13, 11))
        asked = Arguments({"kind": kind, "index": [2]})
        code = session.answer("snippet", asked, b"").values["code"]
        snapshot = session.snapshot
        assert snapshot.probabilities is not None
        truth = snapshot.loss if kind == "loss" else float(snapshot.probabilities[2])
        session.close()
        assert float(printed_by(code)) == pytest.approx(truth, rel=1e-4)
