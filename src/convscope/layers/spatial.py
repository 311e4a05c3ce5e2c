"""A layer that looks where its own small network says."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules.sampling import PADDINGS, grid_lines
from convscope.shapes import pair


class SpatialTransformer(nn.Module):
    """y = x where θ = theta(localisation(x)) looks: (n, c, h, w) → (n, c, *output_size), by default as large as x.

    Jaderberg, Simonyan, Zisserman, Kavukcuoglu: Spatial Transformer Networks, NIPS 2015. ``localisation`` turns the
    input into ``features`` numbers an example, (n, features); the linear layer ``theta`` makes the six numbers of an
    affine map of them. At the start it looks at the middle ``zoom`` of the picture's height and width: 1 is the
    identity. With ``shares`` (rows, columns) the features are shares, adding up to 1, of so many parts of the picture,
    row by row, as a softmax gives them: then it begins by looking at their centre of gravity. ``padding_mode``
    ("zeros", "border", "reflection") says what is seen beyond the picture, ``align_corners`` what ±1 is (see
    ``rules.sampling``).

    Its parts are layers and functions of their own in every trace. Raises ArgumentError for values that cannot be.
    """

    looked_into = True  # by ``graph.capture``: unlike other layers it is no leaf

    def __init__(
        self,
        localisation: nn.Module,
        features: int,
        output_size: int | tuple[int, int] | None = None,
        padding_mode: str = "zeros",
        align_corners: bool = False,
        zoom: float = 1.0,
        shares: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(zoom, bool) or not isinstance(zoom, int | float) or not 0 < zoom < math.inf:
            raise ArgumentError("zoom", zoom, "a number > 0: the part of the picture that is looked at first")
        self.zoom, self.shares = float(zoom), None if shares is None else pair(shares, "shares")
        if self.shares is not None and math.prod(self.shares) != features:
            raise ArgumentError("shares", self.shares, f"rows · columns = {features}, the number of features")
        if padding_mode not in PADDINGS:
            raise ArgumentError("padding_mode", padding_mode, f"one of {', '.join(PADDINGS)}")
        self.localisation = localisation
        self.theta = nn.Linear(whole_number(features, "features"), 6)
        self.own_start()
        self.output_size = None if output_size is None else pair(output_size, "output_size")
        self.padding_mode, self.align_corners = padding_mode, align_corners

    def own_start(self) -> None:
        """Look at everything as it is, at ``zoom`` of it, or at the centre of gravity of the ``shares``."""
        with torch.no_grad():
            self.theta.weight.zero_()
            self.theta.bias.copy_(torch.tensor([self.zoom, 0, 0, 0, self.zoom, 0]))
            if self.shares is not None:
                down, across = (grid_lines([n], False, self.theta.weight)[0] for n in self.shares)
                self.theta.weight[2] = across.repeat(len(down))
                self.theta.weight[5] = down.repeat_interleave(len(across))

    def extra_repr(self) -> str:
        said = {
            "output_size": self.output_size, "padding_mode": self.padding_mode, "align_corners": self.align_corners,
            "zoom": None if self.zoom == 1 else self.zoom, "shares": self.shares,
        }  # fmt: skip
        return ", ".join(f"{name}={value!r}" for name, value in said.items() if value is not None)

    def where(self, x: Tensor) -> Tensor:
        """θ (n, 2, 3): the affine map from places of the output to places of the input."""
        theta: Tensor = self.theta(self.localisation(x)).reshape(-1, 2, 3)
        return theta

    def forward(self, x: Tensor) -> Tensor:
        height, width = (x.shape[2], x.shape[3]) if self.output_size is None else self.output_size
        grid = F.affine_grid(self.where(x), [x.shape[0], x.shape[1], height, width], align_corners=self.align_corners)
        return F.grid_sample(x, grid, padding_mode=self.padding_mode, align_corners=self.align_corners)
