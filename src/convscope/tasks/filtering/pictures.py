"""``filter_picture``: any kernel on any picture, grey or colour, with or without alpha, 8 or 16 bits, kept as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from convscope import kernels
from convscope.errors import ArgumentError, UnknownNameError
from convscope.tasks.filtering.linear import correlate, take_apart
from convscope.tasks.filtering.median import median
from convscope.tasks.filtering.tiles import check_padding, in_strips

Array = NDArray[Any]
_DEPTHS = (numpy.uint8, numpy.uint16, numpy.float32, numpy.float64)


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is done with a padded strip, and how far it looks; ``signed`` and ``angle`` say what the numbers are."""

    reach: tuple[int, int]
    apply: Callable[[Array], Array]
    signed: bool = False
    angle: bool = False
    exact: bool = False  # the values are some of the picture's own


def filter_picture(
    picture: Any,
    kernel: Any,
    *,
    size: int | None = None,
    sigma: float | None = None,
    angle: float | None = None,
    amount: float | None = None,
    mode: str = "correlation",
    padding: str = "reflect",
    fill: float = 0.0,
    normalise: bool = False,
    scale: float = 1.0,
    offset: float | None = None,
    alpha: str = "keep",
    threads: int | None = None,
    out: Array | None = None,
) -> Any:
    """``picture`` filtered by ``kernel``: a picture of the same shape and depth.

    ``picture`` is an array (h, w) or (h, w, channels) or a tensor (h, w) or (channels, h, w), of uint8, uint16, float32
    or float64, or the path of a picture file. ``kernel`` is one of ``convscope.kernels.NAMES``, with its ``size``,
    ``sigma``, ``angle`` or ``amount``, or rows of numbers of one's own, divided by their sum if ``normalise``. ``mode``
    is "correlation" or "convolution", which turns the kernel by 180°. ``padding`` says what lies beyond the edges:
    "reflect" (c b | a b c), "symmetric" (b a | a b c), "replicate", "circular", "zeros" or "constant", the ``fill``.

    y = scale · filtered + offset. For 8 and 16 bits y is rounded and cut to what they hold; then ``offset`` is by
    default half their range for filters whose results have either sign (Laplacian, log, sobel_x …), and directions
    −π … π fill the range. Of floats nothing is cut. With two or four channels the last is ``alpha``: "keep" or
    "filter". 8 bits are summed in float32, all others in float64. ``out`` takes the result, also memory-mapped: memory
    beside picture and result is a few strips, whatever the size.

    Raises UnknownNameError for names that are not there, ArgumentError for kernels or pictures that cannot be,
    DataError for a file that cannot be read.
    """
    if isinstance(picture, str | Path):
        from convscope.tasks.filtering.files import read_picture

        picture = read_picture(picture)
    pixels, given = _pixels(picture)
    options = {"size": size, "sigma": sigma, "angle": angle, "amount": amount}
    work = _work(kernel, {name: value for name, value in options.items() if value is not None}, mode, normalise)
    check_padding(padding, pixels.shape[:2], (2 * work.reach[0] + 1, 2 * work.reach[1] + 1))
    _check(alpha, fill=fill, scale=scale, offset=0.0 if offset is None else offset)
    result = _result(pixels, out)
    finish = _finish(work, pixels.dtype, scale, offset)
    precise = pixels.dtype.type if work.exact else numpy.float32 if pixels.dtype == numpy.uint8 else numpy.float64

    def whole(tile: Array) -> Array:
        return finish(work.apply(tile))

    for channel in range(pixels.shape[2]):
        source, kept = pixels[:, :, channel], result[:, :, channel]
        if alpha == "keep" and pixels.shape[2] in (2, 4) and channel == pixels.shape[2] - 1:
            kept[...] = source
        else:
            in_strips(source, kept, work.reach, padding, fill, precise, whole, threads)
    return given(result)


def _check(alpha: object, **numbers: object) -> None:
    if alpha not in ("keep", "filter"):
        raise UnknownNameError("alpha", alpha, ("keep", "filter"))
    for name, number in numbers.items():
        if not isinstance(number, int | float) or not numpy.isfinite(number):
            raise ArgumentError(name, number, "a finite number")


