"""What is recorded of the layers, against hand-worked values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from convscope.layers import LOSSES
from convscope.tasks.classification.task import ClassificationObjective
from convscope.training import Result, events
from convscope.training.watching import BINS, watch


def test_figures_of_a_hand_made_network() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2), nn.Dropout(0.5)).train()
    with torch.no_grad():
        net.get_parameter("0.weight").copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
        net.get_parameter("0.bias").zero_()
        net.get_parameter("2.weight").fill_(0.5)
        net.get_parameter("2.bias").zero_()
    x, targets = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([0, 1])
    seen = watch(net, [x], targets, ClassificationObjective(LOSSES["squared_error"]))
    first, rectified, last = seen.layers[:3]
    assert first.mean == pytest.approx((1 + 2 - 3 + 3 + 0 - 3) / 6), "before the ReLU that works in place"
    assert rectified.units == 3
    assert rectified.dead == pytest.approx(1 / 3)
    assert first.dead is None
    # y = 1.5 for all four outputs; J = ½Σ(y − t)²/2, so ∂J/∂y = (y − t)/2
    assert last.mean == 1.5
    assert last.delta_mean == pytest.approx((0.5 + 1.5 + 1.5 + 0.5) / 2 / 4)
    assert seen.tensors["1/activation_counts"].sum() == 6
    assert seen.tensors["1/activation_range"].tolist() == [0.0, 3.0]
    assert seen.tensors["0/delta_counts"].shape == (BINS,)
    assert net.training
    assert net.get_parameter("0.weight").grad is None
    assert not any(module._forward_hooks for module in net.modules())


def test_kernels_and_histograms_of_every_epoch_are_kept(fitted: Callable[..., Result], net: nn.Sequential) -> None:
    seen: list[events.Event] = []
    result = fitted(net, watch=True, epochs=2, listeners=[seen.append])
    watched = [each for each in seen if isinstance(each, events.LayersWatched)]
    assert [each.epoch for each in watched] == [1, 2]
    assert [layer.kind for layer in watched[0].layers] == [
        "Conv2d",
        "ReLU",
        "MaxPool2d",
        "Flatten",
        "Dropout",
        "Linear",
    ]
    kernels = [load_file(Path(result.run_dir) / "watch" / f"epoch-000{n}.safetensors")["0/kernels"] for n in (1, 2)]
    assert kernels[0].shape == (5, 1, 3, 3)
    assert not torch.equal(*kernels)
    assert torch.equal(kernels[1], net.get_parameter("0.weight"))
