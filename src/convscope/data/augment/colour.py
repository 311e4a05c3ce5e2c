"""Augmentation of colour: each operation is, for each picture, a 3×3 matrix and an offset; all are applied at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy
import torch

from convscope.data.augment.geometry import rounded
from convscope.data.augment.operations import Operation
from convscope.seeding import drawn

LUMA = numpy.array([0.299, 0.587, 0.114], dtype=numpy.float32)  # ITU-R 601
# red, green, blue → luma, orange–blue, purple–green (NTSC); a turn of the last two is a turn of hue
_TO_YIQ = numpy.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_FROM_YIQ = numpy.linalg.inv(_TO_YIQ)


class Colour:
    """brightness, contrast, saturation, hue, pca: x ↦ M·x + b of each pixel's channels, then clipped to 0 … 255.

    Clipping waits until the end, so a pixel that one operation overexposes and the next takes back is kept. Grey
    pictures take brightness and contrast. ``principal`` is (3, 3): for pca, the columns λᵢ·pᵢ of Krizhevsky, Sutskever,
    Hinton, "ImageNet classification with deep convolutional neural networks" (2012), section 4.1, in grey levels.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = tuple(operations)

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator, principal: numpy.ndarray | None = None
    ) -> torch.Tensor:
        count, channels, height, width = images.shape
        pixels = images.to(torch.float32).reshape(count, channels, height * width)
        matrix = numpy.broadcast_to(numpy.eye(channels, dtype=numpy.float32), (count, channels, channels))
        offset = numpy.zeros((count, channels), dtype=numpy.float32)
        means: numpy.ndarray | None = None
        for operation in self.operations:
            own = numpy.eye(channels, dtype=numpy.float32)
            shift = numpy.zeros((count, channels), dtype=numpy.float32)
            grey = numpy.ones((channels, channels), dtype=numpy.float32) * (LUMA if channels == 3 else 1)
            if operation.name == "pca":
                assert principal is not None
                normal = drawn(generator, count, lambda n: torch.randn((n, 3), generator=generator))
                amounts = normal.numpy() * numpy.float32(operation.values[0])
                shift = amounts @ principal.T.astype(numpy.float32)
                own = numpy.broadcast_to(own, (count, channels, channels))
            elif operation.name == "hue":
                own = _hue_matrices(_uniform(count, generator) * operation.values[0])
            else:
                factor = (1 + _uniform(count, generator) * operation.values[0]).astype(numpy.float32)[:, None, None]
                own = own * factor + (grey * (1 - factor) if operation.name == "saturation" else 0)
                if operation.name == "contrast":
                    means = pixels.mean(dim=2).cpu().numpy() if means is None else means
                    mean_now = numpy.einsum("nij,nj->ni", matrix, means) + offset  # of the picture so far
                    shift = (mean_now @ grey.T) * (1 - factor[:, :, 0])
            matrix = own @ matrix
            offset = numpy.einsum("nij,nj->ni", own, offset) + shift
        turned = torch.baddbmm(
            torch.from_numpy(offset).to(images.device).unsqueeze(2),
            torch.from_numpy(numpy.ascontiguousarray(matrix)).to(images.device),
            pixels,
        )
        return rounded(turned.clamp_(0, 255)).reshape(images.shape)


def mean_colour(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """uint8 (c,): the rounded mean of each channel over all pixels of ``parts``, uint8 (n, c, h, w) each."""
    sums, count = torch.zeros(1, dtype=torch.int64), 0
    for part in parts:
        sums = sums.to(part.device) + part.sum(dim=(0, 2, 3), dtype=torch.int64)
        count += part[:, 0].numel()
    return (sums / count).round().to(torch.uint8)


def principal_colours(parts: Iterable[torch.Tensor]) -> numpy.ndarray:
    """(3, 3): eigenvectors of the covariance of red, green and blue over all pixels of ``parts``, uint8 (n, 3, h, w)
    each, as columns, each times its eigenvalue (in units where white is 1), in grey levels (times 255)."""
    total, square, count = numpy.zeros(3), numpy.zeros((3, 3)), 0
    for part in parts:
        pixels = part.permute(1, 0, 2, 3).reshape(3, -1).to(torch.float64).cpu().numpy() / 255
        total += pixels.sum(axis=1)
        square += pixels @ pixels.T
        count += pixels.shape[1]
    mean = total / count
    variances, vectors = numpy.linalg.eigh(square / count - numpy.outer(mean, mean))
    columns: numpy.ndarray = vectors * variances * 255
    return columns


def _uniform(count: int, generator: torch.Generator) -> numpy.ndarray:
    """(n,) in −1 … 1."""
    uniform: numpy.ndarray = drawn(generator, count, lambda n: torch.rand(n, generator=generator)).numpy() * 2 - 1
    return uniform


def _hue_matrices(degrees: numpy.ndarray) -> numpy.ndarray:
    """(n, 3, 3) turns about the grey axis of the YIQ space, which leave luma as it is."""
    angle = numpy.deg2rad(degrees)
    turn = numpy.zeros((len(degrees), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = numpy.cos(angle)
    turn[:, 2, 1] = numpy.sin(angle)
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrices: numpy.ndarray = (_FROM_YIQ @ turn @ _TO_YIQ).astype(numpy.float32)
    return matrices
