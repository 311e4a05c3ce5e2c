"""Random graphs of random layers: whatever lowers computes what torch computes."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.native import comparing
from tests.native.comparing import WHOLE_NETWORK, pictures, randomised
from torch import Tensor, nn

from convscope import layers
from convscope.native import accelerate


class Graph(nn.Module):
    """Layers in a row; some add or append an earlier value of fitting shape."""

    def __init__(self, parts: list[nn.Module], joins: dict[int, tuple[str, int]]) -> None:
        super().__init__()
        self.parts, self.joins = nn.ModuleList(parts), joins

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for index, part in enumerate(self.parts):
            y: Tensor = part(values[-1])
            how, which = self.joins.get(index, ("", 0))
            if how == "add":
                y = y + values[which]
            elif how == "concatenate":
                y = torch.cat((y, values[which]), 1)
            values.append(y)
        return values[-1]


ACTIVATIONS = [
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, layers.ScaledTanh, lambda: nn.LeakyReLU(0.1), nn.ELU, nn.Softplus,
]  # fmt: skip


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, tuple[int, int, int], int]:
    channels, height, width = (
        draw(st.sampled_from([1, 2, 3, 5, 17])),
        draw(st.integers(3, 11)),
        draw(st.integers(3, 11)),
    )
    shape = (channels, height, width)
    parts: list[nn.Module] = []
    shapes = [shape]
    joins: dict[int, tuple[str, int]] = {}
    for index in range(draw(st.integers(1, 6))):
        c, h, w = shapes[-1]
        kind = draw(st.sampled_from(["conv", "conv", "pool", "activation", "norm", "lrn", "subsample"]))
        if kind in ("pool", "subsample") and min(h, w) < 2:
            kind = "activation"
        part, now = _layer(draw, kind, c, h, w)
        same = [i for i, each in enumerate(shapes) if each == now]
        alike = [i for i, each in enumerate(shapes) if each[1:] == now[1:]]
        if same and draw(st.sampled_from([True, False])):
            joins[index] = ("add", draw(st.sampled_from(same)))
        elif alike and draw(st.integers(0, 3)) == 0 and now[0] < 40:
            which = draw(st.sampled_from(alike))
            joins[index] = ("concatenate", which)
            now = (now[0] + shapes[which][0], *now[1:])
        parts.append(part)
        shapes.append(now)
    if draw(st.booleans()):
        c, h, w = shapes[-1]
        parts.append(nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, draw(st.sampled_from([1, 4, 19])))))
    count = draw(st.sampled_from([1, 2, 15, 16, 17, 33]))
    return Graph(parts, joins), shape, count


def _layer(draw: st.DrawFn, kind: str, c: int, h: int, w: int) -> tuple[nn.Module, tuple[int, int, int]]:
    pair: Any = st.tuples
    if kind == "conv":
        groups = draw(st.sampled_from([1, 1, 1, c]))
        out = groups * draw(st.sampled_from([1, 2, 3] if groups > 1 else [1, 4, 7, 16, 18]))
        padding = draw(pair(st.integers(0, 2), st.integers(0, 2)))
        kernel = tuple(draw(st.integers(1, min(4, side + 2 * p))) for side, p in zip((h, w), padding, strict=True))
        stride = draw(pair(st.integers(1, 3), st.integers(1, 2)))
        flip, bias = (draw(st.sampled_from([True, False])) for _ in range(2))
        layer = layers.Conv2d(c, out, kernel, stride, padding, 1, groups, bias, flip_kernel=flip)
        size = [(side + 2 * p - k) // s + 1 for side, p, k, s in zip((h, w), padding, kernel, stride, strict=True)]
        return layer, (out, size[0], size[1])
    if kind == "pool":
        kernel = draw(pair(st.integers(2, min(h, 3)), st.integers(2, min(w, 3))))
        stride = draw(pair(st.integers(1, 3), st.integers(1, 3)))
        make = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d, layers.SumPool2d, layers.L2Pool2d]))
        pool = make(kernel, stride, padding=draw(st.integers(0, 1)), ceil_mode=draw(st.booleans()))
        with torch.no_grad():
            after = pool(torch.zeros(1, 1, h, w))
        return pool, (c, after.shape[2], after.shape[3])
    if kind == "subsample":
        return layers.Subsample2d(c, 2, activation=draw(st.sampled_from(["tanh", "sigmoid"]))), (c, h // 2, w // 2)
    if kind == "norm":
        return nn.BatchNorm2d(c).train(draw(st.booleans())), (c, h, w)
    if kind == "lrn":
        return nn.LocalResponseNorm(draw(st.integers(1, 5)), alpha=0.3), (c, h, w)
    make_activation: Any = draw(st.sampled_from(ACTIVATIONS))
    return make_activation(), (c, h, w)


def _difference(drawn: tuple[Graph, tuple[int, int, int], int]) -> comparing.Difference:
    model, shape, count = drawn
    modes = [module.training for module in model.modules()]
    randomised(model)
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    # few values a map make batch normalisation divide by next to nothing, which is noise on both sides
    count = max(count, 8) if any(isinstance(each, nn.BatchNorm2d) for each in model.modules()) else count
    return comparing.difference(model, pictures(count, shape), WHOLE_NETWORK)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graphs(), st.sampled_from(["auto", "always"]))
def test_random_graphs(any_engine: str, drawn: tuple[Graph, tuple[int, int, int], int], winograd: str) -> None:
    with mock.patch.dict(os.environ, CONVSCOPE_WINOGRAD=winograd):
        found = _difference(drawn)
    assert found.value <= found.allowed, f"{found.what}: {found.value:.2e} of the largest in\n{drawn[0]}"


def test_the_comparison_can_fail(any_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_other_weights(model: nn.Module, *rest: Any) -> nn.Module:
        with torch.no_grad():
            for each in model.parameters():
                each.mul_(1.001)
        return accelerate(model, *rest)

    monkeypatch.setattr(comparing, "accelerate", of_other_weights)
    found = _difference((Graph([layers.Conv2d(3, 4, 3)], {}), (3, 6, 5), 16))
    assert found.value > 2 * found.allowed, found.what
