"""The trace of a model: names, conventions of u, y and δ, and agreement with autograd at every node."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import worst
from torch import Tensor, fx, nn

from convscope.errors import ArgumentError, ConvscopeError, UnknownNameError
from convscope.graph.calls import Names
from convscope.inspect.trace import Trace, trace
from convscope.layers import RBF, AuxiliaryOutputs, Conv2d, ScaledTanh, Subsample2d, TableConv2d
from convscope.layers.losses import LOSSES


class Branching(nn.Module):
    """Residual, grouped and dilated branches, joined and split again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.dilated = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(self.grouped(x) + x)
        one, two = torch.chunk(x, 2, 1)
        x = self.pool(torch.cat([self.dilated(x), one * torch.sigmoid(two), two], 1))
        y: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return y


class Recorder(fx.Interpreter):
    """Runs a graph by torch and keeps every node's output, its gradient retained: the second opinion."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.outputs: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.requires_grad:
            result.retain_grad()
            self.outputs[n.name] = result
            return result * 1  # what an in-place layer does to it must not reach the record
        self.outputs[n.name] = result
        return result


def by_autograd(model: nn.Module, x: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Any]]:
    recorder = Recorder(fx.symbolic_trace(model))
    loss = F.cross_entropy(recorder.run(x), target)
    torch.autograd.backward(loss)
    return loss.detach(), recorder.outputs


@pytest.mark.parametrize("training", [True, False])
def test_every_node_and_parameter_equals_autograd(training: bool) -> None:
    model = Branching().double().train(training)
    x, target = torch.randn(4, 3, 11, 9, dtype=torch.float64), torch.tensor([0, 4, 2, 2])
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    loss, outputs = by_autograd(model, x, target)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    model.load_state_dict(buffers, strict=False)
    result = trace(model, x, target)
    assert result.loss is not None
    assert float(result.loss) == pytest.approx(float(loss), rel=1e-12)
    nodes = [node for node in fx.symbolic_trace(model).graph.nodes if node.op not in ("placeholder", "output")]
    assert len(result) == len(nodes)
    name_of = Names()
    by_name = {name_of(node): outputs[node.name] for node in nodes}
    parts = [by_name.pop(node.name) for node in nodes if node.name.startswith("getitem")]
    for layer in result:
        if layer.name.startswith("getitem"):  # numbered in the order of use; each has its own counterpart
            expected: Any = next(part for part in parts if worst(part.detach(), layer.y) <= 1e-9)
            parts = [part for part in parts if part is not expected]
        else:
            expected = by_name.pop(layer.name)
        if isinstance(expected, Tensor):
            assert worst(layer.y, expected.detach()) <= 1e-9, layer.name
            if layer.kind != "activation":
                assert expected.grad is not None
                assert worst(layer.delta, expected.grad) <= 1e-9, layer.name
        for name, found in layer.gradients.items():
            wanted = gradients[f"{layer.name}.{name}"]
            assert wanted is not None
            assert worst(found, wanted) <= 1e-9, f"{layer.name}.{name}"
    assert not parts
    assert not by_name
    assert set(result.gradients) == set(gradients)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training is training


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 10),
    )  # fmt: skip


def test_conventions() -> None:
    """u = x at an activation and u = y elsewhere; δ is ∂J/∂u; the activation's δ is that of the layer before."""
    result = trace(lenet(), torch.randn(2, 1, 28, 28), torch.tensor([3, 9]))
    assert result.names() == [str(index) for index in range(10)]
    kinds = ["conv", "activation", "pool", "conv", "activation", "pool", "reshape", "dense", "activation", "dense"]
    assert [layer.kind for layer in result] == kinds
    assert [layer.type for layer in result][:3] == ["Conv2d", "Sigmoid", "AvgPool2d"]
    conv, sigmoid, pool = result[0], result["1"], result[2]
    assert isinstance(conv.module, nn.Conv2d)
    assert torch.equal(sigmoid.u, conv.y)
    assert sigmoid.u is sigmoid.x
    torch.testing.assert_close(sigmoid.delta, conv.delta)
    torch.testing.assert_close(sigmoid.delta, pool.grad_x[0] * sigmoid.y * (1 - sigmoid.y))
    assert conv.u is conv.y
    assert set(conv.gradients) == {"weight", "bias"}
    torch.testing.assert_close(conv.gradients["bias"], conv.delta.sum((0, 2, 3)))
    torch.testing.assert_close(result[-1].y, result.logits)
    torch.testing.assert_close(result.gradients["0.weight"], conv.gradients["weight"])
    assert result.grad_x is not None
    assert torch.equal(result.grad_x, conv.grad_x[0])


