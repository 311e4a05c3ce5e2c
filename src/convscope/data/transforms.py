"""Pictures made to fit a model: channels converted, size reached by resizing, padding or cropping, all on uint8."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy
import torch
from torch.nn import functional

from convscope.errors import ArgumentError
from convscope.rules.figure_width import mixed, mixing_matrices
from convscope.spec import Fit, Preprocessing

# Parts of 65,536 of red, green and blue in grey, ITU-R 601: 0.299, 0.587, 0.114; they add up to 65,536, so that a
# grey pixel keeps its value.
_LUMA = (19595, 38470, 7471)
_MIXED = 1024  # pictures whose widths are changed at a time: more leave the cache


def prepare(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """uint8 (n, c, h, w) → uint8 (n, channels, height, width) as ``preprocessing`` wants them, on the same device.

    Pictures that fit already are returned as they are. Raises ArgumentError for another type or number of dimensions.
    """
    _check_images(images, "images")
    fitted = fit_size(convert_channels(images, preprocessing.channels), preprocessing.size, preprocessing.fit)
    return fitted if preprocessing.width is None else normalise_width(fitted, preprocessing.width)


def convert_channels(images: torch.Tensor, channels: int) -> torch.Tensor:
    """Grey ↔ colour on uint8 (n, c, h, w).

    Colour becomes grey by ITU-R 601 luma, rounded; grey becomes colour by repetition; an alpha channel (c = 2 or 4) is
    composited on white first.
    """
    _check_images(images, "images")
    if images.shape[1] == channels:
        return images
    if images.shape[1] in (2, 4):
        images = _on_white(images)
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.repeat(1, channels, 1, 1)
    if images.shape[1] == 3 and channels == 1:
        # int32 is exact: 255 · 65,536 < 2³¹
        red, green, blue = images.to(torch.int32).unbind(1)
        grey = (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue + 32768) >> 16
        return grey.to(torch.uint8).unsqueeze(1)
    raise ArgumentError("channels", channels, f"1 or 3, or the {images.shape[1]} channels that the pictures have")


def fit_size(images: torch.Tensor, size: tuple[int, int], fit: Fit = "resize") -> torch.Tensor:
    """uint8 (n, c, h, w) → uint8 (n, c, *size).

    "resize" stretches; "pad" centres on zeros, shrinking only pictures that are too large; "crop" scales until the
    picture covers ``size`` and cuts the centre. Scaling is bilinear with antialiasing; an odd rest goes to the right
    and the bottom.
    """
    _check_images(images, "images")
    if fit not in get_args(Fit):
        raise ArgumentError("fit", fit, f"one of {', '.join(get_args(Fit))}")
    if min(size) < 1:
        raise ArgumentError("size", size, "a height and a width of at least 1")
    return fitted_by(_resize, images, size, fit)


def fitted_by(
    resize: Callable[[torch.Tensor, int, int], torch.Tensor], images: torch.Tensor, size: tuple[int, int], fit: Fit
) -> torch.Tensor:
    """Pictures (n, c, h, w) of any type brought to ``size`` as ``fit_size`` says, scaled by ``resize``."""
    height, width = size
    if images.shape[-2:] == (height, width):
        return images
    if fit == "resize":
        return resize(images, height, width)
    own_height, own_width = images.shape[-2:]
    if fit == "pad":
        scale = min(height / own_height, width / own_width, 1.0)
        images = resize(images, max(1, round(own_height * scale)), max(1, round(own_width * scale)))
        rows, columns = height - images.shape[-2], width - images.shape[-1]
        return functional.pad(images, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    scale = max(height / own_height, width / own_width)
    images = resize(images, max(height, round(own_height * scale)), max(width, round(own_width * scale)))
    top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
    return images[..., top : top + height, left : left + width].contiguous()


def normalise_width(images: torch.Tensor, width: int, threshold: int = 0) -> torch.Tensor:
    """uint8 (n, c, h, w) with each figure scaled horizontally so that its bounding box is ``width`` pixels wide.

    The figure is what is brighter than ``threshold``; its box keeps its middle, unless it would hang over the edge.
    Blank pictures stay as they are; between two columns it is linear, rounded. For the columns W10 … W20 of Cireşan,
    Meier, Schmidhuber, "Multi-column deep neural networks" (2012); the equations are those of ``rules.EqualWidth``.
    """
    _check_images(images, "images")
    if len(images) == 0:
        return images
    parts = []
    for part in torch.split(images, _MIXED):
        moved = mixed(part.to(torch.float32), mixing_matrices(part, width, threshold))
        parts.append((moved + 0.5).to(torch.int32).to(torch.uint8))  # by way of int32, which is three times faster
    return torch.cat(parts)


def as_images(pictures: torch.Tensor | numpy.ndarray, argument: str = "images") -> torch.Tensor:
    """uint8 (n, h, w), (n, c, h, w) or (n, h, w, c) → a contiguous uint8 (n, c, h, w) tensor.

    Four dimensions are taken as channels-last only where the last can be channels (1, 3 or 4) and the second can not.
    """
    tensor = pictures if isinstance(pictures, torch.Tensor) else _from_numpy(pictures, argument)
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        kind = "meta" if tensor.device.type == "meta" else str(tensor.layout).removeprefix("torch.")
        raise ArgumentError(argument, f"a {kind} tensor", "a dense tensor with its numbers")
    if tensor.dtype != torch.uint8 or tensor.ndim not in (3, 4):
        kind = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        raise ArgumentError(
            argument, kind, "uint8 pixels of shape (n, h, w), (n, c, h, w) or (n, h, w, c)",
            "Scale pixels to 0 … 255 and round them" if tensor.is_floating_point() else "",
        )  # fmt: skip
    if tensor.ndim == 3:
        tensor = tensor.unsqueeze(1)
    elif tensor.shape[3] in (1, 3, 4) and tensor.shape[1] not in (1, 2, 3, 4):
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.contiguous()


def _from_numpy(pictures: numpy.ndarray, argument: str) -> torch.Tensor:
    if not isinstance(pictures, numpy.ndarray) or pictures.dtype.kind not in "uif" or pictures.dtype.itemsize > 8:
        raise ArgumentError(argument, getattr(pictures, "dtype", type(pictures).__name__), "an array of uint8 pixels")
    if not pictures.dtype.isnative:
        pictures = pictures.astype(pictures.dtype.newbyteorder("="))
    return torch.from_numpy(numpy.ascontiguousarray(pictures))


def _resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    if images.shape[-2:] == (height, width) or images.numel() == 0:
        return images if images.numel() else images.new_zeros((*images.shape[:2], height, width))
    if images.device.type == "cpu" and width > 1:
        return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    # off the CPU interpolate knows no uint8; on it, torch 2.13's uint8 kernel fails for results one pixel wide
    scaled = functional.interpolate(images.float(), (height, width), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


def _on_white(images: torch.Tensor) -> torch.Tensor:
    """The last channel is opacity: c·a + 255·(1 − a), rounded."""
    colour, alpha = images[:, :-1].to(torch.int32), images[:, -1:].to(torch.int32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).to(torch.uint8)


def _check_images(images: torch.Tensor, argument: str) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        kind = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
        raise ArgumentError(argument, kind, "a uint8 tensor of shape (n, c, h, w)")
