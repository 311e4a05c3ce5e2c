"""A last batch of one, told before training where the model cannot work on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from convscope.data import Dataset
from convscope.data.order import Order
from convscope.errors import ArgumentError
from convscope.tasks import TASKS
from convscope.training import Config, Result
from convscope.training.smallest import _better_sizes, try_smallest_batch

Fit = Callable[..., Result]


def lonely(norm: bool = True) -> nn.Sequential:
    """Batch normalisation on 1×1 maps: it needs two examples."""
    torch.manual_seed(2)
    layers = [nn.Flatten(), nn.Linear(63, 4), nn.Unflatten(1, (4, 1, 1)), nn.BatchNorm2d(4), nn.Flatten()]
    if not norm:
        del layers[3]
    return nn.Sequential(*layers, nn.Dropout(), nn.Linear(4, 3))


@pytest.mark.parametrize("engine", ["torch", "auto", "rules"])
def test_it_is_told_before_anything_is_written(fitted: Fit, tmp_path: Path, engine: str) -> None:
    message = (
        r"batch_size: got 40, wanted a size that leaves no batch of one \(there are 81 .*batch_size=39 or 41 leaves"
    )
    model = lonely()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    with pytest.raises(ArgumentError, match=message):
        fitted(model, batch_size=40, engine=engine)
    assert not (tmp_path / "run").exists()
    after = model.state_dict()
    assert all(torch.equal(after[name], each) for name, each in before.items())
    assert fitted(lonely(), batch_size=41, engine=engine).stopped == "epochs"


def test_models_that_can_work_on_one_do(fitted: Fit, make_net: Callable[..., nn.Sequential], tmp_path: Path) -> None:
    models = {"maps of 7×5": make_net(batch_norm=True), "no normalisation": lonely(norm=False)}
    for name, model in models.items():
        assert fitted(model, batch_size=40, epochs=1, run_dir=str(tmp_path / name)).stopped == "epochs"


def test_a_try_leaves_chance_and_modes_as_they_were(stripes: Dataset) -> None:
    model = lonely().train()
    model[1].eval()
    prepared = TASKS["classification"]({}).prepare(model, stripes, Config())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with pytest.raises(ArgumentError, match="no batch of one"):
        try_smallest_batch(model, prepared, Order(81, 40, shuffle=False))
    assert torch.equal(torch.rand(3), expected)
    assert [each.training for each in model] == [True, False, *[True] * 5]


@pytest.mark.parametrize(("examples", "world"), [(81, 1), (81, 2), (17, 1), (7, 3), (2, 1), (3, 1), (100, 4)])
def test_the_sizes_that_are_offered_leave_none(examples: int, world: int) -> None:
    for batch_size in range(world, examples + 3):
        for size in _better_sizes(examples, batch_size, world):
            shares = [
                len(order.own(index))
                for rank in range(world)
                for order in [Order(examples, size, rank=rank, world=world)]
                for index in range(order.count)
            ]
            assert min(shares) > 1, (examples, world, size)