def test_built_in_activation_has_its_own_u() -> None:
    layer = Subsample2d(2, activation="sigmoid").double()
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 3)).double()
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    result = trace(model, x, torch.tensor([0, 1, 2]))
    found = result["0"]
    assert found.kind == "subsample"
    torch.testing.assert_close(found.u, layer.pre_activation(x).detach())
    torch.testing.assert_close(found.delta, result["1"].grad_x[0] * found.y * (1 - found.y))
    torch.testing.assert_close(found.gradients["bias"], found.delta.sum((0, 2, 3)))


def test_lenet5_1998_layers_have_rules() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), ScaledTanh(), Subsample2d(6), TableConv2d(6, None, 5, table="lenet5_c3"), Subsample2d(16),
        Conv2d(16, 120, 5, flip_kernel=True), ScaledTanh(), nn.Flatten(), nn.Linear(120, 84), ScaledTanh(), RBF(),
    )  # fmt: skip
    x, target = torch.randn(3, 1, 32, 32), torch.tensor([1, 8, 0])
    result = trace(model, x, target, loss="rbf")
    assert "other" not in {layer.kind for layer in result}
    torch.autograd.backward(LOSSES["rbf"].value(model(x), target))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert worst(result.gradients[name], parameter.grad) < 1e-3, name
    assert result["3"].gradients["weight"].shape == (60, 5, 5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_loss(name: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    x, target = torch.rand(3, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 3, 1])
    result = trace(model, x, target, loss=name)
    J = LOSSES[name].value(model(x), target)
    (gradient,) = torch.autograd.grad(J, model.get_parameter("1.weight"))
    assert result.loss is not None
    assert float(result.loss) == pytest.approx(J.item(), rel=1e-12)
    assert worst(result.gradients["1.weight"], gradient) <= 1e-9


def test_one_example_without_batch_dimension() -> None:
    x = torch.randn(1, 28, 28)
    model = lenet()
    one, batch = trace(model, x, 7), trace(model, x[None], torch.tensor([7]))
    assert one.logits.shape == (1, 10)
    assert torch.equal(one[0].delta, batch[0].delta)
    assert torch.equal(trace(model, x, torch.tensor(7))[0].delta, batch[0].delta)
    assert trace(nn.Linear(3, 2), torch.randn(3), 1).logits.shape == (1, 2)
    assert trace(nn.Sequential(nn.Conv1d(2, 3, 2)), torch.randn(2, 5)).logits.shape == (1, 3, 4)


def test_without_a_target() -> None:
    result = trace(lenet(), torch.randn(2, 1, 28, 28))
    assert result.loss is None
    assert result.grad_x is None
    assert result.gradients == {}
    for layer in result:
        assert layer.delta is None
        assert layer.gradients == {}
        assert layer.grad_x == ()
    assert torch.equal(result[1].u, result[0].y)


def test_several_inputs_several_outputs_and_repeated_names() -> None:
    result = trace(Branching().eval(), torch.randn(2, 3, 11, 9), torch.tensor([0, 1]))
    names = result.names()
    assert {"relu", "relu:2", "chunk", "cat", "adaptive_avg_pool2d"} <= set(names)
    assert len(set(names)) == len(names)
    assert len(result["cat"].inputs) == len(result["cat"].grad_x) == 3
    assert [part.shape for part in result["chunk"].delta] == [part.shape for part in result["chunk"].y]
    assert result["add"].module is None


def test_what_the_loss_does_not_depend_on_has_zero_delta() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.aside = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.used(x), self.aside(x)

    result = trace(Aside(), torch.randn(4, 3), torch.tensor([0, 1, 1, 0]))
    assert torch.equal(result["aside"].delta, torch.zeros(4, 2))
    assert result["aside"].gradients == {}
    assert result.logits is result["used"].y or torch.equal(result.logits, result["used"].y)


def test_auxiliary_outputs_count_as_in_training() -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.main, self.aside = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            h = torch.tanh(self.body(x))
            return AuxiliaryOutputs(self.main(h), (self.aside(h),), 0.3) if self.training else self.main(h)

    model, x, target = (
        TwoHeads().double().train(),
        torch.randn(5, 3, dtype=torch.float64),
        torch.tensor([0, 1, 1, 0, 1]),
    )
    result = trace(model, x, target)
    loss = LOSSES["cross_entropy"].value(model(x), target)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    for found, wanted in zip(result.gradients.values(), expected, strict=True):
        assert worst(found, wanted) <= 1e-9
    assert "aside.weight" not in trace(model.eval(), x, target).gradients


def test_custom_module_without_a_rule() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x * self.factor) if x.sum() > -1e9 else x

    result = trace(nn.Sequential(nn.Linear(4, 3), Odd(), nn.Linear(3, 2)), torch.randn(5, 4), torch.zeros(5).long())
    odd = result["1"]
    assert (odd.kind, odd.type) == ("other", "Odd")
    assert set(odd.gradients) == {"factor"}
    assert odd.u is odd.y


