"""Boxes drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from convscope.inspect.files import write_whole

#: A colour a class, well told apart on stained and on natural pictures; after the last the first comes again.
COLOURS = ("#1f5fa8", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#e377c2", "#8c564b")


def colour_of(label: int) -> str:
    """The colour of the class with this number."""
    return COLOURS[label % len(COLOURS)]


def with_boxes(pixels: Tensor, boxes: Tensor, labels: Sequence[int], texts: Sequence[str] = ()) -> Image.Image:
    """The picture, uint8 (1 or 3, h, w), with boxes (k, 4) in their classes' colours and ``texts`` on them.

    Lines and letters grow with the picture; one below 200 pixels is enlarged so that they can be told."""
    factor = max(1, -(-200 // max(pixels.shape[1:])))
    array = pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array)
    if factor > 1:
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    line = max(1, round(max(picture.size) / 400))
    font = ImageFont.load_default(max(10, round(max(picture.size) / 50)))
    # the best come first and are drawn last, so that they lie on top; no line crosses a text
    for place in reversed(range(len(boxes))):
        x1, y1, x2, y2 = (factor * value for value in boxes[place].tolist())
        right, below = max(x1, min(x2, picture.width) - 1), max(y1, min(y2, picture.height) - 1)
        pen.rectangle((x1, y1, right, below), outline=colour_of(labels[place]), width=line)
    for place in reversed(range(len(texts))):
        x1, y1 = (factor * value for value in boxes[place, :2].tolist())
        _write(pen, texts[place], x1, y1, colour_of(labels[place]), font, picture.size)
    return picture


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    x: float,
    y: float,
    colour: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """White on the class's colour, above the box where there is room, else inside it."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    wide, tall = right - left + 4, bottom - top + 4
    # whole pixels: Pillow cuts the letters' tops off where they begin at a fraction below 0
    x = round(min(x, max(0.0, size[0] - wide)))
    y = round(y - tall if y >= tall else y)
    pen.rectangle((x, y, x + wide, y + tall), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), text, fill="white", font=font)


def write_png(path: Path, picture: Image.Image) -> Path:
    """The picture as PNG, whole or not at all."""

    def fill(file: IO[bytes]) -> None:
        picture.save(file, format="PNG")

    return write_whole(path, fill)


def as_pixels(picture: Image.Image) -> Tensor:
    """uint8 (3, h, w)."""
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(
        picture.height, picture.width, 3
    ).permute(2, 0, 1)  # fmt: skip
