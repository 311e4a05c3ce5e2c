"""The affine grid and the bilinear sampler against torch's, against loops, and by finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.oracles import check_rule, worst
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.rules import tape
from convscope.rules.sampling import PADDINGS, AffineGrid, GridSample

MODES = list(itertools.product(PADDINGS, [False, True]))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior")
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (1, 1)])
def test_the_grid_is_torchs(size: tuple[int, int], align_corners: bool) -> None:
    check_rule(
        AffineGrid(size, align_corners),
        lambda theta: F.affine_grid(theta, [3, 2, *size], align_corners=align_corners),
        [draw(3, 2, 3)],
    )


@pytest.mark.parametrize(("padding_mode", "align_corners"), MODES)
@pytest.mark.parametrize(("size", "out"), [((5, 7), (4, 6)), ((1, 3), (2, 2)), ((4, 4), (1, 5))])
def test_the_sampler_is_torchs(
    padding_mode: str, align_corners: bool, size: tuple[int, int], out: tuple[int, int]
) -> None:
    """Half of the places are beyond the picture, some by more than its size."""
    check_rule(
        GridSample(padding_mode, align_corners),
        lambda x, grid: F.grid_sample(x, grid, "bilinear", padding_mode, align_corners=align_corners),
        [draw(2, 3, *size), 1.5 * draw(2, *out, 2, seed=1)],
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_sampler_by_loops(align_corners: bool) -> None:
    """Every output from its definition: sums over all pixels of hats around the place."""
    x, grid = draw(2, 2, 4, 5), 1.2 * draw(2, 3, 3, 2, seed=1)
    y, _ = GridSample("zeros", align_corners).forward(x, grid)
    for n, u, v in itertools.product(range(2), range(3), range(3)):
        across, down = grid[n, u, v].tolist()
        if align_corners:
            c, r = (across + 1) / 2 * 4, (down + 1) / 2 * 3
        else:
            c, r = ((across + 1) * 5 - 1) / 2, ((down + 1) * 4 - 1) / 2
        hats = np.maximum(0, 1 - np.abs(r - np.arange(4)))[:, None] * np.maximum(0, 1 - np.abs(c - np.arange(5)))
        for channel in range(2):
            assert float(y[n, channel, u, v]) == pytest.approx(float((x[n, channel].numpy() * hats).sum()), abs=1e-12)


def test_the_identity_leaves_a_picture_as_it_is() -> None:
    x = draw(2, 3, 6, 5)
    theta = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64).expand(2, 2, 3)
    for align_corners in (False, True):
        grid, _ = AffineGrid((6, 5), align_corners).forward(theta)
        y, _ = GridSample("zeros", align_corners).forward(x, grid)
        assert worst(y, x) < 1e-12


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(draw(2, 2, 3, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.theta, [x.shape[0], x.shape[1], 4, 6], align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def test_torchs_functions_go_back_by_the_rules() -> None:
    model, x = Turned(), draw(2, 3, 5, 5).requires_grad_()
    ran = tape.forward(model, x.detach())
    assert [step.rule.kind for step in ran if step.rule.kind == "sampling"] == ["sampling"] * 2
    y = model(x)
    delta = draw(*y.shape, seed=4)
    wanted = torch.autograd.grad(y, [x, model.theta], delta)
    back = ran.backward(delta)
    assert back.inputs[0] is not None
    assert worst(back.inputs[0], wanted[0]) < 1e-12
    assert worst(back.gradients["theta"], wanted[1]) < 1e-12


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="padding_mode: got 'mirror', wanted one of zeros, border, reflection"):
        GridSample("mirror")
    with pytest.raises(ArgumentError, match=r"theta: got \(3, 3\), wanted \(n, 2, 3\)"):
        AffineGrid((2, 2)).forward(draw(3, 3))
    with pytest.raises(ArgumentError, match=r"grid: got '\(1, 2, 2, 2\) for x \(2, 1, 3, 3\)'"):
        GridSample().forward(draw(2, 1, 3, 3), draw(1, 2, 2, 2))
