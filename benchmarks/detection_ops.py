"""What a detector's own operations cost: RoI pooling and align of many boxes on one map, and NMS of many boxes.

    python benchmarks/detection_ops.py [--regions 2000] [--boxes 10000] [--channels 64] [--threads 2] [--repeats 9]
        [--out FILE.json]

Contestants, one after another in one process: the native engine, plain tensor algebra (what runs without it, and on a
GPU), and a naive version (a slice and a maximum for every bin; one box after another against all that are left). Each
is verified before it is timed. The map is that of a picture of 640 × 480 at a stride of 16; the boxes are of 20 to 320
pixels. Numbers are medians in milliseconds and their spread (largest − smallest).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope import native, ops
from convscope.layers import fast_regions
from convscope.rules.regions import bins_of

SCALE, SIZE = 1 / 16, (7, 7)


def some_regions(count: int) -> Tensor:
    stream = torch.Generator().manual_seed(0)
    sides = 20 + 300 * torch.rand(count, 2, generator=stream)
    corner = torch.rand(count, 2, generator=stream) * (torch.tensor([640.0, 480.0]) - sides).clamp(min=0)
    return torch.cat((torch.zeros(count, 1), corner, corner + sides), 1)


def some_boxes(count: int) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=stream) * 600
    sides = 10 + 80 * torch.rand(count, 2, generator=stream)
    return torch.cat((corner, corner + sides), 1), torch.rand(count, generator=stream)


def naive_pool(x: Tensor, rois: Tensor) -> Tensor:
    """A slice and a maximum for every bin."""
    pictures, (top, bottom, left, right) = bins_of(x, rois, SIZE, SCALE)
    y = x.new_zeros(len(rois), x.shape[1], *SIZE)
    rows = zip(pictures.tolist(), top.tolist(), bottom.tolist(), left.tolist(), right.tolist(), strict=True)
    for k, (picture, tops, bottoms, lefts, rights) in enumerate(rows):
        for o in range(SIZE[0]):
            for q in range(SIZE[1]):
                seen = x[picture, :, tops[o] : bottoms[o], lefts[q] : rights[q]]
                if seen.numel():
                    y[k, :, o, q] = seen.amax((1, 2))
    return y


def naive_nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """The best box, then what it leaves, until nothing is left."""
    order, kept = scores.argsort(descending=True, stable=True), []
    while len(order):
        kept.append(order[0])
        over = ops.box_iou(boxes[order[:1]], boxes[order[1:]])[0].double() > threshold
        order = order[1:][~over]
    return torch.stack(kept)


def milliseconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return {"median": statistics.median(times), "spread": max(times) - min(times)}


class Plainly:
    """Without the engine's kernels."""

    def __enter__(self) -> None:
        self.kept = dict(fast_regions.FAST)
        fast_regions.FAST.clear()

    def __exit__(self, *_: object) -> None:
        fast_regions.FAST.update(self.kept)


def measure(regions: int, boxes: int, channels: int, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds by operation and contestant; every answer is verified first."""
    x = torch.randn(1, channels, 30, 40, generator=torch.Generator().manual_seed(2)).requires_grad_()
    rois, (corners, scores) = some_regions(regions), some_boxes(boxes)
    calls: dict[str, Callable[[], Tensor]] = {
        "roi_pool": lambda: ops.roi_pool(x, rois, SIZE, SCALE),
        "roi_align": lambda: ops.roi_align(x, rois, SIZE, SCALE, 2, True),
        "nms": lambda: ops.nms(corners, scores, 0.5),
    }
    naive = {"roi_pool": lambda: naive_pool(x.detach(), rois), "nms": lambda: naive_nms(corners, scores, 0.5)}
    found: dict[str, dict[str, dict[str, float]]] = {}
    answers: dict[str, Tensor] = {}
    for name, call in calls.items():
        own = call().detach()
        with Plainly():
            plain = call().detach()
            found[name] = {"plain": milliseconds(call, min(repeats, 3))}
        answers[name] = plain
        close = torch.equal(own, plain) if name != "roi_align" else torch.allclose(own, plain, atol=1e-5)
        assert close, f"{name}: the engine and plain algebra differ"
        found[name]["engine"] = milliseconds(call, repeats)
    for name, call in naive.items():
        assert torch.equal(call(), answers[name]), f"{name}: the naive version differs"
        found[name]["naive"] = milliseconds(call, 1)
    for name in ("roi_pool", "roi_align"):
        delta = torch.ones_like(answers[name])
        for way in ("engine", "plain"):
            if way == "engine":
                y = calls[name]()
            else:
                with Plainly():
                    y = calls[name]()
            back = milliseconds(lambda y=y, delta=delta: torch.autograd.grad(y, x, delta, retain_graph=True), repeats)  # type: ignore[misc]
            found.setdefault(f"{name} back", {})[way] = back
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=2000)
    parser.add_argument("--boxes", type=int, default=10000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if not native.available():
        raise SystemExit("the native engine is not built; there is nothing to compare")
    found = measure(given.regions, given.boxes, given.channels, given.repeats)
    setting = {name: getattr(given, name) for name in ("regions", "boxes", "channels", "threads")}
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {setting}")
    for name, row in found.items():
        cells = (f"{way} {ms['median']:.1f} ± {ms['spread']:.1f} ms" for way, ms in row.items())
        print(f"{name:<15} {', '.join(cells)}")
    if given.out is not None:
        given.out.write_text(json.dumps({"setting": setting, "milliseconds": found}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
