"""What scikit-learn calls X as pictures: rows of features, grey pictures, pictures with channels at either end."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from convscope.errors import ArgumentError

Array = npt.NDArray[Any]
InputShape = tuple[int, ...] | list[int] | Literal["row"] | None
_CHANNELS = (1, 3, 4)


def as_array(values: Any) -> Any:
    """A tensor as numpy's array, with the same memory where it can be; anything else as it is."""
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values


def pixels_tensor(X: Array) -> torch.Tensor:
    """uint8 X as a tensor: with the same memory, but for an array that must not be written, which is copied (joblib
    gives its workers large ones so)."""
    return torch.from_numpy(np.require(X, requirements=["C", "W"]))


def picture_shape(shape: tuple[int, ...], input_shape: InputShape) -> tuple[int, ...]:
    """The shape of one picture of X, whose own is ``shape`` (n, …), as X holds it: (h, w), (h, w, c) or (c, h, w).

    Rows of features become pictures by ``input_shape`` alone, "row" being pictures of one line of pixels: 64 numbers
    may be 8 × 8 or 4 × 16, and nothing in them says which. Raises ArgumentError, naming ``input_shape``, for rows
    without it, and where it does not go with X.
    """
    own = shape[1:]
    if input_shape is None:
        if len(own) == 1:
            hint = f"{own[0]} numbers a row may be laid out in several ways{_guess(own[0])}"
            raise ArgumentError("input_shape", None, "the shape of a picture, or 'row', beside rows of features", hint)
        return own
    if isinstance(input_shape, str):
        if input_shape != "row":
            raise ArgumentError("input_shape", input_shape, "(h, w), (h, w, c), (c, h, w), 'row' or None")
        if len(own) != 1:
            raise ArgumentError("input_shape", "row", f"None or {own}: X holds pictures already")
        return (1, own[0])
    wanted = tuple(input_shape)
    if len(wanted) not in (2, 3) or not all(isinstance(each, int | np.integer) and each > 0 for each in wanted):
        raise ArgumentError("input_shape", input_shape, "(h, w), (h, w, c), (c, h, w), 'row' or None")
    if len(own) == 1 and math.prod(wanted) != own[0]:
        raise ArgumentError("input_shape", wanted, f"a shape of the {own[0]} features that X has")
    if len(own) > 1 and wanted != own:
        raise ArgumentError("input_shape", wanted, f"{own}, the shape of X's pictures")
    return wanted


def _guess(features: int) -> str:
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side * side * channels == features:
            return f"; ({side}, {side}{', 3' if channels == 3 else ''}) is one of them"
    return ""


def channels_first(X: Array, shape: tuple[int, ...]) -> Array:
    """X (n, …) with pictures of ``shape`` → (n, c, h, w).

    Of three sizes the one at an end that is 1, 3 or 4 is taken for the channels; ArgumentError where none or both are.
    """
    pictures = X.reshape(len(X), *shape)
    if len(shape) == 2:
        return pictures[:, None]
    if len(shape) != 3:
        raise ArgumentError("X", X.shape, "rows of features, (n, h, w), (n, h, w, c) or (n, c, h, w)")
    last, first = shape[2] in _CHANNELS, shape[0] in _CHANNELS
    if last == first:
        wanted = "pictures (h, w, c) or (c, h, w) whose channels, 1, 3 or 4, are at one end alone"
        raise ArgumentError("X", X.shape, wanted, "Grey pictures (h, w) need no channels")
    return np.moveaxis(pictures, 3, 1) if last else pictures


def as_pixels(X: Array) -> Array:
    """X as uint8, where its numbers are pixels already; ArgumentError where they are not whole numbers 0 … 255."""
    if X.dtype == np.uint8:
        return X
    if X.size and not ((X >= 0) & (X <= 255) & (np.floor(X) == X)).all():
        hint = "The classifier was trained on uint8 pictures; numbers of another scale would mean something else to it"
        raise ArgumentError("X", f"{X.dtype} from {X.min():.4g} to {X.max():.4g}", "whole numbers from 0 to 255", hint)
    return X.astype(np.uint8)
