"""Sums, products and joins of maps."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import check_rule
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules import base
from convscope.rules.combine import Add, Concatenate, Divide, MatrixProduct, Multiply, Stack, unbroadcast


def test_hand_worked() -> None:
    a, b, delta = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0]), torch.ones(2, 2)
    y, saved = Multiply().forward(a, b)
    assert y.tolist() == [[10, 40], [30, 80]]
    (to_a, to_b), _ = Multiply().backward(saved, delta)
    assert to_a is not None
    assert to_b is not None
    assert to_a.tolist() == [[10, 20], [10, 20]]
    assert to_b.tolist() == [4, 6]


@st.composite
def broadcastable(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    full = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    shapes = []
    for _ in range(2):
        shape = tuple(draw(st.sampled_from([n, 1])) for n in full)
        shapes.append(shape[draw(st.integers(0, len(full) - 1)) :])
    return shapes[0], shapes[1]


@settings(max_examples=25, deadline=None)
@given(broadcastable())
def test_arithmetic_with_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    a = torch.randn(shapes[0], dtype=torch.float64)
    b = torch.rand(shapes[1], dtype=torch.float64) + 0.5
    for rule, function in (
        (Add(), operator.add),
        (Add(-1.0), operator.sub),
        (Add(2.5), lambda a, b: a + 2.5 * b),
        (Multiply(), operator.mul),
        (Divide(), operator.truediv),
    ):
        check_rule(rule, function, [a, b])


@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (5, 4, 2))])
def test_matrix_product(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    check_rule(MatrixProduct(), torch.matmul, [torch.randn(shape, dtype=torch.float64) for shape in shapes])


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_join(dim: int) -> None:
    shapes = [[2, 3, 4], [2, 3, 4], [2, 3, 4]]
    for index, shape in enumerate(shapes):
        shape[dim] = index + 1
    parts = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    check_rule(Concatenate(dim), lambda *parts: torch.cat(parts, dim), parts)
    alike = [torch.randn(2, 3, dtype=torch.float64) for _ in range(3)]
    check_rule(Stack(dim), lambda *parts: torch.stack(parts, dim), alike)


X, Y = torch.randn(2, 3), torch.randn(2, 3)
CALLS: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (operator.add, (X, Y), {}), (operator.add, (2.0, X), {}), (operator.iadd, (X.clone(), 1), {}),
    (operator.sub, (1.0, X), {}), (operator.mul, (X, 3), {}), (operator.truediv, (1.0, X), {}),
    (operator.neg, (X,), {}), (torch.neg, (X,), {}), (torch.add, (X, Y), {"alpha": 2}),
    (torch.sub, (X, Y), {"alpha": 2}), (torch.mul, (X, Y), {}), (torch.div, (X, Y), {}),
    (torch.matmul, (X, Y.T), {}), (operator.matmul, (X, Y.T), {}), (torch.bmm, (X[None], Y.T[None]), {}),
    (torch.cat, ([X, Y],), {"dim": 1}), (torch.cat, ((X, Y), -1), {}), (torch.stack, ([X, Y],), {"dim": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args", "kwargs"), CALLS, ids=[call[0].__name__ for call in CALLS])
def test_bound_functions(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    applied = base.apply_function(function, args, kwargs)
    assert applied is not None
    y, _ = applied.rule.forward(*applied.inputs)
    torch.testing.assert_close(y, function(*args, **kwargs))


@pytest.mark.parametrize(
    ("method", "args"),
    [("add", (X, 2)), ("sub", (X, Y)), ("mul", (X, Y)), ("div", (X, 2.0)), ("matmul", (X, Y.T))],
)
def test_bound_methods(method: str, args: tuple[Any, ...]) -> None:
    applied = base.apply_method(method, args, {})
    assert applied is not None
    y, _ = applied.rule.forward(*applied.inputs)
    torch.testing.assert_close(y, getattr(args[0], method)(*args[1:]))


def test_what_is_left_to_torch() -> None:
    """Type promotion, integers, odd call forms: no rule, so that torch's own semantics hold."""
    assert base.apply_function(operator.add, (X, Y.double()), {}) is None
    assert base.apply_function(operator.add, (torch.ones(2, dtype=torch.int64), 1), {}) is None
    assert base.apply_function(operator.add, ([1], [2]), {}) is None
    assert base.apply_function(torch.add, (X, Y), {"out": X}) is None
    assert base.apply_function(torch.cat, ([torch.empty(0), X],), {}) is None
    assert base.apply_function(torch.div, (X, Y), {"rounding_mode": "floor"}) is None
    assert base.apply_function(torch.fft.fft, (X,), {}) is None


def test_unbroadcast_of_a_number() -> None:
    assert unbroadcast(X, None) is None


def test_canary() -> None:
    """A broadcast operand's δ that is averaged, not summed."""

    class Wrong(Add):
        def backward(self, saved: Any, delta: Tensor) -> Any:
            return (delta, delta.mean(0)), {}

    with pytest.raises(AssertionError, match="input 1 against autograd"):
        check_rule(Wrong(), operator.add, [X.double(), Y.double()[0]])


def test_error() -> None:
    with pytest.raises(ArgumentError, match=r"b: got \(2, 3\), wanted a matrix of 3 rows"):
        MatrixProduct().forward(X, Y)