def _work(kernel: Any, options: dict[str, Any], mode: str, normalise: bool) -> _Work:
    if mode not in ("correlation", "convolution"):
        raise UnknownNameError("mode", mode, ("correlation", "convolution"))
    turned = -1 if mode == "convolution" else 1
    if not isinstance(kernel, str):
        for option in options:
            raise ArgumentError(option, options[option], "nothing: a kernel of one's own has its size and values")
        parts = take_apart(kernels.checked(kernel, normalise)[::turned, ::turned])
        return _Work(parts.reach, lambda tile: correlate(tile, parts))
    found = kernels.named(kernel)
    if normalise:
        raise ArgumentError("normalise", normalise, f"False for {kernel!r}, which is as it should be")
    if found.build is not None:
        parts = take_apart(kernels.kernel(kernel, **options)[::turned, ::turned])
        return _Work(parts.reach, lambda tile: correlate(tile, parts), signed=found.signed)
    kernels.check_options(kernel, options)
    if found.pair is None:
        side = kernels.odd_size(options.get("size", 3))
        return _Work((side // 2, side // 2), lambda tile: median(tile, side), exact=True)
    along_x, along_y = (take_apart(kernels.kernel(name)[::turned, ::turned]) for name in found.pair)
    if kernel.endswith("_direction"):

        def direction(tile: Array) -> Array:  # + 0.0: no −0, whose direction would be −π
            return numpy.asarray(numpy.arctan2(correlate(tile, along_y) + 0.0, correlate(tile, along_x) + 0.0))

        return _Work(along_x.reach, direction, angle=True)
    return _Work(along_x.reach, lambda tile: numpy.hypot(correlate(tile, along_x), correlate(tile, along_y)))


def _finish(work: _Work, depth: numpy.dtype[Any], scale: float, offset: float | None) -> Callable[[Array], Array]:
    """scale · y + offset, rounded and cut where the depth is whole numbers."""
    if depth.kind == "f":
        return lambda y: y if scale == 1 and not offset else scale * y + (offset or 0.0)
    most = float(numpy.iinfo(depth).max)
    if work.angle:
        scale, offset = scale * most / (2 * numpy.pi), most / 2 if offset is None else offset
    elif offset is None:
        offset = (most + 1) / 2 if work.signed else 0.0
    if work.exact and scale == 1 and offset == 0:
        return lambda y: y

    def whole(y: Array) -> Array:
        y = y.astype(numpy.float64) if y.dtype.kind != "f" else y
        if scale != 1:
            y = y * y.dtype.type(scale)
        if offset:
            y = y + y.dtype.type(offset)
        return numpy.clip(numpy.rint(y, out=y), 0, most, out=y)

    return whole


def _pixels(picture: Any) -> tuple[Array, Callable[[Array], Any]]:
    """(h, w, channels), and how the result becomes what was given."""
    if isinstance(picture, torch.Tensor):
        array = picture.detach().cpu().numpy()
        if array.ndim == 3:
            pixels, _ = _pixels(numpy.moveaxis(array, 0, 2))
            return pixels, lambda y: torch.from_numpy(numpy.ascontiguousarray(numpy.moveaxis(y, 2, 0)))
        pixels, _ = _pixels(array)
        return pixels, lambda y: torch.from_numpy(y[:, :, 0])
    if not isinstance(picture, numpy.ndarray):
        raise ArgumentError("picture", type(picture).__name__, "an array, a tensor or a path")
    if picture.dtype not in _DEPTHS:
        raise ArgumentError("picture", str(picture.dtype), "uint8, uint16, float32 or float64")
    if picture.ndim not in (2, 3) or 0 in picture.shape or (picture.ndim == 3 and picture.shape[2] > 4):
        raise ArgumentError("picture", f"shape {picture.shape}", "(height, width) or (height, width, 1 to 4 channels)")
    if picture.dtype.kind == "f":
        for row in picture:  # row by row: no second picture in memory
            if not numpy.isfinite(row).all():
                raise ArgumentError("picture", "nan or infinity among its values", "finite numbers")
    if picture.ndim == 3:
        return picture, lambda y: y
    return picture[:, :, None], lambda y: y[:, :, 0]


def _result(pixels: Array, out: Array | None) -> Array:
    if out is None:
        return numpy.empty(pixels.shape, pixels.dtype)
    wanted = pixels.shape if out.ndim == 3 else pixels.shape[:2]
    if out.dtype != pixels.dtype or out.shape != wanted or (out.ndim == 2 and pixels.shape[2] > 1):
        got = f"{out.dtype} of shape {out.shape}"
        raise ArgumentError("out", got, f"{pixels.dtype} of the picture's shape {pixels.shape}")
    if numpy.may_share_memory(out, pixels):
        raise ArgumentError("out", "the picture itself", "other memory: neighbours are read after a row is written")
    return out if out.ndim == 3 else out[:, :, None]
