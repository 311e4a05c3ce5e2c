"""Augmentation by moving pixels: whole-pixel shifts and mirroring, or one sampling of all else.

Every geometric operation gives, for each pixel of the result, the place in the source that it is taken from. The
places of all operations are composed first, so that a batch is interpolated only once, however many there are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy
import torch
from torch.nn import functional

from convscope.data.augment.moves import Flipped, Move, Shifted, Warped
from convscope.data.augment.operations import Operation
from convscope.seeding import drawn

Floats = numpy.ndarray  # float32


class Shift:
    """flip and crop: no interpolation."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = tuple(operations)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator, moves: list[Move] | None = None
    ) -> torch.Tensor:
        """``moves``, where given, is told what was done to the pictures."""
        moves = [] if moves is None else moves
        for operation in self.operations:
            if operation.name == "flip":
                uniform = drawn(generator, len(images), lambda n: torch.rand(n, generator=generator))
                flips = uniform < operation.values[0]
                images = chosen(flips.to(images.device).reshape(-1, 1, 1, 1), images.flip(3), images)
                moves.append(Flipped(flips))
            else:
                most = int(operation.values[0])
                shifts = drawn(generator, len(images), functools.partial(_shifts, most, generator))
                images = _crop(images, shifts, most)
                moves.append(Shifted(shifts))
        return images


def _shifts(most: int, generator: torch.Generator, count: int) -> torch.Tensor:
    return torch.randint(-most, most + 1, (count, 2), generator=generator)


def _crop(images: torch.Tensor, shifts: torch.Tensor, pixels: int) -> torch.Tensor:
    return shift_looping(images, shifts) if images.device.type == "cpu" else shift_indexing(images, shifts, pixels)


def shift_looping(images: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
    """Each picture moved up and left by its shift (n, 2), zeros behind it; on the CPU, 0.1 ms for 64 of 3×32×32."""
    result = torch.zeros_like(images, memory_format=torch.contiguous_format)
    source, target = images.numpy(), result.numpy()
    most = int(shifts.abs().max())
    rows, columns = _overlaps(images.shape[2], most), _overlaps(images.shape[3], most)
    for place, (up, left) in enumerate(shifts.tolist()):
        (from_rows, to_rows), (from_columns, to_columns) = rows[up], columns[left]
        target[place, :, to_rows, to_columns] = source[place, :, from_rows, from_columns]
    return result


@functools.lru_cache(maxsize=32)
def _overlaps(size: int, most: int) -> dict[int, tuple[slice, slice]]:
    """For each shift from −most to most, which places of a side of ``size`` stay in the picture, and where they go."""
    return {
        shift: (
            slice(max(shift, 0), max(size + min(shift, 0), 0)),
            slice(max(-shift, 0), max(size - max(shift, 0), 0)),
        )
        for shift in range(-most, most + 1)
    }


def shift_indexing(images: torch.Tensor, shifts: torch.Tensor, most: int) -> torch.Tensor:
    """The same by one look-up, for a GPU; on the CPU it takes twice as long as the loop."""
    padded = functional.pad(images, (most, most, most, most))
    windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)  # (n, c, 2·most + 1, 2·most + 1, h, w)
    up, left = (shifts + most).to(images.device).unbind(1)
    return windows[torch.arange(len(images), device=images.device), :, up, left]


