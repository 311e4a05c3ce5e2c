"""Lowering: the records of known networks, and refusals that name the layer and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.native.parts import function
from torch import Tensor, nn
from torch.nn import functional as F

from convscope import create_model, layers
from convscope.errors import ArgumentError, LoweringError
from convscope.native import lower


def test_a_plan_in_full() -> None:
    model = nn.Sequential()
    model.add_module("c1", nn.Conv2d(1, 6, 5, padding=2))
    model.add_module("act", nn.ReLU())
    model.add_module("s2", nn.MaxPool2d(2))
    model.add_module("flatten", nn.Flatten())
    model.add_module("output", nn.Linear(1176, 10))
    plan = lower(model, (1, 28, 28), "cross_entropy")
    places = {"c1.weight": 0, "c1.bias": 150, "output.weight": 156, "output.bias": 11916}
    conv = {"out_channels": 6, "kernel_size": [5, 5], "stride": [1, 1], "padding": [2, 2], "dilation": [1, 1]}
    pool = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0, 0], "ceil_mode": 0}
    wanted: list[dict[str, Any]] = [
        {"kind": "conv2d", "name": "c1", "inputs": [0], "output": 1,
         "attributes": {**conv, "groups": 1, "flip_kernel": 0}, "parameters": {"weight": 0, "bias": 150}},
        {"kind": "relu", "name": "act", "inputs": [1], "output": 2, "attributes": {}, "parameters": {}},
        {"kind": "max_pool", "name": "s2", "inputs": [2], "output": 3, "attributes": pool, "parameters": {}},
        {"kind": "flatten", "name": "output", "inputs": [3], "output": 4, "attributes": {}, "parameters": {}},
        {"kind": "linear", "name": "output", "inputs": [4], "output": 5, "attributes": {"out_features": 10},
         "parameters": {"weight": 156, "bias": 11916}},
        {"kind": "cross_entropy", "name": "loss", "inputs": [5], "attributes": {"weight": 1.0}, "parameters": {}},
    ]  # fmt: skip
    assert plan.bind(places, {}) == [{**record, "state": {}, "trainable": True} for record in wanted]
    assert [(each.number, each.shape) for each in plan.outputs] == [(5, (10,))]
    assert not plan.training
    assert "s2: max_pool(kernel_size=[2, 2]" in plan.describe()


def test_lenet5_of_1998() -> None:
    plan = lower(create_model("lenet5_1998"), (1, 32, 32), "rbf")
    kinds = [record.kind for record in plan.records]
    assert kinds.count("subsample") == 2
    assert kinds.count("scaled_tanh") == 6
    assert kinds[-2:] == ["rbf_units", "rbf_loss"]
    tables = [record.attributes["table"] for record in plan.records if "table" in record.attributes]
    assert tables == [[list(maps) for maps in layers.LENET5_C3]]
    assert [record.state for record in plan.records if record.state] == [{"weight": "output.weight"}]


def test_modes_are_those_of_the_modules() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2))
    training = lower(model.train(), (3, 8, 8))
    assert [record.kind for record in training.records] == ["conv2d", "batch_norm", "dropout"]
    assert (training.training, training.counters) == (True, ("1.num_batches_tracked",))
    evaluation = lower(model.eval(), (3, 8, 8))
    assert [record.kind for record in evaluation.records] == ["conv2d", "batch_norm"]
    assert (evaluation.training, evaluation.counters) == (False, ())
    model.train()
    model[1].eval()
    mixed = lower(model, (3, 8, 8))
    assert [record.kind for record in mixed.records] == ["conv2d", "subsample", "subsample", "dropout"]
    assert [record.trainable for record in mixed.records] == [True, False, True, True]


def test_frozen_layers_are_not_trained() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    model[0].requires_grad_(False)
    plan = lower(model, (3, 9, 9))
    assert [record.trainable for record in plan.records] == [False, True]
    assert plan.trained_names == {"1.weight", "1.bias"}
    assert plan.parameter_names == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_auxiliary_outputs_carry_their_weight() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.main, self.side = nn.Flatten(), nn.Linear(12, 5), nn.Linear(12, 5)

        def forward(self, x: Tensor) -> Any:
            x = self.trunk(x)
            return layers.AuxiliaryOutputs(self.main(x), (self.side(x),), 0.3) if self.training else self.main(x)

    plan = lower(Model(), (3, 2, 2), "cross_entropy")
    assert [record.attributes["weight"] for record in plan.records if record.kind == "cross_entropy"] == [1.0, 0.3]
    assert plan.structure == layers.AuxiliaryOutputs(0, (1,), 0.3)  # type: ignore[arg-type]


def _with_hook() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    model[0].register_forward_hook(lambda module, inputs, output: None)
    return model


def _parametrised() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))


def _changed_view(model: Any, x: Tensor) -> Any:
    y = model.a(x)
    flat = y.flatten(1)
    flat.add_(1)
    return y.relu()


def _changed_part(model: Any, x: Tensor) -> Any:
    y = model.a(x)
    y.chunk(2, dim=1)[0].relu_()
    return y


def _unused_norm(model: Any, x: Tensor) -> Any:
    model.a(x)
    return x * 2


REFUSALS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "channels": (lambda: nn.Sequential(nn.Conv2d(5, 4, 3)), "0", "the model itself fails.*to have 5 channels"),
    "too large": (lambda: nn.Sequential(nn.Conv2d(3, 4, 9)), "0", r"the model itself fails.*Kernel size: \(9 x 9\)"),
    "features": (lambda: nn.Sequential(nn.Flatten(), nn.RNNCell(144, 2)), "1", "the engine has no RNNCell"),
    "wrong features": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 2)), "1", "itself fails.*2x144 and 6x2"),
    "median": (lambda: nn.Sequential(layers.MedianPool2d(2)), "0", "the engine has no median pooling"),
    "indices": (lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "0", "return_indices=True"),
    "hangs over": (lambda: nn.Sequential(nn.MaxPool2d(7, 2, ceil_mode=True)), "0", "hangs over maps of"),
    "locally connected": (
        lambda: nn.Sequential(layers.LocallyConnected2d(3, 4, 3, (8, 6))), "0", "the engine has no LocallyConnected2d"),
    "combined": (lambda: nn.Sequential(layers.CombinedConv2d(3, 4, 3)), "0", "the engine has no CombinedConv2d"),
    "softplus": (lambda: nn.Sequential(nn.Softplus(threshold=5)), "0", "threshold=5"),
    "softmax dim": (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(dim=0)), "1", "softmax over dim 0, the batch"),
    "momentum": (lambda: nn.Sequential(nn.BatchNorm2d(3, momentum=None)), "0", "momentum=None averages over all"),
    "flatten": (function(lambda s, x: torch.flatten(x)), "flatten", "the engine keeps the batch as it is"),
    "view": (function(lambda s, x: x.view(-1, 72)), "view", "would mix images of the batch"),
    "view fixed": (function(lambda s, x: x.view(4, -1)), "view", r"give it as x.size\(0\) or -1"),
    "batch arithmetic": (function(lambda s, x: x.view(x.size(0) * 2, -1)), "mul", "computes with the number of images"),
    "squeeze": (function(lambda s, x: x.mean((2, 3), True).squeeze()), "squeeze", "also the batch's"),
    "mean": (function(lambda s, x: x.mean()), "mean", "mean over all sides, also the batch's"),
    "mean of the batch": (function(lambda s, x: x.mean(0)), "mean", "mean over 0, the batch"),
    "no channels": (function(lambda s, x: x[:, 5:]), "getitem", "takes the part"),
    "parts too large": (function(lambda s, x: torch.split(x, [1, 1], 1)[0]), "model", "itself fails.*sum exactly to 3"),
    "part in place": (
        function(_changed_part, a=lambda: nn.Conv2d(3, 4, 3)), "model", "the model itself fails.*is being modified"),
    "shuffle": (lambda: nn.Sequential(nn.ChannelShuffle(2)), "0", "the model itself fails.*divisible by groups"),
    "cat sides": (
        function(lambda s, x: torch.cat((x, F.max_pool2d(x, 2)), 1)), "model", "itself fails.*Sizes of tensors"),
    "function": (function(lambda s, x: torch.fft.fft(x)), "fft_fft", r"the engine has no function .*fft"),
    "method": (function(lambda s, x: x.cumsum(1)), "cumsum", "the engine has no tensor method 'cumsum'"),
    "detach": (function(lambda s, x: x.detach()), "detach", "the engine has no tensor method 'detach'"),
    "control flow": (function(lambda s, x: x if x.sum() > 0 else -x), "model", "seen of it: its way depends"),
    "hook": (_with_hook, "0", "has forward hooks, which the engine would not call"),
    "parametrised": (_parametrised, "_weight_norm", "the engine has no function torch._weight_norm"),
    "changed view": (
        function(_changed_view, a=lambda: nn.Conv2d(3, 4, 3)), "with_part", "no function convscope.graph.memory"),
    "unused norm": (function(_unused_norm, a=lambda: nn.BatchNorm2d(3)), "a", "updates its running statistics"),
    "returns a number": (function(lambda s, x: (x.relu(), 5)), "output", "the model returns a int"),
    "alpha": (function(lambda s, x: torch.add(1.0, x, alpha=2)), "add", "alpha with a number in front"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_layer_and_reason(name: str) -> None:
    make, layer, reason = REFUSALS[name]
    with pytest.raises(LoweringError, match=f"layer '{layer}': .*{reason}"):
        lower(make(), (3, 8, 6))


def test_a_second_input_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(LoweringError, match="layer 'y': is a second input"):
        lower(Two(), (3, 8, 6))


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), "reduction='sum'"),
        (nn.CrossEntropyLoss(weight=torch.ones(4)), "has weights for the classes"),
        (nn.CrossEntropyLoss(ignore_index=3), "ignore_index=3"),
        (nn.HuberLoss(), "the engine has no HuberLoss"),
    ],
)
def test_losses_that_are_refused(loss: nn.Module, reason: str) -> None:
    with pytest.raises(LoweringError, match=reason):
        lower(nn.Flatten(), (3, 8, 6), loss)


def test_a_loss_takes_one_vector_an_image() -> None:
    with pytest.raises(LoweringError, match=r"layer 'loss': takes \(n, 4, 6, 4\)"):
        lower(nn.Conv2d(3, 4, 3), (3, 8, 6), "cross_entropy")
    with pytest.raises(LoweringError, match="layer 'loss': the model returns several values"):
        lower(function(lambda s, x: (x.flatten(1), x.flatten(1)))(), (3, 8, 6), "cross_entropy")


@pytest.mark.parametrize("shape", [(3, 8), (3, 0, 8), (3.0, 8, 8), (True, 8, 8)])
def test_shapes_that_are_none(shape: tuple[Any, ...]) -> None:
    with pytest.raises(ArgumentError, match="input_shape: got .*, wanted three integers ≥ 1"):
        lower(nn.ReLU(), shape)
