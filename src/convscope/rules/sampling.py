"""Sampling a picture at places that are computed: the affine grid and the bilinear sampler of spatial transformers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Applied, Deltas, Gradients, Rule, Saved, rule_for_function

PADDINGS = ("zeros", "border", "reflection")


def grid_lines(size: Sequence[int], align_corners: bool, like: Tensor) -> list[Tensor]:
    """The places of pixels along height and width, from −1 to 1: of their centres, so that the edges of the picture are
    at ±1, or with ``align_corners`` such that the first and last centre are."""
    lines = []
    for n in size:
        # torch's own steps, since a rounding decides on which side of a pixel a place is, and so its slope
        line = torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) if n > 1 else like.new_zeros(1)
        lines.append(line if align_corners else line * (n - 1) / n)
    return lines


@dataclasses.dataclass(frozen=True)
class AffineGrid(Rule):
    """g_uv = θ·(x_v, y_u, 1)ᵀ,   ∂J/∂θ = Σ_uv δ_uv·(x_v, y_u, 1)

    Jaderberg et al. 2015, eq. (1). θ (n, 2, 3) says for each place (x_v, y_u) of a picture of ``size`` (height, width)
    where to look: g (n, height, width, 2), first across, then down. All places run from −1 to 1: centres of pixels,
    the picture's edges being ±1; with ``align_corners`` the outermost centres are at ±1.
    """

    kind = "sampling"
    needs = ("places",)

    size: tuple[int, int]
    align_corners: bool = False

    def forward(self, theta: Tensor) -> tuple[Tensor, Saved]:
        if theta.ndim != 3 or theta.shape[1:] != (2, 3):
            raise ArgumentError("theta", tuple(theta.shape), "(n, 2, 3)")
        rows, columns = grid_lines(self.size, self.align_corners, theta)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        places = torch.stack((x, y, torch.ones_like(x)), 2)  # (h, w, 3)
        return torch.einsum("uvk,nik->nuvi", places, theta), {"places": places}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (torch.einsum("nuvi,uvk->nik", delta, saved["places"]),), {}


@dataclasses.dataclass(frozen=True)
class GridSample(Rule):
    """y_uv = Σ_ij x_ij·(1 − |r_uv − i|)₊·(1 − |c_uv − j|)₊,   (r, c) = g in rows and columns

        δ_x,ij = Σ_uv δ_uv·(1 − |r_uv − i|)₊·(1 − |c_uv − j|)₊
        δ_r,uv = Σ_channels δ_uv·Σ_j (x_(i+1)j − x_ij)·(1 − |c_uv − j|)₊,   i = ⌊r⌋;   δ_c likewise

    Jaderberg et al. 2015, eq. (5) to (7). x (n, c, h, w), g (n, height, width, 2) with (across, down) from −1 to 1, as
    ``AffineGrid`` gives them. Beyond the picture x is 0 ("zeros"), the nearest edge's value ("border") or mirrored
    ("reflection", at the edges, or at the outermost centres with ``align_corners``); where a place is moved to the
    border its δ is 0.
    """

    kind = "sampling"
    needs = ("x", "corners", "weights", "fractions", "slopes")

    padding_mode: str = "zeros"
    align_corners: bool = False

    def __post_init__(self) -> None:
        if self.padding_mode not in PADDINGS:
            raise ArgumentError("padding_mode", self.padding_mode, f"one of {', '.join(PADDINGS)}")

    def forward(self, x: Tensor, grid: Tensor) -> tuple[Tensor, Saved]:
        if x.ndim != 4 or grid.ndim != 4 or grid.shape[3] != 2 or len(grid) != len(x):
            got = f"{tuple(grid.shape)} for x {tuple(x.shape)}"
            raise ArgumentError("grid", got, "(n, height, width, 2) for x (n, channels, h, w)")
        height, width = x.shape[2:]
        column, across = self.places(grid[..., 0], width)
        row, down = self.places(grid[..., 1], height)
        left, top = column.floor(), row.floor()
        right_share, lower_share = column - left, row - top
        corners, weights = [], []
        for i, share_i in ((top, 1 - lower_share), (top + 1, lower_share)):
            for j, share_j in ((left, 1 - right_share), (left + 1, right_share)):
                inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
                places = i.clamp(0, height - 1).long() * width + j.clamp(0, width - 1).long()
                corners.append((places.flatten(1), inside.flatten(1)))
                weights.append(share_i * share_j)
        y = sum(
            _values(x, places, inside, grid) * weight.unsqueeze(1)
            for (places, inside), weight in zip(corners, weights, strict=True)
        )
        saved = {
            "x": x, "corners": corners, "weights": weights, "fractions": (lower_share, right_share),
            "slopes": (across, down),
        }  # fmt: skip
        assert isinstance(y, Tensor)
        return y, saved

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        x, corners = saved["x"], saved["corners"]
        flat = torch.zeros_like(x).flatten(2)
        seen = []
        for (places, inside), weight in zip(corners, saved["weights"], strict=True):
            share = (delta * weight.unsqueeze(1)).flatten(2) * inside.unsqueeze(1)
            flat.scatter_add_(2, places.unsqueeze(1).expand_as(share), share)
            seen.append((delta * _values(x, places, inside, delta[:, 0].unsqueeze(3))).sum(1))  # (n, height, width)
        (lower, right), (across, down) = saved["fractions"], saved["slopes"]
        one, two, three, four = seen
        delta_column = (two - one) * (1 - lower) + (four - three) * lower
        delta_row = (three - one) * (1 - right) + (four - two) * right
        delta_grid = torch.stack((delta_column * across, delta_row * down), 3)
        return (flat.reshape(x.shape), delta_grid), {}

    def places(self, g: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """From −1 … 1 to pixels, moved inside as the padding says; and the slope of that."""
        scale = (size - 1) / 2 if self.align_corners else size / 2
        place = (g + 1) * scale - (0 if self.align_corners else 0.5)
        slope = torch.full_like(place, scale)
        if self.padding_mode == "zeros":
            return place, slope
        if self.padding_mode == "reflection":
            low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
            place, turned = _mirrored(place, low, high)
            slope = slope * turned
        slope = torch.where((place <= 0) | (place >= size - 1), 0, slope)
        return place.clamp(0, size - 1), slope


def _values(x: Tensor, places: Tensor, inside: Tensor, like: Tensor) -> Tensor:
    """x at flat places (n, height·width), 0 outside: (n, c, height, width), the sizes of ``like`` (n, height, …)."""
    index = places.unsqueeze(1).expand(-1, x.shape[1], -1)
    found = x.flatten(2).gather(2, index) * inside.unsqueeze(1)
    return found.reshape(*x.shape[:2], *like.shape[1:3])


def _mirrored(place: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Reflected at ``low`` and ``high`` until it is between them; 1 or −1, by which the slope changes."""
    span = high - low
    if span <= 0:
        return torch.zeros_like(place), torch.zeros_like(place)
    away = place - low
    sign = torch.where(away < 0, -1.0, 1.0).to(place)
    away = away.abs()
    turns = (away / span).floor()
    rest = away - turns * span
    even = turns.remainder(2) == 0
    return torch.where(even, rest, span - rest) + low, torch.where(even, sign, -sign)


@rule_for_function(F.affine_grid)
def _(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Applied | None:
    if len(size) != 4 or theta.ndim != 3 or len(theta) != size[0]:
        return None
    return Applied(AffineGrid((int(size[2]), int(size[3])), bool(align_corners)), (theta,))


@rule_for_function(F.grid_sample)
def _(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Applied | None:
    if input.ndim != 4 or mode != "bilinear" or grid.ndim != 4:
        return None
    return Applied(GridSample(padding_mode, bool(align_corners)), (input, grid))
