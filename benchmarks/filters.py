"""Filters on a large photograph beside scipy.ndimage and OpenCV: verified first, then timed in turns; peak memory.

    python benchmarks/filters.py [--megapixels 12] [--rounds 5] [--threads 2] [--only TEXT …] [--json FILE]
    python benchmarks/filters.py --memory 24

The picture is noise smoothed a little, of which times do not depend; 8 bits, grey. Milliseconds: least and median.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy
from numpy.typing import NDArray
from scipy import ndimage

from convscope import filter_picture, kernels

Picture = NDArray[Any]
Call = Callable[[Picture], Picture]


def contestants(threads: int) -> dict[str, tuple[Call, Call, Call]]:
    """By row: ours, scipy's, OpenCV's. scipy's own function where it has one, all with 8 bits in and out."""

    def ours(kernel: Any, **options: Any) -> Call:
        return lambda x: filter_picture(x, kernel, threads=threads, **options)

    def both(kernel: Picture) -> tuple[Call, Call]:
        return (
            lambda x: ndimage.correlate(x, kernel, mode="mirror"),
            lambda x: cv2.filter2D(x, -1, kernel, borderType=cv2.BORDER_REFLECT_101),
        )

    def bell(size: int, sigma: float) -> tuple[Call, Call, Call]:
        return (
            ours("gaussian", size=size, sigma=sigma),
            lambda x: ndimage.gaussian_filter(x, sigma, radius=size // 2, mode="mirror"),
            lambda x: cv2.GaussianBlur(x, (size, size), sigma),
        )

    def box(size: int) -> tuple[Call, Call, Call]:
        return (
            ours("box", size=size),
            lambda x: ndimage.uniform_filter(x, size, mode="mirror"),
            lambda x: cv2.blur(x, (size, size), borderType=cv2.BORDER_REFLECT_101),
        )

    def median(size: int) -> tuple[Call, Call, Call]:
        return (
            ours("median", size=size, padding="replicate"),
            lambda x: ndimage.median_filter(x, size, mode="nearest"),
            lambda x: cv2.medianBlur(x, size),
        )

    def length(x: Picture) -> Picture:
        wide = x.astype(numpy.float32)
        pair = [ndimage.sobel(wide, axis, mode="mirror") for axis in (0, 1)]
        return numpy.clip(numpy.rint(numpy.hypot(*pair)), 0, 255).astype(numpy.uint8)

    def opencv_length(x: Picture) -> Picture:
        return cv2.convertScaleAbs(cv2.magnitude(cv2.Sobel(x, cv2.CV_32F, 1, 0), cv2.Sobel(x, cv2.CV_32F, 0, 1)))

    rows = {
        "gaussian 5×5": bell(5, 1.2),
        "gaussian 31×31": bell(31, 5.0),
        "box 3×3": box(3),
        "box 31×31": box(31),
        "sobel": (ours("sobel"), length, opencv_length),
        "median 3×3": median(3),
        "median 5×5": median(5),
        "median 9×9": median(9),
    }
    for name, options in (
        ("laplacian", {}), ("sharpen", {}), ("emboss", {}), ("log", {"size": 9, "sigma": 1.4}),
        ("unsharp", {"size": 7, "sigma": 1.0}), ("motion", {"size": 15, "angle": 30.0}),
    ):  # fmt: skip
        rows[f"{name} {options.get('size', 3)}×{options.get('size', 3)}"] = (
            ours(name, offset=0, **options), *both(kernels.kernel(name, **options))
        )  # fmt: skip
    rows["own 7×7"] = (ours(OWN), *both(OWN))
    return rows


OWN = numpy.random.default_rng(1).random((7, 7)) / 25


def picture(megapixels: float) -> Picture:
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    noise = numpy.random.default_rng(0).integers(0, 256, (width * 3 // 4, width), dtype=numpy.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 1.0)


def verify(name: str, calls: tuple[Call, Call, Call]) -> None:
    """On a corner: ours and OpenCV's within one grey level (scipy cuts where the others round)."""
    corner = picture(0.02)
    found = [call(corner).astype(int) for call in calls]
    assert numpy.abs(found[0] - found[2]).max() <= 1, f"{name}: not OpenCV's result"


def measure(arguments: argparse.Namespace) -> None:
    cv2.setNumThreads(arguments.threads)
    source = picture(arguments.megapixels)
    table: dict[str, dict[str, list[float]]] = {}
    print(f"{source.shape[1]}×{source.shape[0]} grey, {arguments.threads} threads, {platform.machine()}")
    print(f"{'':<18}{'convscope':>16}{'scipy':>16}{'OpenCV':>16}   scipy/ours")
    for name, calls in contestants(arguments.threads).items():
        if not any(each in name for each in arguments.only):
            continue
        verify(name, calls)
        times: list[list[float]] = [[], [], []]
        for _ in range(arguments.rounds):
            for taken, call in zip(times, calls, strict=True):
                begun = time.perf_counter()
                call(source)
                taken.append(1e3 * (time.perf_counter() - begun))
        table[name] = dict(zip(("convscope", "scipy", "opencv"), times, strict=True))
        cells = "".join(f"{min(each):>8.0f}{statistics.median(each):>8.0f}" for each in times)
        print(f"{name:<18}{cells}   {min(times[1]) / min(times[0]):.1f}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(table, indent=1), encoding="utf-8")


MEMORY = """
import re, sys
from pathlib import Path
import numpy
from convscope import filter_picture
def peak():  # in KiB, of this program alone: getrusage's figure begins with that of the process that started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
height, width = int(sys.argv[2]), int(sys.argv[3])
source = numpy.memmap(sys.argv[1] + "/in", numpy.uint8, "r", shape=(height, width, 3))
out = numpy.memmap(sys.argv[1] + "/out", numpy.uint8, "w+", shape=(height, width, 3))
filter_picture(source[:64], "gaussian", size=31)
before = peak()
filter_picture(source, sys.argv[4], size=int(sys.argv[5]), out=out)
print(peak() - before)
"""


def memory(megapixels: float) -> None:
    """How far the process's peak rises beyond what it has before, in MiB; picture and result are files in memory maps,
    whose pages count as the process's own while they are there."""
    width = round((megapixels * 1e6 * 3 / 2) ** 0.5)
    shape = (width * 2 // 3, width, 3)
    with tempfile.TemporaryDirectory() as folder:
        source = numpy.memmap(f"{folder}/in", numpy.uint8, "w+", shape=shape)
        source[...] = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
        source.flush()
        whole = source.nbytes / 2**20
        print(f"{shape[1]}×{shape[0]} colour: picture and result {2 * whole:.0f} MiB, in float32 {4 * whole:.0f} MiB")
        for kernel, size in (("gaussian", 31), ("median", 5)):
            script = [sys.executable, "-c", MEMORY, folder, *map(str, shape[:2]), kernel, str(size)]
            risen = int(subprocess.run(script, capture_output=True, text=True, check=True).stdout)
            print(
                f"{kernel} {size}×{size}: peak {risen / 1024:.0f} MiB above the start, {2 * whole:.0f} of it the maps"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose names hold one of these")
    parser.add_argument("--json")
    parser.add_argument("--memory", type=float, metavar="MEGAPIXELS")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.memory)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
