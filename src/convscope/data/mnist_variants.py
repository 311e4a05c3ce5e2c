"""MNIST's digits turned, scaled, moved and cluttered: what spatial transformers are tried on.

After Jaderberg et al., NIPS 2015: "rotated" turns each digit by up to 90° either way; "rts" turns it by up to 45°,
scales it by 0.7 to 1.2 and puts it anywhere in a picture of 42×42; "cluttered" puts it anywhere in one of 60×60, with
16 pieces of 6×6 from other digits of its part. All by a seed, so that the same set can be made anywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from convscope import seeding
from convscope.errors import ArgumentError, UnknownNameError

VARIANTS = ("plain", "rotated", "rts", "cluttered")
_AT_ONCE = 2_000  # pictures; 60,000 at once would take a gigabyte of places to look at
_PIECES, _PIECE = 16, 6


def changed(images: Tensor, variant: str, seed: int, part: str) -> Tensor:
    """uint8 (n, 1, 28, 28) → the ``variant``, uint8 (n, 1, h, w); ``part`` names the stream of chance.

    Raises UnknownNameError for another variant, ArgumentError for a seed that is none.
    """
    if variant not in VARIANTS:
        raise UnknownNameError("variant", variant, VARIANTS)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ArgumentError("seed", seed, "an integer ≥ 0")
    if variant == "plain":
        return images
    chance = seeding.generator(seed, f"mnist-{variant}", part)
    found = []
    for some in torch.split(images, _AT_ONCE):
        if variant == "rotated":
            found.append(_moved(some, 28, math.pi / 2, (1.0, 1.0), chance))
        elif variant == "rts":
            found.append(_moved(some, 42, math.pi / 4, (0.7, 1.2), chance))
        else:
            found.append(_cluttered(some, images, 60, chance))
    return torch.cat(found)


def _moved(images: Tensor, side: int, turn: float, scales: tuple[float, float], chance: torch.Generator) -> Tensor:
    """Each digit turned by up to ``turn``, scaled, and put anywhere where its square fits into ``side`` × ``side``."""
    count, own = len(images), images.shape[-1]
    drawn = torch.rand(count, 4, generator=chance)
    angle = (2 * drawn[:, 0] - 1) * turn
    scale = scales[0] + (scales[1] - scales[0]) * drawn[:, 1]
    shift = (2 * drawn[:, 2:] - 1) * ((side - own * scale) / 2).clamp(min=0)[:, None]  # pixels, across and down
    cosine, sine = angle.cos() / scale, angle.sin() / scale
    back = torch.stack((torch.stack((cosine, sine), 1), torch.stack((-sine, cosine), 1)), 1)  # (n, 2, 2)
    # a place of the result, ±1 at its edges, is side/2 times as many pixels from its centre; the digit's own edges are
    # own/2 pixels from its centre
    theta = torch.cat((back * side, -2 * back @ shift[:, :, None]), 2) / own
    grid = functional.affine_grid(theta, [count, 1, side, side], align_corners=False)
    return functional.grid_sample(images.float(), grid, align_corners=False).round_().clamp_(0, 255).to(torch.uint8)


def _cluttered(images: Tensor, others: Tensor, side: int, chance: torch.Generator) -> Tensor:
    """Each digit anywhere in ``side`` × ``side``, and pieces of ``others``; of what meets the brighter stays."""
    count, own = len(images), images.shape[-1]
    canvas = torch.zeros(count, side * side, dtype=torch.uint8)
    top, left = torch.randint(0, side - own + 1, (2, count, 1), generator=chance)
    canvas.scatter_(1, _places(top, left, own, side).flatten(1), images.flatten(1))
    which = torch.randint(0, len(others), (count, _PIECES), generator=chance)
    rows, columns = torch.randint(0, own - _PIECE + 1, (2, count, _PIECES), generator=chance)
    top, left = torch.randint(0, side - _PIECE + 1, (2, count, _PIECES), generator=chance)
    source = _places(rows, columns, _PIECE, own) + (which * own * own)[..., None]
    pieces = others.flatten()[source]  # (n, pieces, 36)
    into = _places(top, left, _PIECE, side)
    canvas.scatter_reduce_(1, into.flatten(1), pieces.flatten(1), "amax")
    return canvas.reshape(count, 1, side, side)


def _places(top: Tensor, left: Tensor, size: int, side: int) -> Tensor:
    """Flat places, (…, size²), of squares of ``size`` in a picture ``side`` wide."""
    line = torch.arange(size)
    square = (line[:, None] * side + line[None, :]).flatten()
    return (top * side + left)[..., None] + square
