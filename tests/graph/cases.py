"""Models that a capture is tried on, and what a graph consists of."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn


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


class AsksTheMode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if torch.is_grad_enabled() else x


class AsksATensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x.sin()
        return y * 2 if y.requires_grad else y


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
