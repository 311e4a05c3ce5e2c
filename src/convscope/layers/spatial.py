"""A layer that looks where its own small network says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers.conv import whole_number
from convscope.rules.sampling import PADDINGS
from convscope.shapes import pair


class SpatialTransformer(nn.Module):
    """y = x where θ = theta(localisation(x)) looks: (n, c, h, w) → (n, c, *output_size), by default as large as x.

    Jaderberg, Simonyan, Zisserman, Kavukcuoglu: Spatial Transformer Networks, NIPS 2015. ``localisation`` turns the
    input into ``features`` numbers an example, (n, features); the linear layer ``theta`` makes the six numbers of an
    affine map of them, at the start those of the identity. ``padding_mode`` ("zeros", "border", "reflection") says what
    is seen beyond the picture, ``align_corners`` what ±1 is (see ``rules.sampling``).

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
    ) -> None:
        super().__init__()
        if padding_mode not in PADDINGS:
            raise ArgumentError("padding_mode", padding_mode, f"one of {', '.join(PADDINGS)}")
        self.localisation = localisation
        self.theta = nn.Linear(whole_number(features, "features"), 6)
        self.own_start()
        self.output_size = None if output_size is None else pair(output_size, "output_size")
        self.padding_mode, self.align_corners = padding_mode, align_corners

    def own_start(self) -> None:
        """Look at everything as it is."""
        with torch.no_grad():
            self.theta.weight.zero_()
            self.theta.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def extra_repr(self) -> str:
        size = "" if self.output_size is None else f"output_size={self.output_size}, "
        return f"{size}padding_mode={self.padding_mode!r}, align_corners={self.align_corners}"

    def where(self, x: Tensor) -> Tensor:
        """θ (n, 2, 3): the affine map from places of the output to places of the input."""
        theta: Tensor = self.theta(self.localisation(x)).reshape(-1, 2, 3)
        return theta

    def forward(self, x: Tensor) -> Tensor:
        height, width = (x.shape[2], x.shape[3]) if self.output_size is None else self.output_size
        grid = F.affine_grid(self.where(x), [x.shape[0], x.shape[1], height, width], align_corners=self.align_corners)
        return F.grid_sample(x, grid, padding_mode=self.padding_mode, align_corners=self.align_corners)
