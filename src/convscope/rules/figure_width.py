"""Figures made equally wide: each picture's columns mixed linearly, by where the figure's own edges are."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.rules.base import Deltas, Gradients, Rule, Saved


@dataclasses.dataclass(frozen=True)
class EqualWidth(Rule):
    """y_n = x_n·M_n,   M_n[s, c] = max(0, 1 − |s − p_n(c)|),   p_n(c) = r_n·(c − t_n) + m_n

        δ_x = δ·M_nᵀ,   r_n = (right_n − left_n + 1) / width

    Width normalisation of Cireşan, Meier, Schmidhuber 2012. The figure of picture n, what is brighter than
    ``threshold``, reaches from column left_n to right_n with its middle m_n; column c of the result is taken from place
    p_n(c), between two columns linearly, and outside there is 0. t_n is m_n moved so far that the box stays inside.
    The edges are looked up in x and held fixed on the way back. With ``levels`` the result is rounded to multiples of
    1/levels, as grey values are, and δ passes that unchanged.
    """

    kind = "width"
    needs = ("mixing",)

    width: int
    threshold: float = 0.0
    levels: int | None = None

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        if x.ndim != 4:
            raise ArgumentError("x", tuple(x.shape), "pictures (n, channels, height, width)")
        mixing = mixing_matrices(x, self.width, self.threshold)  # (n, w, w)
        return equal_width(x, mixing, self.levels), {"mixing": mixing}

    def backward(self, saved: Saved, delta: Tensor) -> tuple[Deltas, Gradients]:
        return (mixed(delta, saved["mixing"].transpose(1, 2)),), {}


def mixing_matrices(x: Tensor, width: int, threshold: float = 0.0) -> Tensor:
    """M (n, w, w) of pictures (n, c, h, w), floating point of x's type (float32 for integers); see ``EqualWidth``."""
    columns = x.shape[3]
    kind = x.dtype if x.is_floating_point() else torch.float32
    inked = (x.detach().amax(dim=(1, 2)) > threshold).to(torch.int64)  # (n, w)
    left = inked.argmax(1).to(kind)
    right = columns - 1 - inked.flip(1).argmax(1).to(kind)
    there = inked.any(1)
    centre = (columns - 1) / 2
    middle = (left + right) / 2 - centre
    ratio = torch.where(there, (right - left + 1) / width, torch.ones_like(left))
    room = max((columns - width) / 2, 0.0)
    kept = middle.clamp(-room, room)
    places = torch.arange(columns, device=x.device, dtype=kind)
    sources = ratio[:, None] * (places - centre - kept[:, None]) + middle[:, None] + centre  # (n, c)
    sources = torch.where(there[:, None], sources, places)
    return (1 - (places[:, None] - sources[:, None, :]).abs()).clamp(min=0)  # (n, s, c)


def mixed(x: Tensor, mixing: Tensor) -> Tensor:
    """x_n·M_n for all pictures at once; both (n, …)."""
    return torch.bmm(x.flatten(1, 2), mixing).reshape(x.shape)


def equal_width(x: Tensor, mixing: Tensor, levels: int | None) -> Tensor:
    """x_n·M_n; with ``levels`` of whole grey values, 0 … levels, and rounded to such, halves upwards."""
    if levels is None:
        return mixed(x, mixing)
    grey = (x * levels + 0.5).floor()
    return (mixed(grey, mixing) + 0.5).floor() / levels
