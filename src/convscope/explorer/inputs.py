"""The picture under study: from a data set, a file, the camera or the pen, with every preprocessing step kept."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from convscope.data import Dataset, Labelled, prepare
from convscope.data.pictures import decode_picture
from convscope.data.transforms import convert_channels, fit_size
from convscope.errors import ArgumentError
from convscope.inspect.inputs import InputOfModel

MAX_UPLOAD_BYTES = 12 * 1024 * 1024
MAX_UPLOAD_PIXELS = 24_000_000  # a 24-megapixel camera; decoded 72 MB
THUMBNAIL = 192
_FROM_PAPER = ("upload", "camera")
_DARK = 0.25  # the mean of MNIST is 0.13, of photographs 0.4 to 0.5
_LIGHT, _EVEN = 150.0, 25.0  # of 255: paper is light and evenly lit along the border, a photograph seldom both
_WHITE = 250  # of 255: what is as light throughout shows nothing
_MARGIN = 0.2  # beside what is written, of its longer side: 4 of 20 pixels in MNIST


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step on the way from the file to the model: its name for the page, what it did, and the picture after it."""

    name: str
    values: dict[str, Any]
    picture: Tensor


@dataclasses.dataclass(frozen=True)
class Picture:
    """The input: uint8 ``pixels`` (1, c, h, w) of the model's size, where they came from, and how."""

    pixels: Tensor
    source: dict[str, Any]
    stages: tuple[Stage, ...]
    label: int | None = None