def test_input_takes_the_model_s_precision() -> None:
    assert trace(lenet().double(), torch.randn(1, 1, 28, 28)).logits.dtype == torch.float64


def test_a_forward_pass_is_taken_back_more_than_once() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)).double()
    x = torch.randn(1, 1, 8, 8).double()
    ran = trace(model, x)
    for target, loss in ((2, "cross_entropy"), (0, "squared_error")):
        true = trace(model, x, target, loss)
        for later in (False, True):
            found = ran.taken_back(target, loss, later)
            assert found.loss == true.loss
            assert found.names() == true.names()
            assert found.grad_x is not None
            assert true.grad_x is not None
            assert torch.equal(found.grad_x, true.grad_x)
            assert list(found.gradients) == list(true.gradients)
            for one, other in zip(found, true, strict=True):
                torch.testing.assert_close(one.delta, other.delta, rtol=0, atol=0)
                assert torch.equal(one.u, other.u)
                assert one.gradients.keys() == other.gradients.keys()
                assert all(torch.equal(one.gradients[name], other.gradients[name]) for name in other.gradients)
    assert ran.loss is None
    assert all(layer.delta is None for layer in ran)


def test_canary() -> None:
    """Another target gives another δ, and the trace tells them apart."""
    model, x = lenet().double(), torch.randn(1, 1, 28, 28, dtype=torch.float64)
    one, other = trace(model, x, 1), trace(model, x, 2)
    assert worst(one[0].delta, other[0].delta) > 1e-3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: trace(lenet(), torch.zeros(1, 28, 28, dtype=torch.uint8)), ArgumentError, "x: got 'torch.uint8'"),
        (lambda: trace(lenet(), [[1.0]]), ArgumentError, "x: got 'list', wanted a floating-point tensor"),
        (lambda: trace(lenet(), torch.zeros(3, 28, 28)), ArgumentError, "wanted 1 channels.*layer '0'"),
        (lambda: trace(lenet(), torch.zeros(1, 28, 28), 0, "crossentropy"), UnknownNameError, "'cross_entropy'"),
        (lambda: trace(lenet(), torch.zeros(1, 28, 28), 10), ArgumentError, "targets: got 10"),
        (lambda: trace(lenet(), torch.zeros(1, 28, 28))["11"], UnknownNameError, "layer: got '11'"),
        (lambda: trace(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), torch.zeros(1, 3)), ConvscopeError, "layer '0'"),
        (
            lambda: trace(_Words(), torch.zeros(1, 3)),
            ArgumentError,
            "model: got '_Words', wanted a model that puts out",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


class _Words(nn.Module):
    def forward(self, x: Tensor) -> str:
        return str(x.shape)


def test_is_exported_type() -> None:
    assert isinstance(trace(nn.Linear(2, 2), torch.zeros(2)), Trace)
