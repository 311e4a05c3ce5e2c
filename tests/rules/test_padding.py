"""Frames around a map, and their adjoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule
from torch import nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.padding import Pad

X = torch.randn(2, 3, 5, 4, dtype=torch.float64)


def test_hand_worked() -> None:
    row = torch.tensor([[[1.0, 2.0, 3.0]]])
    framed = {mode: Pad(((2, 1),), mode).forward(row)[0].flatten().tolist() for mode in ("zeros", "reflect")}
    framed |= {mode: Pad(((2, 1),), mode).forward(row)[0].flatten().tolist() for mode in ("replicate", "circular")}
    assert framed == {
        "zeros": [0, 0, 1, 2, 3, 0],
        "reflect": [3, 2, 1, 2, 3, 2],
        "replicate": [1, 1, 1, 2, 3, 3],
        "circular": [2, 3, 1, 2, 3, 1],
    }


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("edges", [((1, 2), (3, 0)), ((0, 0), (2, 2)), ((2, 1), (1, 3))])
def test_against_torch(mode: str, edges: tuple[tuple[int, int], ...]) -> None:
    torch_s = [*edges[1], *edges[0]]
    check_rule(Pad(edges, mode, 0.0), lambda x: F.pad(x, torch_s, mode), [X])


def test_negative_edges_cut_off() -> None:
    check_rule(Pad(((-1, 2), (0, -2)), value=3.0), lambda x: F.pad(x, [0, -2, -1, 2], value=3.0), [X])


MODULES: list[nn.Module] = [
    nn.ZeroPad2d((1, 2, 0, 1)), nn.ConstantPad2d(1, 2.5), nn.ReflectionPad2d((1, 2, 3, 0)), nn.ReplicationPad2d(2),
    nn.CircularPad2d((1, 0, 2, 1)), nn.ReflectionPad1d(1), nn.ConstantPad3d(1, -1.0),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_bound_modules(module: nn.Module) -> None:
    dims = int(type(module).__name__[-2])
    x = torch.randn(2, 3, *(5, 4, 3)[:dims], dtype=torch.float64)
    applied = base.apply_module(module, (x,), {})
    assert applied is not None
    check_rule(applied.rule, module, [x])


def test_bound_function() -> None:
    applied = base.apply_function(F.pad, (X, [1, 2]), {"value": 4.0})
    assert applied is not None
    torch.testing.assert_close(applied.rule.forward(X)[0], F.pad(X, [1, 2], value=4.0))


def test_canary() -> None:
    with pytest.raises(AssertionError, match="forward"):
        check_rule(Pad(((1, 1), (1, 1)), "reflect"), lambda x: F.pad(x, [1] * 4, "replicate"), [X])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pad(((1, 1),), "mirror"), "mode: got 'mirror', wanted one of zeros, constant"),
        (
            lambda: Pad(((3, 0),), "reflect").forward(torch.zeros(1, 1, 3)),
            r"padding: got \(3, 0\), wanted at most 2 on a map of size 3, for mode reflect",
        ),
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()
