"""Operations that move numbers about: each rule's δ is the exact adjoint."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from tests.oracles import check_rule
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.base import Applied
from convscope.rules.reshape import ChannelShuffle, Copy, Expand, Permute, Reshape, Select, Slice, Split, Total

X = torch.randn(2, 6, 3, 4, dtype=torch.float64)
INDICES: list[Any] = [
    0, (slice(None), 2), (..., slice(1, None, 2)), (slice(None), [0, 2, 2]), (slice(None), torch.tensor([1, 1, 5])),
    (None, 1), X > 0, (slice(None), slice(4, 1), 0),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=[f"index {number}" for number in range(len(INDICES))])
def test_slices(index: Any) -> None:
    check_rule(Slice(index), lambda x: x[index], [X])


def test_simple_moves() -> None:
    check_rule(Reshape((12, 12)), lambda x: x.reshape(12, 12), [X])
    check_rule(Permute((0, 2, 3, 1)), lambda x: x.permute(0, 2, 3, 1), [X])
    check_rule(Permute((-1, 0, 2, 1)), lambda x: x.permute(-1, 0, 2, 1), [X])
    check_rule(Copy(), lambda x: x.clone(), [X])
    check_rule(Select(), lambda x: x.clone(), [X])
    check_rule(Expand((5, 2, 3)), lambda x: x.expand(5, 2, 3), [X[:, 0, :1, :3].reshape(2, 3)[:, :3]])
    check_rule(Expand((4, 3)), lambda x: x.expand(4, 3), [X[0, 0, :, :1].T.contiguous()])


@pytest.mark.parametrize("over", [None, (1,), (2, 3), (-1, -2), (0, 1, 2, 3)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_sums_and_means(over: tuple[int, ...] | None, keepdim: bool) -> None:
    dims = over if over is not None else (0, 1, 2, 3)
    if over is None:
        keepdim = False
    check_rule(Total(over, keepdim), lambda x: x.sum(dims, keepdim), [X])
    check_rule(Total(over, keepdim, mean=True), lambda x: x.mean(dims, keepdim), [X])


def test_split_with_an_unused_part() -> None:
    rule = Split((1, 2, 3), 1)
    parts, saved = rule.forward(X)
    assert [part.shape[1] for part in parts] == [1, 2, 3]
    assert set(saved) == set(rule.needs)
    ones = torch.ones_like(parts[2])
    ((delta,), _) = rule.backward(saved, (None, None, ones))
    assert delta is not None
    assert delta.sum((0, 2, 3)).tolist() == [0, 0, 0, 24, 24, 24]


METHODS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("view", (2, -1), {}), ("view", ((2, -1),), {}), ("reshape", (-1,), {}), ("flatten", (), {}), ("flatten", (1,), {}),
    ("flatten", (), {"start_dim": 1, "end_dim": 2}), ("unsqueeze", (1,), {}), ("unsqueeze", (-1,), {}),
    ("squeeze", (), {}), ("squeeze", (0,), {}), ("permute", (0, 2, 3, 1), {}), ("permute", ((3, 2, 1, 0),), {}),
    ("transpose", (1, 2), {}), ("transpose", (-1, 0), {}), ("contiguous", (), {}), ("clone", (), {}),
    ("expand", (3, 2, 6, 3, 4), {}), ("expand", (-1, -1, -1, 4), {}), ("chunk", (4, 1), {}), ("split", (2, 1), {}),
    ("split", ([1, 5],), {"dim": 1}), ("mean", (), {}), ("mean", ((2, 3),), {}), ("mean", (), {"dim": -1}),
    ("mean", ([2, 3],), {"keepdim": True}), ("sum", (1,), {}), ("sum", (), {}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "args", "kwargs"), METHODS, ids=lambda item: getattr(item, "__name__", str(item)))
def test_bound_methods(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    applied = base.apply_method(method, (X, *args), kwargs)
    assert applied is not None
    _compare(applied, getattr(X, method)(*args, **kwargs))
    function = getattr(torch, method, None)
    if function is not None and method != "reshape" and base.apply_function(function, (X, *args), kwargs) is not None:
        again = base.apply_function(function, (X, *args), kwargs)
        assert again is not None
        _compare(again, function(X, *args, **kwargs))


def _compare(applied: Applied, expected: Any) -> None:
    y, _ = applied.rule.forward(*applied.inputs)
    mine, theirs = (list(y), list(expected)) if isinstance(y, tuple) else ([y], [expected])
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("function", [torch.flatten, torch.squeeze, torch.reshape, torch.permute, torch.unsqueeze])
def test_bound_functions(function: Any) -> None:
    more: dict[Any, tuple[Any, ...]] = {torch.reshape: ((-1,),), torch.permute: ((1, 0, 2, 3),), torch.unsqueeze: (0,)}
    arguments = (X, *more.get(function, ()))
    applied = base.apply_function(function, arguments, {})
    assert applied is not None
    _compare(applied, function(*arguments))


def test_channel_shuffle() -> None:
    """Six channels as 2 × 3, written column by column; and every divisor against torch."""
    row, _ = ChannelShuffle(2).forward(torch.arange(6.0).reshape(1, 6, 1, 1))
    assert row.flatten().tolist() == [0, 3, 1, 4, 2, 5]
    for groups in (1, 2, 3, 6):
        check_rule(ChannelShuffle(groups), lambda x, g=groups: torch.channel_shuffle(x, g), [X])
    applied = base.apply_function(torch.channel_shuffle, (X, 3), {})
    assert applied is not None
    _compare(applied, torch.channel_shuffle(X, 3))
    with pytest.raises(ArgumentError, match="groups: got 4, wanted a divisor of the 6 channels"):
        ChannelShuffle(4).forward(X)
    with pytest.raises(ArgumentError, match="groups: got 0, wanted an integer ≥ 1"):
        ChannelShuffle(0)


@pytest.mark.parametrize(
    "module", [nn.ChannelShuffle(3), nn.Flatten(), nn.Flatten(0, 2), nn.Unflatten(1, (2, 3))], ids=str
)
def test_bound_modules(module: nn.Module) -> None:
    applied = base.apply_module(module, (X,), {})
    assert applied is not None
    check_rule(applied.rule, module, [X])


def test_getitem_of_tensors_and_of_several_outputs() -> None:
    sliced = base.apply_function(operator.getitem, (X, (slice(None), 1)), {})
    assert sliced is not None
    _compare(sliced, X[:, 1])
    chosen = base.apply_function(operator.getitem, ((X, X * 2), 1), {})
    assert chosen is not None
    _compare(chosen, X * 2)
    assert base.apply_function(operator.getitem, (torch.arange(3), 0), {}) is None
    assert base.apply_function(operator.getitem, ((1, 2), 0), {}) is None
    assert base.apply_method("view", (X, torch.int64), {}) is None
    assert base.apply_method("t", (X,), {}) is None


def test_canary() -> None:
    """An index chosen twice must get both δ."""

    class Wrong(Slice):
        def backward(self, saved: Any, delta: Tensor) -> Any:
            whole = delta.new_zeros(saved["shape"])
            whole[self.index] = delta
            return (whole,), {}

    with pytest.raises(AssertionError, match="input 0 against autograd"):
        check_rule(Wrong((slice(None), [0, 0])), lambda x: x[:, [0, 0]], [X])
