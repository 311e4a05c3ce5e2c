"""Whole models by the rules against the same models by autograd."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_model, worst
from torch import Tensor, nn

from convscope.errors import ArgumentError, ConvscopeError
from convscope.graph.capture import capture
from convscope.rules import tape
from convscope.rules.conv import Conv


def lenet() -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(1, 6, 5, padding=2), f1=nn.Sigmoid(), s2=nn.AvgPool2d(2), c3=nn.Conv2d(6, 16, 5),
            f3=nn.ReLU(inplace=True), s4=nn.MaxPool2d(2), flat=nn.Flatten(), c5=nn.Linear(400, 120), f5=nn.Tanh(),
            out=nn.Linear(120, 10),
        )
    )  # fmt: skip


class Residual(nn.Module):
    """A residual block as torchvision writes it: in-place ReLUs, in-place sum, batch normalisation, a projection."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=2, dilation=2, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        identity = self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        y: Tensor = self.relu(out)
        return y


class Mixed(nn.Module):
    """Branches joined and split again, functions, methods, a module used twice, a shared parameter, a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(4, 6, (1, 3), padding=(0, 1))
        self.again = nn.Conv2d(12, 12, 1)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(12, 12)
        self.tied = nn.Linear(12, 12)
        self.tied.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([F.relu(self.left(x)), torch.tanh(self.right(x))], dim=1)
        both = self.again(self.again(both)) * self.scale
        one, two, three = both.chunk(3, dim=1)
        mixed = torch.cat((three, one * torch.sigmoid(two), x), 1)
        n, c = mixed.size(0), mixed.shape[1]
        shuffled = mixed.view(n, 3, c // 3, mixed.size(2), -1).transpose(1, 2).contiguous().flatten(1, 2)
        pooled = F.adaptive_avg_pool2d(shuffled[:, ::1], 1).flatten(1) + shuffled.mean([2, 3]) / 2
        y: Tensor = self.tied(self.head(pooled) - pooled) + torch.tensor(0.5)
        return y


@pytest.mark.parametrize("training", [True, False])
def test_lenet(training: bool) -> None:
    check_model(lenet().train(training), torch.randn(3, 1, 28, 28), expected_rules=10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(9, 8), (7, 7)])
def test_residual_grouped_dilated(training: bool, size: tuple[int, int]) -> None:
    model = nn.Sequential(Residual(3, 4, 2), nn.Dropout(0.3), Residual(4, 6, 1), nn.LocalResponseNorm(3))
    check_model(model.train(training), torch.randn(2, 3, *size), expected_rules=20)


def test_branches_splits_sharing() -> None:
    ran = check_model(Mixed(), torch.randn(2, 4, 5, 6))
    named = {step.name for step in ran}
    assert {"again", "again:2", "chunk", "cat"} <= named


def test_one_dimension_and_three() -> None:
    check_model(
        nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(16, 3)),
        torch.randn(3, 2, 11),
        expected_rules=5,
    )
    check_model(nn.Sequential(nn.Conv3d(1, 2, 2), nn.AvgPool3d(2), nn.ELU()), torch.randn(2, 1, 5, 5, 6))


class Parametric(nn.Module):
    """Functions called with the module's own parameters and buffers."""

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.weights = nn.ParameterList([torch.randn(5, 4), torch.randn(5)])
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))
        self.register_buffer("running", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        maps = F.conv2d(x, self.kernel, stride=2)
        maps = F.batch_norm(maps, self.mean, self.var, training=self.training)  # type: ignore[arg-type]
        self.running.mul_(0.9).add_(maps.mean().detach(), alpha=0.1)
        return F.linear(input=maps.amax((2, 3)), weight=self.weights[0], bias=self.weights[1]) + self.running


def test_functions_with_parameters_and_buffers_updated_in_the_forward() -> None:
    ran = check_model(Parametric().train(), torch.randn(3, 3, 7, 9))
    conv = ran.steps[0]
    back = ran.backward(torch.ones_like(ran.output))
    assert set(back.steps[conv.name].gradients) == {"weight"}


class Sentence(nn.Module):
    """Integers in, several outputs of one node, a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 5)
        self.cell = nn.GRU(5, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        states, last = self.cell(self.words(tokens))
        mixed, _ = self.attention(states, states, states, need_weights=False)
        y: Tensor = mixed.sum(1) + last[0]
        return y


def test_sequence_model() -> None:
    check_model(Sentence(), torch.randint(7, (3, 6)))


def test_frozen_parameters_get_no_gradient() -> None:
    model = lenet()
    model.get_submodule("c1").requires_grad_(False)
    ran = tape.forward(model, torch.randn(1, 1, 28, 28))
    back = ran.backward(torch.ones(1, 10))
    assert set(back.gradients) == {n for n, p in model.named_parameters() if p.requires_grad}
    assert back.steps["c1"].gradients == {}


def test_unused_parts() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.aside = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            self.aside(x)
            y: Tensor = self.used(x)
            return y

    ran = tape.forward(Aside(), torch.ones(1, 2))
    back = ran.backward(torch.ones(1, 2))
    assert set(back.gradients) == {"used.weight", "used.bias"}
    assert back.steps["aside"].delta is None
    assert len(back.inputs) == 2
    assert back.inputs[1] is None


class Both(NamedTuple):
    main: Tensor
    aside: Tensor


def test_several_outputs_of_the_model() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Both:
            h = torch.relu(self.body(x))
            return Both(self.one(h), self.two(h))

    model, x = TwoHeads().double(), torch.randn(5, 3, dtype=torch.float64)
    ran = tape.forward(model, x)
    deltas = Both(torch.randn(5, 2).double(), torch.randn(5, 4).double())
    y = model(x)
    expected = torch.autograd.grad([*y], list(model.parameters()), [*deltas])
    assert isinstance(ran.output, Both)
    for found, wanted in zip(ran.backward(deltas).gradients.values(), expected, strict=True):
        assert worst(found, wanted) <= 1e-9
    only_main = ran.backward([deltas.main, None])
    assert "two.weight" not in only_main.gradients
    with pytest.raises(ArgumentError, match="delta: got '1 parts', wanted 2, one for each output of the model"):
        ran.backward(deltas.main)


def test_captured_graph_runs_again_and_follows_the_parameters() -> None:
    model = lenet()
    x = torch.randn(2, 1, 28, 28)
    graph = capture(model, x)
    before = tape.forward(graph, x).output
    with torch.no_grad():
        model.get_parameter("out.bias").add_(1.0)
    torch.testing.assert_close(tape.forward(graph, x).output, before + 1)


def test_inputs_by_name() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, scale: float = 2.0) -> Tensor:
            return x * scale

    x = torch.ones(2)
    assert tape.forward(Named(), x).output.tolist() == [2, 2]
    assert tape.forward(Named(), x=x, scale=3.0).output.tolist() == [3, 3]


def test_float32_on_the_whole() -> None:
    model, x = lenet(), torch.randn(4, 1, 28, 28)
    ran = tape.forward(model, x)
    back = ran.backward(torch.ones(4, 10))
    assert {gradient.dtype for gradient in back.gradients.values()} == {torch.float32}
    model(x).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert worst(back.gradients[name], parameter.grad) < 2e-5, name


DEVICE_MODELS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (lenet(), (2, 1, 28, 28)),
    (nn.Sequential(Residual(3, 4, 2), nn.Dropout(0.3), nn.LocalResponseNorm(3), nn.GroupNorm(2, 4)), (2, 3, 9, 8)),
    (nn.Sequential(nn.ReflectionPad2d(1), nn.AdaptiveMaxPool2d((2, 3)), nn.Flatten(), nn.Softmax(1)), (2, 3, 5, 6)),
    (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.LPPool2d(2, 2), nn.ChannelShuffle(2), nn.GELU()), (2, 3, 4, 5)),
    (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), nn.AdaptiveAvgPool2d(2)), (2, 3, 4, 5)),
]


@pytest.mark.parametrize(("model", "shape"), DEVICE_MODELS)
def test_everything_stays_on_the_model_s_device(model: nn.Module, shape: tuple[int, ...]) -> None:
    """On the "meta" device, which refuses to meet tensors of the CPU, as any other device would."""
    away = copy.deepcopy(model).to("meta")
    ran = tape.forward(away, torch.empty(shape, device="meta"))
    back = ran.backward(torch.empty_like(ran.output))
    tensors = [ran.output, *back.gradients.values(), *(delta for delta in back.inputs if delta is not None)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    if torch.cuda.is_available():
        x = torch.randn(shape)
        on_gpu = tape.forward(copy.deepcopy(model).eval().cuda(), x.cuda())
        assert worst(on_gpu.output.cpu(), tape.forward(model.eval(), x).output) < 1e-3


def test_gradients_that_are_looked_up_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared convolution, a fully connected layer and a weight that the forward itself hands over."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = nn.Conv2d(2, 2, 3, padding=1)
            self.norm = nn.BatchNorm2d(2)
            self.last = nn.Linear(2 * 5 * 4, 3)
            self.free = nn.Parameter(torch.randn(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(self.last(self.norm(self.twice(self.twice(x))).flatten(1)), self.free)

    torch.manual_seed(1)
    model = Shared().double()
    ran = tape.forward(model, torch.randn(3, 2, 5, 4).double())
    delta = torch.randn(3, 3).double()
    now = ran.backward(delta)
    found: list[Any] = []
    own = Conv.gradients

    def noted(self: Conv, *given: Any) -> Any:
        found.append(self)
        return own(self, *given)

    monkeypatch.setattr(Conv, "gradients", noted)
    later = ran.backward(delta, later=True)
    assert not found
    assert list(later.gradients) == list(now.gradients) == [name for name, _ in model.named_parameters()]
    assert torch.equal(later.steps["twice:2"].gradients["bias"], now.steps["twice:2"].gradients["bias"])
    assert len(found) == 1
    for name, gradient in now.gradients.items():
        assert torch.equal(later.gradients[name], gradient)
        assert later.gradients[name] is later.gradients[name]
    assert len(found) == 2
    for name, step in now.steps.items():
        assert later.steps[name].gradients.keys() == step.gradients.keys()
        for one, other in zip(later.steps[name].delta_inputs, step.delta_inputs, strict=True):
            assert one is other is None or (one is not None and other is not None and torch.equal(one, other))


def test_canary() -> None:
    """A parameter used twice whose gradients were not summed would be caught."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(self.layer(x))
            return y

    model = Twice().double()
    x = torch.randn(3, 2, dtype=torch.float64)
    ran = tape.forward(model, x)
    back = ran.backward(torch.ones_like(ran.output))
    model(x).sum().backward()
    assert model.layer.weight.grad is not None
    assert worst(back.gradients["layer.weight"], model.layer.weight.grad) <= 1e-9
    assert worst(back.steps["layer"].gradients["weight"], model.layer.weight.grad) > 1e-3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tape.forward(lenet(), torch.zeros(1, 3, 28, 28)), ArgumentError, "channels.*happened in layer 'c1'"),
        (lambda: tape.forward(lenet()), ArgumentError, "inputs: got 'none', wanted at least one input of the model"),
        (lambda: tape.forward(lenet(), *[torch.zeros(1)] * 2), ArgumentError, "got '2 in order'.*too many positional"),
        (lambda: tape.forward(lenet(), torch.zeros(1), y=1), ArgumentError, r"got '1 in order, y', wanted.*'y'"),
        (
            lambda: tape.forward(nn.Sequential(nn.Flatten(), nn.Bilinear(2, 2, 2)), torch.zeros(1, 2)),
            ConvscopeError,
            r"layer '1' \(Bilinear\): ",
        ),
        (
            lambda: tape.forward(lenet(), torch.zeros(2, 1, 28, 28)).backward(torch.zeros(2, 9)),
            ArgumentError,
            r"delta: got \(2, 9\), wanted the shape of the model's output, \(2, 10\)",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