class Desk:
    """Makes pictures for one model; ``x(picture)`` is the model's input, its only way from pixels to floats being
    ``Preprocessing.normalise``."""

    def __init__(self, takes: InputOfModel, data: Dataset[Labelled] | None) -> None:
        self.takes = takes
        self.input_shape, self.preprocessing = takes.shape, takes.preprocessing
        self.picture_shape = takes.picture_shape
        self.known_from = takes.known_from
        self.data = data

    def x(self, picture: Picture) -> Tensor:
        return self.preprocessing.normalise(picture.pixels).reshape(1, *self.input_shape)

    def split(self, name: str) -> Labelled:
        if self.data is None:
            raise ArgumentError("data", None, "a data set", "Start with --data, for example --data mnist.")
        if name not in ("train", "test"):
            raise ArgumentError("split", name, '"train" or "test"')
        return self.data.train if name == "train" else self.data.test

    def from_data(self, split: str, index: int) -> Picture:
        chosen = self.split(split)
        if not 0 <= index < len(chosen):
            raise ArgumentError("index", index, f"0…{len(chosen) - 1}, an item of the {split} split")
        label = int(chosen.labels[index])
        source = {"kind": "data", "split": split, "index": index, "class": chosen.classes[label]}
        return self._prepared(chosen.images[index : index + 1].cpu(), source, label)

    def from_file(self, content: bytes, kind: str = "upload") -> Picture:
        """A picture file's bytes. Raises DataError or ArgumentError when it is too large or no picture."""
        if len(content) > MAX_UPLOAD_BYTES:
            raise ArgumentError("upload", f"{len(content):,} bytes", f"at most {MAX_UPLOAD_BYTES:,} bytes")
        pixels = decode_picture(content, kind, MAX_UPLOAD_PIXELS)[None]
        black = _on_black(content) if int(pixels.min()) >= _WHITE else None
        if black is not None:
            pixels = black
        source = {"kind": kind, "size": list(pixels.shape[1:]), **({} if black is None else {"on_black": True})}
        return self._prepared(pixels, source, None)

    def from_pixels(self, content: bytes, kind: str = "drawn", label: int | None = None) -> Picture:
        """Raw bytes, one a channel and pixel, of the model's own size."""
        channels, height, width = self.picture_shape
        wanted = channels * height * width
        if len(content) != wanted:
            raise ArgumentError("pixels", f"{len(content)} bytes", f"{wanted}: {channels}×{height}×{width}")
        pixels = torch.from_numpy(np.frombuffer(content, np.uint8).copy()).reshape(1, channels, height, width)
        return Picture(pixels, {"kind": kind}, self._last(pixels), label)

    def blank(self) -> Picture:
        channels, height, width = self.picture_shape
        return self.from_pixels(bytes(channels * height * width), "blank")

    def example(self) -> Picture:
        """What to begin with where there is no data: a 3 for grey inputs, else a disc over stripes."""
        channels, height, width = self.picture_shape
        if channels == 1 and min(height, width) >= 12:
            side = 8 * max(height, width)
            image = Image.new("L", (side, side))
            pen = ImageDraw.Draw(image)
            thick = side // 11
            pen.arc((side * 0.3, side * 0.16, side * 0.68, side * 0.52), 190, 90, 255, thick)
            pen.arc((side * 0.28, side * 0.46, side * 0.72, side * 0.86), 270, 160, 255, thick)
            pixels = torch.from_numpy(np.array(image))[None, None]
            return self.from_pixels(fit_size(pixels, (height, width)).numpy().tobytes(), "example")
        row = torch.linspace(0, 1, height)[:, None].expand(height, width)
        column = torch.linspace(0, 1, width)[None, :].expand(height, width)
        disc = ((row - 0.5) ** 2 + (column - 0.45) ** 2 < 0.09).float()
        stripes = (torch.sin(column * 22 + row * 9) > 0).float()
        planes = [
            (0.25 + 0.5 * stripes * row + disc * (0.4 - 0.3 * (channel % 3))).clamp(0, 1) * 255
            for channel in range(channels)
        ]
        return self.from_pixels(torch.stack(planes).to(torch.uint8).numpy().tobytes(), "example")

    def poke(self, picture: Picture, channel: int, row: int, column: int, value: int) -> Picture:
        """One pixel set; everything else as it is."""
        pixels = picture.pixels.clone()
        shape = pixels.shape[1:]
        if not (0 <= channel < shape[0] and 0 <= row < shape[1] and 0 <= column < shape[2]):
            raise ArgumentError("pixel", [channel, row, column], f"a place within {tuple(shape)}")
        if not 0 <= value <= 255:
            raise ArgumentError("value", value, "0…255")
        pixels[0, channel, row, column] = value
        source = {**picture.source, "edited": True}
        return Picture(pixels, source, self._last(pixels), picture.label)

    def _prepared(self, pixels: Tensor, source: dict[str, Any], label: int | None) -> Picture:
        wanted = self.preprocessing
        stages = [Stage("original", {"shape": list(pixels.shape[1:])}, thumbnail(pixels))]
        if "on_black" in source:
            stages.append(Stage("on_black", {}, thumbnail(pixels)))
        converted = convert_channels(pixels, wanted.channels) if wanted.channels in (1, 3) else pixels
        if converted.shape[1] != pixels.shape[1]:
            stages.append(Stage("channels", {"channels": wanted.channels}, thumbnail(converted)))
        ground = self._ground(converted) if source["kind"] in _FROM_PAPER else None
        if ground == "light":
            pixels = converted = 255 - converted
            stages.append(Stage("inverted", {}, thumbnail(converted)))
        if ground == "light" or (ground == "dark" and converted.shape[2:] != wanted.size):  # else it is ready
            pixels = converted = _cut_out(converted, max(wanted.size))
            stages.append(Stage("centred", {}, thumbnail(converted)))
        fitted = fit_size(converted, wanted.size, wanted.fit)
        if fitted.shape != converted.shape:
            stages.append(Stage("size", {"fit": wanted.fit, "size": list(wanted.size)}, fitted))
        ready = prepare(pixels, wanted) if wanted.channels in (1, 3) else fitted
        return Picture(ready, source, (*stages, *self._last(ready)), label)

    def _ground(self, pixels: Tensor) -> str | None:
        """Whether a grey picture's writing stands on a "light" or "dark" ground, by its border, where the network knows
        a dark one (pixels below a quarter in the mean, as handwriting on black has); None where that is not so."""
        if self.preprocessing.channels != 1 or self.preprocessing.mean[0] > _DARK or min(pixels.shape[-2:]) < 3:
            return None
        shade, edge = _lit(pixels)
        border = pixels[0, 0][edge].double()
        if float((border - shade[edge]).std(correction=0)) >= _EVEN:
            return None
        middle = float(border.median())
        return "light" if middle > _LIGHT else "dark" if middle < 255 - _LIGHT else None

    def _last(self, pixels: Tensor) -> tuple[Stage, ...]:
        x = self.preprocessing.normalise(pixels)
        values = {
            "mean": [round(value, 4) for value in self.preprocessing.mean],
            "std": [round(value, 4) for value in self.preprocessing.std],
            "low": float(x.min()),
            "high": float(x.max()),
            "known_from": self.known_from,
        }
        return (Stage("normalise", values, pixels),)


