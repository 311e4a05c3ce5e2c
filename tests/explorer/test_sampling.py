"""A spatial transformer on the page: the grid, the four pixels of a place and their sum, and both ways back, in float64
against autograd through torch's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.explorer.test_arithmetic import closes, some
from tests.explorer.test_detector import ask
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.explorer.network import INPUT, Network
from convscope.explorer.session import Session
from convscope.explorer.snapshot import Question, Snapshot
from convscope.layers import SpatialTransformer
from convscope.models import create_model

OPTIONS = [
    {"padding_mode": padding, "align_corners": corners}
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
]


class Looking(nn.Module):
    """A convolution, a transformer that reads two maps and looks partly beyond them, and what is made of that."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.before = nn.Conv2d(1, 2, 3)
        localisation = nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 7, 4), nn.Tanh())
        self.look = SpatialTransformer(localisation, 4, (4, 6), **options)
        self.flat, self.out = nn.Flatten(), nn.Linear(48, 3)
        with torch.no_grad():
            self.look.theta.weight.normal_(0, 0.3)
            self.look.theta.bias.copy_(torch.tensor([1.1, 0.3, 0.2, -0.4, 0.9, -0.3]))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.flat(self.look(self.before(x))))
        return y


def opened(**options: Any) -> tuple[Looking, Snapshot]:
    torch.manual_seed(0)
    model = Looking(**options).double()
    x = torch.randn(1, 1, 7, 9, dtype=torch.float64)
    return model, Snapshot(Network(model, (1, 7, 9)), Question(x, 1, "cross_entropy"), 1)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_number_of_grid_and_sampler_is_autograd_s(options: dict[str, Any]) -> None:
    model, snapshot = opened(**options)
    x = snapshot.question.x.clone().requires_grad_()
    maps = model.before(x)
    theta = model.look.where(maps)
    grid = F.affine_grid(theta, [1, 2, 4, 6], align_corners=options["align_corners"])
    seen = F.grid_sample(maps, grid, **options)
    loss = F.cross_entropy(model.out(model.flat(seen)), torch.tensor([1]))
    by_maps, by_theta, by_grid, by_x = torch.autograd.grad(loss, [maps, theta, grid, x])
    names = {layer.family: name for name, layer in snapshot.layers.items()}
    sampler, gridded = names["grid_sample"], names["affine_grid"]
    for unit in some((2, 4, 6), 48):
        closes(snapshot.forward(sampler, unit), float(seen.detach()[(0, *unit)]))
        assert len(snapshot.forward(sampler, unit).terms) == 4
    for unit in some((4, 6, 2), 48):
        closes(snapshot.forward(gridded, unit), float(grid.detach()[(0, *unit)]))
        closes(snapshot.backward(gridded, unit), float(by_grid[(0, *unit)]))
    for unit in some((2, 5, 7), 70):
        closes(snapshot.backward("before", unit), float(by_maps[(0, *unit)]))
    for unit in some((2, 3), 6):
        closes(snapshot.backward(snapshot.layers[gridded].sources[0], unit), float(by_theta[(0, *unit)]))
    for unit in some((1, 7, 9), 63):
        closes(snapshot.input_delta(unit), float(by_x[(0, *unit)]))


def test_the_weights_are_how_near_the_four_pixels_are() -> None:
    """Worked by hand: a place at row 1.25, column 2.5."""
    look = SpatialTransformer(nn.Sequential(nn.Flatten()), 20, (1, 1))
    model = nn.Sequential(look, nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        look.theta.bias.copy_(torch.tensor([0, 0, 2 * 3 / 5 - 1, 0, 0, 2 * 1.75 / 4 - 1]))
    x = torch.arange(20.0).reshape(1, 1, 4, 5)
    snapshot = Snapshot(Network(model, (1, 4, 5)), Question(x, 0, "cross_entropy"), 1)
    name = next(name for name, layer in snapshot.layers.items() if layer.family == "grid_sample")
    found = snapshot.forward(name, (0, 0, 0))
    assert found.terms.coefficient is not None
    assert found.terms.source is not None
    assert found.terms.coefficient.tolist() == pytest.approx([0.375, 0.375, 0.125, 0.125], abs=1e-6)
    assert found.terms.source.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 2], [0, 2, 3]]
    assert found.value == pytest.approx(0.375 * (7 + 8) + 0.125 * (12 + 13), abs=1e-5)
    assert "(r, c) = (1.2500, 2.5000)" in found.formula


def test_the_scene_has_the_grid_over_what_is_looked_at() -> None:
    torch.manual_seed(0)
    session = Session(create_model("stn_lenet", input_size=42, output_size=28).eval())
    header = ask(session, "elastic", layer="grid_sample", map=0)
    assert [panel["layer"] for panel in header["panels"]] == [INPUT, "grid_sample"]
    lattice = header["lattice"]
    assert np.shape(lattice["rows"]) == (28, 28)
    assert lattice["rows"][0][0] == pytest.approx(0.25)  # the identity from 42 to 28: every one and a half pixels
    assert lattice["columns"][3][27] == pytest.approx(40.75)
    row = ask(session, "elastic", layer="affine_grid", map=5)
    assert row["lattice"] == lattice
    assert [panel["layer"] for panel in row["panels"]] == [INPUT, "affine_grid"]
    assert ask(session, "elastic", layer="c1", map=0)["lattice"] is None
    told = ask(session, "explain", layer=INPUT, index=[0, 20, 20], direction="backward")
    assert told["origins"] == ["transformer.localisation.0", "grid_sample"]
    with pytest.raises(ArgumentError, match=r"index: got \[0, 42, 0\], wanted 3 indices: 0…0, 0…41, 0…41"):
        ask(session, "explain", layer=INPUT, index=[0, 42, 0], direction="backward")
