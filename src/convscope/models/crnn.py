"""Shi, Bai and Yao's network for lines of text: convolutions, recurrent layers, CTC."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from convscope.errors import ArgumentError
from convscope.layers import KeepColumns, RecurrentLayers
from convscope.models.catalog import Card, register

_STRIDE = 4  # columns of the picture a step

# (maps, kernel size, padding, batch normalisation, pooling (height, width) or None); the paper's table 1, bottom up
_PAPER = (
    (64, 3, 1, False, (2, 2)),
    (128, 3, 1, False, (2, 2)),
    (256, 3, 1, False, None),
    (256, 3, 1, False, (2, 1)),
    (512, 3, 1, True, None),
    (512, 3, 1, True, (2, 1)),
    (512, (2, 1), 0, True, None),
)
# A twentieth of its arithmetic, for a computer without a GPU.
_SMALL = (
    (16, 3, 1, True, (2, 2)),
    (32, 3, 1, True, (2, 2)),
    (64, 3, 1, True, (2, 1)),
    (64, 3, 1, True, (2, 1)),
    (64, (2, 1), 0, True, None),
)


class CRNN(nn.Module):
    """Pictures of lines, 32 pixels high, into scores of characters for every four columns.

    ``forward(pictures, widths)``: (n, 1, 32, w) with w and ``widths``, int64 (n,), multiples of 4 → (n, w/4, classes).
    Class 0 is the blank. Columns beyond a picture's width have no influence.
    """

    stride = _STRIDE

    def __init__(self, classes: int, channels: int, plan: Any, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.stages = len(plan)
        columns = 1
        for number, (maps, kernel, padding, normalised, pool) in enumerate(plan, 1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, maps, kernel, padding=padding, bias=not normalised))
            self.add_module(f"norm{number}", nn.BatchNorm2d(maps) if normalised else nn.Identity())
            self.add_module(f"relu{number}", nn.ReLU())
            self.add_module(f"pool{number}", nn.MaxPool2d(pool) if pool else nn.Identity())
            columns *= pool[1] if pool else 1
            self.add_module(f"keep{number}", KeepColumns(columns))
            channels = maps
        assert columns == _STRIDE
        self.reader = RecurrentLayers(
            channels, hidden, "lstm", layers, bidirectional=True, dropout=dropout, stride=_STRIDE
        )
        self.output = nn.Linear(2 * hidden, classes)

    def forward(self, pictures: Tensor, widths: Tensor | None = None) -> Tensor:
        x = pictures
        for number in range(1, self.stages + 1):
            for part in ("conv", "norm", "relu", "pool"):
                x = getattr(self, f"{part}{number}")(x)
            x = getattr(self, f"keep{number}")(x, widths)  # (n, maps, height, w/columns)
        steps = x.flatten(1, 2).transpose(1, 2)  # (n, t, maps): one row is left
        scores: Tensor = self.output(self.reader(steps, widths))
        return scores


@register(
    "crnn",
    Card(
        title="Convolutional recurrent network for lines of text",
        year=2015,
        paper="Shi, Bai, Yao: An end-to-end trainable neural network for image-based sequence recognition",
        input_shape=(1, 32, 100),
        classes=37,
        parameters=8_198_949,
        published="IIIT5k words of 50 candidates 97.6 % right",
        note="answers for every four columns; class 0 is the blank. Batch normalisation also behind the last "
        "convolution, whose kernel is one column wide, so that a line of w columns has w/4 steps",
        family="lines",
        task="lines",
        economical=(("small", True), ("hidden", 8)),
        small_size=32,
    ),
)
def crnn(
    classes: int = 37,
    in_channels: int = 1,
    small: bool = False,
    hidden: int | None = None,
    layers: int | None = None,
    dropout: float = 0.0,
) -> nn.Module:
    """``small``: narrower and shallower; ``hidden`` units of each of two directions (256, small 64) in ``layers``
    recurrent layers (2, small 1), with ``dropout`` between them."""
    usual_hidden, usual_layers = (64, 1) if small else (256, 2)
    chosen = (usual_hidden if hidden is None else hidden, usual_layers if layers is None else layers)
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", dropout, "a share from 0 to below 1")
    return CRNN(classes, in_channels, _SMALL if small else _PAPER, *chosen, dropout)
