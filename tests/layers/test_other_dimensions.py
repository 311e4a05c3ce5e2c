"""Whole networks in one and three dimensions, and of separable, transposed, dilated and shuffled convolutions: every
layer by its own rule, equal to autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.oracles import worst
from torch import nn

from convscope import layers
from convscope.rules import tape
from convscope.rules.local_autograd import LocalAutograd

NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "one_dimension": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 5, stride=2, padding=1, dilation=2),
            nn.BatchNorm1d(4),
            nn.Tanh(),
            nn.MaxPool1d(3, 2, 1),
            nn.ConvTranspose1d(4, 2, 3, stride=2),
            nn.AvgPool1d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(18, 3),
        ),
        (5, 3, 37),
    ),
    "three_dimensions": (
        lambda: nn.Sequential(
            nn.Conv3d(1, 4, (3, 2, 3), stride=(1, 2, 1), padding=1),
            nn.BatchNorm3d(4),
            nn.ReLU(),
            nn.MaxPool3d(2, ceil_mode=True),
            nn.Conv3d(4, 4, 2, groups=2),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        (3, 1, 5, 8, 7),
    ),
    "separable_and_shuffled": (
        lambda: nn.Sequential(
            layers.depthwise_separable_conv2d(3, 6, 3, padding=2, dilation=2, between=nn.ReLU),
            nn.ChannelShuffle(3),
            layers.spatially_separable_conv2d(6, 4, (3, 5), stride=(2, 1), padding=(1, 2)),
            nn.GroupNorm(2, 4),
            nn.Sigmoid(),
            nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1, groups=2),
        ),
        (2, 3, 9, 8),
    ),
    "local": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 4),
            nn.MaxPool2d(2),
            layers.LocallySharedConv2d(4, 3, 3, (18, 14), region_size=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            layers.LocallyConnected2d(3, 5, 2, (8, 6)),
        ),
        (1, 1, 39, 31),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_rules_equal_autograd(name: str) -> None:
    torch.manual_seed(len(name))
    make, shape = NETWORKS[name]
    model = make().double()
    x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    y = model(x)
    delta = torch.randn_like(y)
    y.backward(delta)
    ran = tape.forward(model, x.detach())
    assert not [step.name for step in ran if isinstance(step.rule, LocalAutograd)]
    back = ran.backward(delta)
    assert x.grad is not None
    assert back.inputs[0] is not None
    assert worst(back.inputs[0], x.grad) < 1e-9
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert worst(back.gradients[path], parameter.grad) < 1e-9, path