def _cut_out(pixels: Tensor, least: int) -> Tensor:
    """uint8 (1, 1, h, w), light on dark, cut to what is written, its centre of mass in the middle of a square as in
    MNIST, of at least ``least`` pixels a side, the ground's shade made 0."""
    grey = (pixels.double() - _paper(pixels)).clamp(min=0)
    most = float(grey.max())
    strong = torch.nonzero(grey[0, 0] > most / 3)
    if most < 32 or not len(strong):  # an empty sheet
        return pixels
    (top, left), (bottom, right) = strong.amin(0).tolist(), strong.amax(0).tolist()
    grey = grey[..., top : bottom + 1, left : right + 1] * 255 / most
    height, width = grey.shape[-2:]
    side = round(max(height, width) * (1 + 2 * _MARGIN))
    above = _before(grey.sum((0, 1, 3)), side)
    before = _before(grey.sum((0, 1, 2)), side)
    found: Tensor = F.pad(grey, (before, side - width - before, above, side - height - above))
    if side < least:
        found = F.interpolate(found, (least, least), mode="bilinear")
    return found.round().to(torch.uint8)


def _lit(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(h, w): the shade that the ground would have everywhere, a plane through the border, since light falls from one
    side; and where the border is."""
    height, width = pixels.shape[-2:]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    plane = torch.stack([torch.ones_like(rows), rows, columns], -1).double()  # (h, w, 3)
    edge = torch.zeros(height, width, dtype=torch.bool)
    edge[[0, -1]] = True
    edge[:, [0, -1]] = True
    shade: Tensor = plane @ torch.linalg.lstsq(plane[edge], pixels[0, 0][edge].double()[:, None]).solution
    return shade[..., 0], edge


def _paper(pixels: Tensor) -> Tensor:
    """(h, w): the shade of the ground everywhere."""
    shade, _ = _lit(pixels)
    return shade + (pixels[0, 0].double() - shade).median()


def _on_black(content: bytes) -> Tensor | None:
    """What is drawn in white on a transparent ground, uint8 (1, 3, h, w), laid on black; None where nothing is
    transparent. It is a picture that was decoded before, within all limits."""
    with Image.open(io.BytesIO(content)) as image:
        if not image.has_transparency_data:
            return None
        drawn = ImageOps.exif_transpose(image).convert("RGBA")
    laid = Image.alpha_composite(Image.new("RGBA", drawn.size, "black"), drawn).convert("RGB")
    return torch.from_numpy(np.array(laid)).permute(2, 0, 1).contiguous()[None]


def _before(mass: Tensor, side: int) -> int:
    """Empty places before those of ``mass`` so that its centre is the middle of ``side`` places; none is cut off."""
    centre = float((mass * torch.arange(len(mass))).sum() / mass.sum())
    return min(max(0, round((side - 1) / 2 - centre)), side - len(mass))


def thumbnail(pixels: Tensor) -> Tensor:
    """uint8 (1, c, h, w), shrunk to at most ``THUMBNAIL`` pixels a side."""
    height, width = pixels.shape[-2:]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1:
        return pixels
    return fit_size(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def as_png(pixels: Tensor) -> bytes:
    """uint8 (1, c, h, w) as a PNG file; channels beyond one or three are laid out below each other."""
    channels = pixels.shape[1]
    array = pixels[0].cpu().numpy()
    image = array[0] if channels == 1 else array.transpose(1, 2, 0) if channels == 3 else np.concatenate(list(array))
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "PNG")
    return out.getvalue()


def as_npy(x: Tensor) -> bytes:
    """The model's input as an .npy file."""
    out = io.BytesIO()
    np.save(out, x.detach().cpu().numpy(), allow_pickle=False)
    return out.getvalue()
