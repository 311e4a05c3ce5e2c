"""What changes memory in place, and what cannot be seen through, as steps of a model run by the rules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from tests.oracles import check_model
from torch import Tensor, nn


class InPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kept = x * 2
        alias = kept.view(kept.shape)
        tripled = kept.mul_(3.0)
        alias.add_(1.0)
        kept.add_(tripled)
        one, two = kept[:, :1], kept[:, 1:]
        one.mul_(2.0)
        F.relu(two, True)
        y: Tensor = one + two * F.leaky_relu_(two - 1, 0.1)
        return y


def test_in_place_operations_act_on_every_name_of_the_memory() -> None:
    """``kept`` is ``alias`` is ``tripled``: what is done to one is done to all, but a saved value stays."""
    check_model(InPlace(), torch.randn(3, 2))


def test_in_place_on_part_of_the_memory_changes_the_whole() -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kept = x * 2
            part = kept.view(-1)
            part.mul_(3.0)
            kept[:, 1] = kept[:, 0] + x[:, 2]
            kept.narrow(1, 2, 2).transpose(0, 1).add_(x[:, 3])
            kept[:, ::2] += 1
            kept[kept > 2] = 0.5
            y: Tensor = kept * part.view(kept.shape)
            return y

    ran = check_model(Part(), torch.randn(3, 5))
    assert {"with_part", "with_item"} <= {step.name for step in ran}


class Opaque(nn.Module):
    """Untraceable, with parameters, a stochastic step and an in-place change of its own input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 100:
            return x
        x *= 2
        y: Tensor = F.dropout(self.conv(x), 0.5, self.training)
        return y


def test_modules_without_a_rule() -> None:
    check_model(
        nn.Sequential(nn.Conv2d(2, 3, 3), Opaque(), nn.PReLU(3), nn.Upsample(scale_factor=2)), torch.randn(2, 2, 5, 5)
    )
    check_model(Opaque(), torch.randn(2, 3, 5, 4))
    check_model(
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), nn.ReLU()), torch.randn(1, 2, 5, 5)
    )


def test_a_step_that_changes_its_input_which_is_used_later_takes_the_module_around_it() -> None:
    class Later(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.opaque = Opaque()

        def forward(self, x: Tensor) -> Tensor:
            y = x + 1
            z: Tensor = self.opaque(y) + y
            return z

    ran = check_model(nn.Sequential(nn.Conv2d(2, 3, 1), Later(), nn.ReLU()), torch.randn(1, 2, 4, 4))
    assert [step.name for step in ran] == ["0", "1", "2"]
    assert ran.steps[1].reason == "1.opaque changes a tensor in place"


def test_custom_subclass_with_its_own_forward() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(input, weight, self.bias, self.stride, self.padding)

    check_model(nn.Sequential(Standardised(2, 3, 3, 2), nn.ReLU()), torch.randn(2, 2, 7, 5))
