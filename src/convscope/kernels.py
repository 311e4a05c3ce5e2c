"""Classic kernels of picture processing by name; their values are those of a cross-correlation.

    y(i, j) = Σ K(a, b) · x(i + a − r, j + b − s), K of size (2r + 1, 2s + 1)

True convolution turns K by 180°.

``NAMES`` are all filters: those with a kernel, gradients made of two (sobel, prewitt and their directions), and median.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from convscope.errors import ArgumentError, DataError, UnknownNameError

Kernel = NDArray[numpy.float64]


@dataclasses.dataclass(frozen=True)
class Filter:
    """``build`` makes the kernel from those of size, sigma, angle, amount that ``takes`` names; None for those without
    one. ``signed``: flat parts give 0, and what comes out is of either sign. ``pair``: the filters along x and y that a
    gradient's magnitude or direction is made of."""

    title: str
    build: Callable[..., Kernel] | None = None
    takes: tuple[str, ...] = ()
    signed: bool = False
    pair: tuple[str, str] | None = None


def odd_size(size: object, argument: str = "size") -> int:
    """ArgumentError for a size that has no middle."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1 or size % 2 == 0:
        raise ArgumentError(argument, size, "an odd integer ≥ 1: a kernel of even size has no middle")
    return size


def _box(size: int = 3) -> Kernel:
    return numpy.full((odd_size(size), size), 1 / size**2)


def _bell(size: int | None, sigma: float | None) -> tuple[Kernel, float]:
    """exp(−x²/2σ²) at the integers, divided by its sum, and σ. The size left out: 3σ to either side; σ left out: what
    OpenCV takes for a size, 0.3·((size − 1)/2 − 1) + 0.8."""
    if sigma is None:
        sigma = 1.0 if size is None else 0.3 * ((odd_size(size) - 1) / 2 - 1) + 0.8
    if not isinstance(sigma, int | float) or not math.isfinite(sigma) or sigma <= 0:
        raise ArgumentError("sigma", sigma, "a number > 0, in pixels")
    whole = 2 * math.ceil(3 * sigma) + 1 if size is None else odd_size(size)
    x = numpy.arange(whole) - whole // 2
    bell = numpy.exp(-(x**2) / (2 * sigma**2))
    return bell / bell.sum(), sigma


def _gaussian(size: int | None = None, sigma: float | None = None) -> Kernel:
    bell, _ = _bell(size, sigma)
    return numpy.outer(bell, bell)


def _log(size: int | None = None, sigma: float | None = None) -> Kernel:
    """∇²g = (x² + y² − 2σ²)/σ⁴ · g(x)·g(y), less its mean, so that a flat part gives 0 (Marr, Hildreth 1980)."""
    bell, width = _bell(size, sigma)
    x = numpy.arange(len(bell)) - len(bell) // 2
    kernel = (x[:, None] ** 2 + x**2 - 2 * width**2) / width**4 * numpy.outer(bell, bell)
    return numpy.asarray(kernel - kernel.mean())


def _unsharp(size: int | None = None, sigma: float | None = None, amount: float = 1.0) -> Kernel:
    """x + amount·(x − blurred x)."""
    if not isinstance(amount, int | float) or not math.isfinite(amount):
        raise ArgumentError("amount", amount, "a number")
    kernel = -amount * _gaussian(size, sigma)
    kernel[len(kernel) // 2, len(kernel) // 2] += 1 + amount
    return kernel


def _motion(size: int = 9, angle: float = 0.0) -> Kernel:
    """The mean along a line of ``size`` pixels through the middle, ``angle`` degrees from the x axis against the clock;
    every pixel counts as near as the line comes (bilinear weights of 64 points a pixel)."""
    reach = odd_size(size) // 2
    if not isinstance(angle, int | float) or not math.isfinite(angle):
        raise ArgumentError("angle", angle, "degrees")
    turn = math.radians(angle)
    along = numpy.linspace(-reach, reach, 2 * reach * 64 + 1)
    x, y = reach + along * round(math.cos(turn), 15), reach - along * round(math.sin(turn), 15)
    kernel = numpy.zeros((size + 1, size + 1))
    left, top = numpy.floor(x).astype(int), numpy.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - abs(y - top - dy)) * (1 - abs(x - left - dx))
            numpy.add.at(kernel, (top + dy, left + dx), weight)
    kernel = kernel[:size, :size]
    if angle % 90 == 0:  # straight along an axis: the plain mean, without the half weights of the ends
        kernel = (kernel > 0).astype(numpy.float64)
    return numpy.asarray(kernel / kernel.sum())


def _fixed(*rows: tuple[int, ...]) -> Callable[[], Kernel]:
    return lambda: numpy.array(rows, dtype=numpy.float64)


FILTERS: dict[str, Filter] = {
    "box": Filter("mean of a square", _box, ("size",)),
    "gaussian": Filter("mean weighted by a bell", _gaussian, ("size", "sigma")),
    "laplacian": Filter("sum of the second derivatives", _fixed((0, 1, 0), (1, -4, 1), (0, 1, 0)), signed=True),
    "log": Filter("Laplacian of the Gaussian", _log, ("size", "sigma"), signed=True),
    "sobel_x": Filter("derivative along x, smoothed", _fixed((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)), signed=True),
    "sobel_y": Filter("derivative along y, smoothed", _fixed((-1, -2, -1), (0, 0, 0), (1, 2, 1)), signed=True),
    "sobel": Filter("length of Sobel's gradient", pair=("sobel_x", "sobel_y")),
    "sobel_direction": Filter("direction of Sobel's gradient", pair=("sobel_x", "sobel_y")),
    "prewitt_x": Filter("derivative along x, averaged", _fixed((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)), signed=True),
    "prewitt_y": Filter("derivative along y, averaged", _fixed((-1, -1, -1), (0, 0, 0), (1, 1, 1)), signed=True),
    "prewitt": Filter("length of Prewitt's gradient", pair=("prewitt_x", "prewitt_y")),
    "prewitt_direction": Filter("direction of Prewitt's gradient", pair=("prewitt_x", "prewitt_y")),
    "sharpen": Filter("less the Laplacian", _fixed((0, -1, 0), (-1, 5, -1), (0, -1, 0))),
    "unsharp": Filter("more of what a blur takes away", _unsharp, ("size", "sigma", "amount")),
    "emboss": Filter("a relief lit from one corner", _fixed((-2, -1, 0), (-1, 1, 1), (0, 1, 2))),
    "motion": Filter("mean along a line", _motion, ("size", "angle")),
    "median": Filter("the middle value of a square", takes=("size",)),
}
NAMES: tuple[str, ...] = tuple(FILTERS)


def named(name: str) -> Filter:
    """The filter of this name; UnknownNameError with the nearest."""
    if name not in FILTERS:
        raise UnknownNameError("kernel", name, FILTERS)
    return FILTERS[name]


def kernel(name: str, **options: Any) -> Kernel:
    """The values (height, width) of a named kernel: ``kernel("gaussian", size=5, sigma=1.2)``.

    Raises UnknownNameError for a name or an option that is not there, ArgumentError for a filter that has no kernel of
    its own and for options that cannot be.
    """
    found = named(name)
    check_options(name, options)
    if found.build is None:
        raise ArgumentError("kernel", name, "a filter with one kernel; this one is none: " + found.title)
    return found.build(**options)


def check_options(name: str, options: dict[str, Any]) -> None:
    """UnknownNameError for an option that the named filter does not take."""
    for option in options:
        if option not in FILTERS[name].takes:
            raise UnknownNameError(f"option of {name}", option, FILTERS[name].takes or ("(none)",))


def checked(values: Any, normalise: bool = False) -> Kernel:
    """A kernel of one's own as float64 (height, width), divided by its sum if ``normalise``.

    Raises ArgumentError for other shapes, an even side, values that are not finite, and a sum of 0 to divide by.
    """
    try:
        found = numpy.array(values, dtype=numpy.float64)
    except (ValueError, TypeError):
        raise ArgumentError("kernel", values, "rows of numbers, all equally long") from None
    if found.ndim != 2 or found.size == 0:
        raise ArgumentError("kernel", f"shape {found.shape}", "rows of numbers, all equally long")
    if found.shape[0] % 2 == 0 or found.shape[1] % 2 == 0:
        raise ArgumentError(
            "kernel", f"{found.shape[0]}×{found.shape[1]}", "odd sides: a kernel of even size has no middle"
        )
    if not numpy.isfinite(found).all():
        raise ArgumentError("kernel", "nan or infinity among its values", "finite numbers")
    if normalise:
        total = found.sum()
        if abs(total) <= 1e-12 * numpy.abs(found).sum():
            raise ArgumentError(
                "normalise", True, "a kernel whose values do not add up to 0", "It cannot be divided by its sum"
            )
        found = found / total
    return found


def parse(text: str) -> Kernel:
    """ "0 -1 0; -1 5 -1; 0 -1 0": rows by semicolons or lines, numbers by spaces or commas."""
    rows = [row.replace(",", " ").split() for row in text.replace("\n", ";").split(";") if row.strip()]
    try:
        return checked([[float(value) for value in row] for row in rows])
    except ValueError as problem:
        if isinstance(problem, ArgumentError):
            raise
        raise ArgumentError(
            "kernel", text, "a name, a file, or rows of numbers such as '0 -1 0; -1 5 -1; 0 -1 0'"
        ) from None


def read(path: str | Path) -> Kernel:
    """A kernel from a text file (rows as lines, ``parse``) or an .npy file. DataError when it cannot be read."""
    path = Path(path)
    try:
        if path.suffix == ".npy":
            return checked(numpy.load(path))
        return parse(path.read_text(encoding="utf-8"))
    except ArgumentError as problem:
        raise DataError(path, str(problem)) from problem
    except (OSError, ValueError) as problem:
        raise DataError(path, f"no kernel can be read ({problem})") from problem
