"""Losses: the rule's sensitivity against autograd and differences, hand-worked values, predictions."""

from __future__ import annotations

import math

import pytest
import torch
from tests.oracles import slope, worst
from torch import nn

from convscope import layers
from convscope.errors import ArgumentError
from convscope.layers import LOSSES, AuxiliaryOutputs, loss_for


def draw(batch: int = 5, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * classes)
    y = torch.randn(batch, classes, dtype=torch.float64, generator=generator).abs() * 3
    return y, torch.randint(0, classes, (batch,), generator=generator)


@pytest.mark.parametrize("batch", [1, 16, 17])
@pytest.mark.parametrize("name", LOSSES)
def test_delta_equals_autograd(name: str, batch: int) -> None:
    y, t = draw(batch)
    leaf = y.clone().requires_grad_()
    value = LOSSES[name].value(leaf, t)
    value.backward()  # type: ignore[no-untyped-call]
    own, delta = LOSSES[name].value_and_delta(y, t)
    assert leaf.grad is not None
    assert isinstance(delta, torch.Tensor)
    assert own.item() == pytest.approx(value.item(), rel=1e-12)
    assert worst(delta, leaf.grad) < 1e-12
    assert worst(delta * 1.0001, leaf.grad) > 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_delta_by_finite_differences(name: str) -> None:
    y, t = draw()
    direction = torch.randn_like(y)
    _, delta = LOSSES[name].value_and_delta(y, t)
    assert isinstance(delta, torch.Tensor)
    measured = slope(lambda at: LOSSES[name].value(at, t), y, direction)
    assert float((delta * direction).sum()) == pytest.approx(measured, rel=1e-6)


def test_by_hand() -> None:
    y, t = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    assert LOSSES["cross_entropy"].value(y, t).item() == pytest.approx(math.log1p(math.exp(-2)))
    assert LOSSES["squared_error"].value(y, t).item() == pytest.approx(0.5)  # ½((1−2)² + 0²)
    assert LOSSES["mean_squared_error"].value(y, t).item() == pytest.approx(0.5)  # mean of 1 and 0
    assert LOSSES["hinge"].value(y, t).item() == 0
    assert LOSSES["hinge"].value(y, 1 - t).item() == pytest.approx(1.5)  # (1 − 0 + 2)/2 classes
    both = math.log1p(math.exp(-2)) + math.log(2)
    assert LOSSES["binary_cross_entropy"].value(y, t).item() == pytest.approx(both)
    rivals = math.log(math.exp(-0.1) + math.exp(-2) + 1)
    assert LOSSES["rbf"].value(y, t).item() == pytest.approx(2 + rivals)


def test_nothing_overflows() -> None:
    y, t = torch.tensor([[1000.0, -1000.0]]), torch.tensor([1])
    for loss in LOSSES.values():
        value, delta = loss.value_and_delta(y, t)
        assert isinstance(delta, torch.Tensor)
        assert torch.isfinite(value)
        assert torch.isfinite(delta).all()
        assert torch.isfinite(loss.value(y, t))


def test_predictions() -> None:
    y, _ = draw()
    for name, loss in LOSSES.items():
        scores = loss.predictions(y)
        assert isinstance(scores, torch.Tensor)
        expected = y.argmin(1) if name == "rbf" else y.argmax(1)  # RBF outputs are distances
        assert torch.equal(scores.argmax(1), expected)


def test_one_binary_column_decides_between_two_classes() -> None:
    loss = LOSSES["binary_cross_entropy"]
    y, t = torch.tensor([[-1.0], [2.0]]), torch.tensor([0, 1])
    assert loss.predictions(y).argmax(1).tolist() == [0, 1]
    assert loss.value(y, t).item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2)


def test_numbers_as_targets() -> None:
    y, t = torch.tensor([[0.5, -0.5]]), torch.tensor([[1.0, 0.0]])
    assert LOSSES["squared_error"].value(y, t).item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("last", "targets"),
    [(nn.Tanh(), (-1, 1)), (layers.ScaledTanh(), (-1, 1)), (nn.Sigmoid(), (0, 1)), (nn.Linear(3, 3), (0, 1))],
)
def test_targets_follow_the_output_range(last: nn.Module, targets: tuple[int, int]) -> None:
    loss = loss_for("squared_error", nn.Sequential(nn.Linear(2, 3), last))
    assert isinstance(loss, layers.losses.SquaredError)
    assert (loss.low, loss.high) == targets
    assert set(loss.numbers(torch.zeros(1, 3), torch.tensor([1])).flatten().tolist()) == set(map(float, targets))


def test_auxiliary_outputs_are_weighed() -> None:
    y, t = draw()
    loss = LOSSES["cross_entropy"]
    outputs = AuxiliaryOutputs(y, (y * 2, -y), 0.3)
    value, deltas = loss.value_and_delta(outputs, t)
    single = [loss.value(each, t).item() for each in (y, y * 2, -y)]
    assert value.item() == pytest.approx(single[0] + 0.3 * (single[1] + single[2]))
    assert loss.value(outputs, t).item() == pytest.approx(value.item())
    assert isinstance(deltas, AuxiliaryOutputs)
    own = loss.value_and_delta(-y, t)[1]
    assert isinstance(own, torch.Tensor)
    assert torch.allclose(deltas.auxiliary[1], 0.3 * own)
    assert loss.predictions(outputs) is y


@pytest.mark.parametrize(
    "targets", [torch.tensor([0, 1]), torch.tensor([0.5] * 5), torch.zeros(5, 2, dtype=torch.int64)]
)
def test_wrong_targets_are_refused(targets: torch.Tensor) -> None:
    y, _ = draw()
    for name in ("cross_entropy", "hinge", "rbf"):
        with pytest.raises(ArgumentError, match="targets: got"):
            LOSSES[name].value(y, targets)
        with pytest.raises(ArgumentError, match="targets: got"):
            LOSSES[name].value_and_delta(y, targets)
