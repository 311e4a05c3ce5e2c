"""Units that a reader sends nothing back to: δ is autograd's all the same, and the reason is named."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch
from tests.explorer.fixtures import reference
from tests.explorer.test_arithmetic import closes, snapshot_of
from torch import Tensor, nn

from convscope.explorer.apart_backward import take_back


class Projected(nn.Module):
    """A residual block of stride 2: a 3×3 branch beside a 1×1 projection, which steps over three places of four."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.branch = nn.Conv2d(4, 6, 3, 2, 1, bias=False)
        self.project = nn.Conv2d(4, 6, 1, 2, bias=False)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(6 * 4 * 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        y: Tensor = self.head(self.flatten(self.branch(x) + self.project(x)))
        return y


def before(reader: nn.Module, size: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), reader, nn.Flatten(), nn.Linear(size, 3))


STEPPING: dict[str, nn.Module] = {
    "conv": before(nn.Conv2d(3, 2, 1, stride=2), 2 * 4 * 3),
    "grouped": before(nn.Conv2d(3, 3, 1, stride=3, groups=3), 3 * 3 * 2),
    "mean_pool": before(nn.AvgPool2d(1, 2), 3 * 4 * 3),
    "max_pool": before(nn.MaxPool2d(2, 3), 3 * 3 * 2),
}


@pytest.mark.parametrize("name", STEPPING)
def test_a_place_that_windows_step_over_has_a_delta_of_nothing(name: str) -> None:
    model = STEPPING[name].double().eval()
    snapshot = snapshot_of(model, (1, 8, 6))
    truth = reference(model, snapshot.question.x, 1)
    seen: set[tuple[str, str]] = set()
    for unit in itertools.product(range(3), range(8), range(6)):
        found = snapshot.backward("0", unit)
        closes(found, float(truth.grad_y["0"][(0, *unit)]))
        json.dumps(found.page())
        seen.update(found.silent)
        if not len(found.terms):
            assert found.silent == (("1", "stepped_over"),)
    assert ("1", "stepped_over") in seen


def test_beside_a_projection_every_unit_is_explained_and_both_readers_are_named() -> None:
    model = Projected().double().eval()
    snapshot = snapshot_of(model, (1, 8, 6))
    truth = reference(model, snapshot.question.x, 1)
    for unit in itertools.product(range(4), range(8), range(6)):
        found = snapshot.backward("relu", unit)
        closes(found, float(truth.grad_x["relu"][(0, *unit)]))
        assert found.origins == ("branch", "project")
        odd = unit[1] % 2 == 1 or unit[2] % 2 == 1
        assert found.silent == ((("project", "stepped_over"),) if odd else ())
        assert found.terms.origin is not None
        assert set(found.terms.origin.tolist()) == ({0} if odd else {0, 1})
    panels = take_back(snapshot, "relu", 1)[0]["panels"]
    assert [panel["layer"] for panel in panels if panel["role"] == "source"] == ["branch", "project"]


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)], ids=["apart", "overlapping"])
def test_who_loses_every_window_is_told_so(pool: nn.Module) -> None:
    model = before(pool, 3 * 4 * 3).double().eval()
    snapshot = snapshot_of(model, (1, 8, 6))
    x: Any = snapshot.layers["1"].inputs[0]
    (won,) = torch.autograd.grad(pool(y := x.clone().requires_grad_()).sum(), y)
    lost = 0
    for unit in itertools.product(range(3), range(8), range(6)):
        loses = float(won[(0, *unit)]) == 0
        assert snapshot.backward("0", unit).silent == ((("1", "lost"),) if loses else ())
        lost += loses
    assert 0 < lost < won.numel()
