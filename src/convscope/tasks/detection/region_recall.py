"""How many of the things there the proposed regions reach: recall over overlap and over the number of regions.

Hosang, Benenson, Dollár, Schiele: What makes for effective detection proposals? PAMI 2016; Ren et al., Faster R-CNN,
figure 4.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.files import write_text
from convscope.layers.boxes import box_iou

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))
COUNTS = (1, 3, 10, 30, 100, 300, 1000)


class RegionRecall:
    """Keeps of each thing that is not difficult how far the first 1, 3, 10 … regions of its picture overlap it."""

    def __init__(self) -> None:
        self._most = 0
        self._best: list[Tensor] = []  # (m, counts + 1): by the first of each count, and by all

    def add(self, regions: Tensor, boxes: Tensor, difficult: Tensor) -> None:
        """``regions`` (r, 4) of a picture, best first; ``boxes`` (m, 4) that are there."""
        self._most = max(self._most, len(regions))
        boxes = boxes[~difficult].to(regions)
        if not len(boxes):
            return
        if not len(regions):
            self._best.append(torch.zeros(len(boxes), len(COUNTS) + 1))
            return
        so_far = box_iou(boxes, regions).nan_to_num().cummax(1).values  # (m, r)
        places = torch.tensor([min(count, len(regions)) - 1 for count in (*COUNTS, len(regions))])
        self._best.append(so_far[:, places.to(so_far.device)].float().cpu())

    def figures(self) -> dict[str, Any]:
        """{"counts": numbers of regions, "overlaps", "recall": a row for each count, a share for each overlap}; the
        last count is of all regions. {} where nothing is there."""
        if not self._best:
            return {}
        best = torch.cat(self._best)
        kept = [place for place, count in enumerate(COUNTS) if count < self._most]
        rows = [
            [float((best[:, place] >= overlap - 1e-6).double().mean()) for overlap in OVERLAPS]
            for place in (*kept, len(COUNTS))
        ]
        counts = [*(COUNTS[place] for place in kept), self._most]
        return {"counts": counts, "overlaps": list(OVERLAPS), "recall": rows}


def line(found: Mapping[str, Any]) -> str:
    """The recall at 0.5 and 0.7 of all regions in words."""
    last = dict(zip(found["overlaps"], found["recall"][-1], strict=True))
    return f"at 0.5 {last[0.5]:.1%}, at 0.7 {last[0.7]:.1%} of the boxes, by up to {found['counts'][-1]:,} regions"


def draw(folder: Path, title: str, found: Mapping[str, Any]) -> None:
    """regions.png: recall over overlap for some numbers of regions, and over their number for some overlaps;
    regions.csv: all of it."""
    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import SERIES, new_figure, plain_axes

    counts, overlaps, rows = found["counts"], found["overlaps"], found["recall"]
    drawn = new_figure(9.6, 4.2)
    left, right = (plain_axes(drawn.add_subplot(1, 2, place)) for place in (1, 2))
    chosen = [place for place, count in enumerate(counts) if count >= 10] or [len(counts) - 1]
    for colour, place in zip(SERIES, chosen[-len(SERIES) :], strict=False):
        left.plot(overlaps, [100 * value for value in rows[place]], color=colour, label=f"{counts[place]:,} regions")
    for colour, overlap in zip(SERIES, (0.5, 0.7, 0.9), strict=False):
        values = [100 * row[overlaps.index(overlap)] for row in rows]
        right.plot(counts, values, color=colour, marker="o", markersize=3, label=f"overlap {overlap:g}")
    right.set_xscale("log")
    left.set_xlabel("overlap that is asked for")
    right.set_xlabel("regions a picture, at most")
    for axes in (left, right):
        axes.set_ylim(0, 101)
        axes.set_ylabel("boxes reached by a region, %")
        axes.legend(frameon=False, fontsize=8)
    left.set_title(f"{title}: regions", loc="left", fontsize=11)
    save_picture(drawn, folder / "regions.png")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("regions", *(f"recall at {overlap:g}" for overlap in overlaps)))
    writer.writerows((count, *(f"{value:.6f}" for value in row)) for count, row in zip(counts, rows, strict=True))
    write_text(folder / "regions.csv", text.getvalue())