def chosen(condition: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    """``torch.where`` of uint8 by bits: 0.03 ms for 64 pictures of 3×32×32, where torch.where takes 0.2 ms."""
    mask = condition.view(torch.uint8).neg()  # 0 or 255
    return (yes & mask) | (no & ~mask)


class Sample:
    """Affine operations and elastic distortion, composed into one sampling grid.

    The place that pixel (x, y) of the result is taken from is A(x, y) + d(x, y), in pixels from the centre: A is the
    product of the affine operations, d the elastic displacement. Outside the picture there is 0.

    Pixels are taken bilinearly, with "cubic" among the operations by cubic convolution. A bilinear sample between
    pixels is a mean of them, so that a network trained on such never sees edges as sharp as those it is asked about:
    one column of MCDNN with 0.65 % errors on MNIST made 0.38 % on the same digits moved by half a pixel. By cubic
    convolution a column made 0.44 % after 15 epochs, bilinearly 0.58 %. It takes three times as long, 0.36 ms for 64
    pictures of 29×29 (0.12 ms).
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.affine = tuple(operation for operation in operations if operation.name not in ("elastic", "cubic"))
        self.cubic = any(operation.name == "cubic" for operation in operations)
        self.elastic = next((operation for operation in operations if operation.name == "elastic"), None)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator, moves: list[Move] | None = None
    ) -> torch.Tensor:
        """``moves``, where given, is told what was done to the pictures."""
        count, _, height, width = images.shape
        matrices = numpy.tile(numpy.eye(3, dtype=numpy.float32), (count, 1, 1))
        if self.affine:
            rows = 2 * len(self.affine)
            uniform = drawn(generator, count, lambda n: torch.rand((rows, n), generator=generator), 1).numpy() * 2 - 1
            for place, operation in enumerate(self.affine):
                matrices = matrices @ inverse_map(operation, uniform[2 * place : 2 * place + 2], images)  # −1 … 1
        if self.elastic is None:
            return warp(images, matrices, moves=moves, cubic=self.cubic)
        alpha, sigma = self.elastic.values
        terms = smooth_terms(height, sigma).shape[1], smooth_terms(width, sigma).shape[1]
        own = generator if images.device.type == "cpu" else _on_device(generator, images.device)
        noise = drawn(
            generator,
            count,
            lambda n: torch.randn((terms[0], n, terms[1], 2), generator=own, device=images.device),
            1,
        )
        return warp(images, matrices, noise, alpha, sigma, moves, self.cubic)


def warp(
    images: torch.Tensor,
    matrices: Floats,
    noise: torch.Tensor | None = None,
    alpha: float = 0,
    sigma: float = 0,
    moves: list[Move] | None = None,
    cubic: bool = False,
) -> torch.Tensor:
    """uint8 (n, c, h, w), pixel (x, y) taken from ``matrices``·(x, y, 1) + d(x, y), 0 outside, rounded; bilinearly, or
    by cubic convolution with a = −3/4 (Keys 1981), cut to 0 … 255.

    ``matrices`` is (n, 3, 3), in pixels from the picture's centre. ``noise`` (terms over y, n, terms over x, 2), of
    normal numbers, makes the elastic displacement d of strength ``alpha`` and smoothness ``sigma``. ``moves``, where
    given, is told what was done.
    """
    _, _, height, width = images.shape
    rows, columns = _bases(height, width, alpha, sigma if noise is not None else 0.0, images.device)
    # coefficients of the fields, [term over y, picture, term over x, component], see _bases
    terms = images.new_zeros((rows.shape[1], len(images), columns.shape[0] // 2, 2), dtype=torch.float32)
    if noise is not None:
        terms[:-2, :, :-2] = noise
    affine = torch.from_numpy(numpy.ascontiguousarray(matrices[:, :2])).to(images.device, non_blocking=True)
    terms[-2, :, -1] = affine[:, :, 0]  # 1 · x
    terms[-1, :, -2] = affine[:, :, 1]  # y · 1
    terms[-2, :, -2] = affine[:, :, 2]  # 1 · 1
    grid = _grid(rows, columns, terms)
    if moves is not None:
        moves.append(Warped(matrices, grid, noise is not None))
    mode = "bicubic" if cubic else "bilinear"
    sampled = functional.grid_sample(images.to(torch.float32), grid, mode=mode, align_corners=False)
    # a mean of values from 0 to 255 needs no clamping; cubic convolution goes beyond beside an edge
    return rounded(sampled.clamp_(0, 255) if cubic else sampled)


def inverse_map(operation: Operation, uniform: Floats, images: torch.Tensor) -> Floats:
    """(n, 3, 3): from places in the operation's result to places in its source; ``uniform`` is (2, n) in −1 … 1."""
    count = uniform.shape[1]
    amount = operation.values[0]
    result = numpy.zeros((count, 3, 3), dtype=numpy.float32)
    result[:, 0, 0] = result[:, 1, 1] = result[:, 2, 2] = 1
    if operation.name == "translate":
        result[:, :2, 2] = uniform.T * amount
    elif operation.name == "rotate":
        angle = uniform[0] * numpy.float32(numpy.pi / 180 * amount)
        result[:, 0, 0] = result[:, 1, 1] = numpy.cos(angle)
        result[:, 0, 1] = numpy.sin(angle)
        result[:, 1, 0] = -result[:, 0, 1]
    elif operation.name == "scale":
        result[:, 0, 0] = result[:, 1, 1] = 1 / (1 + uniform[0] * amount)
    elif operation.name == "stretch":
        result[:, 0, 0], result[:, 1, 1] = 1 / (1 + uniform * amount)
    elif operation.name == "shear":
        result[:, 0, 1] = numpy.tan(uniform[0] * numpy.float32(numpy.pi / 180 * amount))
    else:
        assert operation.name == "width"
        least, most = operation.values
        choices = numpy.arange(least, most + 1, 2, dtype=numpy.float32)
        picked = ((uniform[0] + 1) / 2 * len(choices)).astype(numpy.int64).clip(max=len(choices) - 1)
        result = _width_map(images, choices[picked], 0)
    return result


def _width_map(images: torch.Tensor, widths: Floats, threshold: int) -> Floats:
    """(n, 3, 3) maps that scale each figure's bounding box to its width."""
    inked = (images.amax(dim=(1, 2)) > threshold).cpu().numpy()  # (n, w)
    left = inked.argmax(axis=1)
    right = inked.shape[1] - 1 - inked[:, ::-1].argmax(axis=1)
    middle = ((left + right) / 2 - (inked.shape[1] - 1) / 2).astype(numpy.float32)
    ratio = numpy.where(inked.any(axis=1), (right - left + 1) / widths, 1).astype(numpy.float32)
    result = numpy.zeros((len(widths), 3, 3), dtype=numpy.float32)
    result[:, 0, 0] = ratio
    room = numpy.maximum((inked.shape[1] - widths) / 2, 0)
    result[:, 0, 2] = middle - ratio * middle.clip(-room, room)  # the box stays where it is, but inside the picture
    result[:, 1, 1] = result[:, 2, 2] = 1
    return result


def _grid(rows: torch.Tensor, columns: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    """The sampling grid (n, h, w, 2).

    Every field is a sum of products of a term over y and a term over x, so two matrix products make the grid: 0.06 ms
    for 64 grids of 28×28, where torch's affine_grid takes 0.5 ms for the affine part alone.
    """
    height, (_, count, terms_x, _) = rows.shape[0], terms.shape
    over_y = rows @ terms.reshape(terms.shape[0], -1)  # (h, n·q·2)
    grid = over_y.reshape(height * count, terms_x * 2) @ columns  # (h·n, w·2)
    # grid_sample takes twice as long (0.1 ms more) on a view laid out as (h, n, w, 2); the copy takes 0.01 ms
    return grid.reshape(height, count, -1, 2).transpose(0, 1).contiguous()


def rounded(pixels: torch.Tensor) -> torch.Tensor:
    """Floats from 0 to 255 to the nearest uint8; by way of int32, since torch converts that three times faster."""
    return pixels.add_(0.5).to(torch.int32).to(torch.uint8)


@functools.lru_cache(maxsize=32)
def _bases(
    height: int, width: int, alpha: float, sigma: float, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Terms over y, (h, p), and over x for both components at once, (q·2, w·2), that all fields are sums of.

    The last two are 1 and the coordinate, in pixels from the centre; those before are the elastic field's. ``columns``
    also turns pixels into grid_sample's units of half a picture.
    """
    smooth_y = smooth_terms(height, sigma) if sigma else numpy.zeros((height, 0))
    smooth_x = smooth_terms(width, sigma) if sigma else numpy.zeros((width, 0))
    rows = numpy.column_stack([smooth_y * alpha / 3**0.5, numpy.ones(height), numpy.arange(height) - (height - 1) / 2])
    over_x = numpy.column_stack([smooth_x, numpy.ones(width), numpy.arange(width) - (width - 1) / 2])
    columns = numpy.einsum("wq,de->qdwe", over_x, numpy.diag([2 / width, 2 / height]))
    return (
        torch.from_numpy(rows.astype(numpy.float32)).to(device),
        torch.from_numpy(columns.reshape(2 * over_x.shape[1], 2 * width).astype(numpy.float32)).to(device),
    )


@functools.lru_cache(maxsize=32)
def smooth_terms(size: int, sigma: float) -> Floats:
    """(size, k): factors F with F·Fᵀ = the covariance of white noise of variance 1, smoothed by a Gaussian of σ.

    Simard, Steinkraus, Platt, "Best practices for convolutional neural networks" (2003): each component of the
    displacement is α times noise uniform in −1 … 1 (variance 1/3), smoothed by a Gaussian of σ that sums to 1. A sum of
    so many is near normal, so drawing normal numbers with the same covariance is the same field; and the covariance
    is so smooth that few terms carry it: 7 instead of 28 at σ = 4 keep 99.9 % of the variance, which is 16 times
    fewer random numbers, the costliest part. The noise goes on outside the picture, so the edge moves as the middle.
    """
    reach = int(4 * sigma + 0.5)
    kernel = numpy.exp(-(numpy.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    covariance_at = numpy.correlate(kernel, kernel, mode="full")[len(kernel) - 1 :]  # by distance
    covariance_at = numpy.concatenate([covariance_at, numpy.zeros(size)])
    distance = numpy.abs(numpy.arange(size)[:, None] - numpy.arange(size)[None, :])
    variances, vectors = numpy.linalg.eigh(covariance_at[distance])
    variances, vectors = variances[::-1].clip(min=0), vectors[:, ::-1]
    kept = int(numpy.searchsorted(numpy.cumsum(variances) / variances.sum(), 0.999)) + 1
    terms: Floats = vectors[:, :kept] * numpy.sqrt(variances[:kept])
    return terms


def _on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """A generator on ``device`` that goes on from ``generator``."""
    seed = int(torch.randint(0, 2**62, (), generator=generator))
    return torch.Generator(device=device).manual_seed(seed)
