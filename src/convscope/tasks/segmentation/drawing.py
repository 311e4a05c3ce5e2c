"""Maps of classes as pictures: colours, overlays, label files, a legend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from torch import Tensor

from convscope.data.kinds.maps import Palette
from convscope.inspect.files import write_whole

OPACITY = 0.55


def palette_for(classes: int, given: Sequence[Sequence[int]] = ()) -> Palette:
    """The ``given`` colours where there is one a class, else well told-apart ones: bits of the class number spread over
    red, green and blue, highest first, as Pascal VOC colours its maps (black left out)."""
    if len(given) == classes:
        return tuple((int(red), int(green), int(blue)) for red, green, blue in given)
    return tuple(_spread(number) for number in range(1, classes + 1))


def _spread(number: int) -> tuple[int, int, int]:
    colour = [0, 0, 0]
    for place in range(8):
        for channel in range(3):
            colour[channel] |= (number >> (3 * place + channel) & 1) << (7 - place)
    return colour[0], colour[1], colour[2]


def overlay(pixels: Tensor, labels: Tensor, palette: Palette) -> Tensor:
    """The picture, uint8 (1 or 3, h, w), under its classes' colours: uint8 (3, h, w)."""
    colours = torch.tensor(palette, dtype=torch.float32)[labels.to(torch.int64)].permute(2, 0, 1)  # (3, h, w)
    mixed = OPACITY * colours + (1 - OPACITY) * pixels.to(torch.float32)
    return mixed.round_().to(torch.uint8)


def write_labels(path: Path, labels: Tensor, palette: Palette) -> Path:
    """A palette PNG whose values are class numbers, uint8 (h, w): what ``load_dataset`` reads as a map."""
    picture = Image.fromarray(labels.numpy(), mode="P")
    picture.putpalette([value for colour in palette for value in colour])
    return _write(path, picture)


def write_picture(path: Path, pixels: Tensor) -> Path:
    """uint8 (3, h, w) as PNG."""
    return _write(path, Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))


def _write(path: Path, picture: Image.Image) -> Path:
    def fill(file: IO[bytes]) -> None:
        picture.save(file, format="PNG")

    path.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(path, fill)


def sheet(
    path: Path,
    pictures: Sequence[Tensor],
    columns: Sequence[tuple[str, Sequence[Tensor]]],
    classes: Sequence[str],
    palette: Palette,
) -> Path:
    """A row a picture, uint8 (c, h, w): itself, and under the colours of each of ``columns``, a name and maps (h, w).

    What is no class of ``classes`` is black. The legend is below.
    """
    from matplotlib.patches import Patch

    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import new_figure

    black: Palette = (*palette, *((0, 0, 0),) * (256 - len(palette)))
    drawn = new_figure(2.4 * (len(columns) + 1), 1.85 * len(pictures) + 0.7)
    axes = drawn.subplots(len(pictures), len(columns) + 1, squeeze=False)
    for row, picture in enumerate(pictures):
        shown = [("the picture", picture.expand(3, -1, -1))]
        shown += [(name, overlay(picture, maps[row], black)) for name, maps in columns]
        for place, (name, pixels) in zip(axes[row], shown, strict=True):
            place.imshow(pixels.permute(1, 2, 0).contiguous().numpy(), interpolation="nearest")
            place.set_axis_off()
            if row == 0:
                place.set_title(name, fontsize=9)
    colours = [
        Patch(color=(red / 255, green / 255, blue / 255), label=name)
        for name, (red, green, blue) in zip(classes, palette, strict=True)
    ]
    drawn.legend(handles=colours, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_picture(drawn, path)


def write_legend(path: Path, classes: Sequence[str], palette: Palette) -> Path:
    """The classes' names beside their colours."""
    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import INK, new_figure

    drawn = new_figure(2.6, 0.3 + 0.26 * len(classes), layout=None)
    axes = drawn.add_axes((0.05, 0.02, 0.9, 0.96))
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(len(classes), 0)
    for row, (name, colour) in enumerate(zip(classes, palette, strict=True)):
        shade = tuple(value / 255 for value in colour)
        axes.barh(row + 0.5, 1.4, height=0.8, color=[shade], edgecolor="#9aa0aa", linewidth=0.5)
        axes.text(1.8, row + 0.5, name, va="center", fontsize=9, color=INK)
    return save_picture(drawn, path)


def write_bars(path: Path, title: str, classes: Sequence[str], iou: Sequence[float]) -> Path:
    """The classes' IoU, in per cent, best first."""
    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import INK, SERIES, new_figure, plain_axes

    order = sorted(range(len(classes)), key=lambda number: -iou[number])
    drawn = new_figure(6.4, 1.2 + 0.28 * len(order))
    axes = plain_axes(drawn.add_subplot())
    axes.barh(range(len(order)), [100 * iou[number] for number in order], color=SERIES[0], height=0.7)
    axes.set_yticks(range(len(order)), [classes[number] for number in order], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("intersection over union in %")
    axes.set_title(title, loc="left", fontsize=11)
    return save_picture(drawn, path)
