"""Figures of a detector as text and as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convscope.columns import padded, share, shown, width
from convscope.tasks.detection import region_recall
from convscope.tasks.detection.metrics import DetectionFigures

_KINDS = {
    "localisation": "beside its thing",
    "duplicate": "found twice",
    "other": "of another class",
    "similar": "of a similar class",
    "background": "on nothing",
}


def summary(figures: DetectionFigures) -> str:
    """The figures in one line."""
    return (
        f"mAP@0.5 {share(figures.mean_ap)} (11-point {share(figures.mean_ap_11point)}), mAP@[.5:.95] "
        f"{share(figures.coco_ap)}, recall {share(figures.recall)}, loss {figures.loss:.4f}"
    )


def report(figures: DetectionFigures) -> str:
    """The figures as text: totals, every class, what is wrong with the best boxes."""
    lines = [
        f"pictures           {figures.images:,}",
        f"boxes              {figures.boxes:,}",
        f"mAP@0.5            {share(figures.mean_ap)}",
        f"  by 11 points     {share(figures.mean_ap_11point)}",
        f"mAP@0.75           {share(figures.coco_ap_75)}",
        f"mAP@[.5:.95]       {share(figures.coco_ap)}",
        f"recall             {share(figures.recall)}",
        f"loss               {figures.loss:.4f}",
    ]
    if figures.regions:
        lines.append(f"regions reach      {region_recall.line(figures.regions)}")
    lines.append("")
    cells = max(width(name) for name in ("class", *figures.classes))
    lines.append(f"{padded('class', cells)}  {'AP@0.5':>8}  {'11-point':>8}  {'recall':>8}  {'boxes':>7}")
    rows = zip(
        figures.classes, figures.per_class, figures.per_class_11point, figures.per_class_recall,
        figures.per_class_boxes, strict=True,
    )  # fmt: skip
    for name, area, eleven, recall, boxes in rows:
        values = f"{share(area):>8}  {share(eleven):>8}  {share(recall):>8}  {boxes:>7,}"
        lines.append(f"{padded(name, cells)}  {values}")
    lines += ["", "of each class's best boxes, as many as there are of it"]
    for name, errors in zip(figures.classes, figures.errors, strict=True):
        told = [f"{errors[kind]} {text}" for kind, text in _KINDS.items() if errors[kind]]
        wrong = f"; {', '.join(told)}" if told else ""
        lines.append(f"{shown(name)}: {errors['right']} of {errors['truths']} right{wrong}")
    return "\n".join(lines)


def draw(folder: Path, title: str, figures: Mapping[str, Any]) -> None:
    """precision-recall.png: every class's curve; errors.png: what its best boxes are; regions.png and .csv: what the
    regions reach."""
    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import SERIES, new_figure, plain_axes

    drawn = new_figure(6.4, 4.6)
    axes = plain_axes(drawn.add_subplot())
    names = zip(figures["classes"], figures["precisions"], figures["per_class"], strict=True)
    for place, (name, precisions, area) in enumerate(names):
        if precisions:
            recalls = [100 * step / (len(precisions) - 1) for step in range(len(precisions))]
            label = f"{name}, AP {100 * area:.1f} %"
            axes.plot(recalls, [100 * value for value in precisions], color=SERIES[place % len(SERIES)], label=label)
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 101)
    axes.set_xlabel("recall in %")
    axes.set_ylabel("precision in %")
    if axes.lines:  # no class is in the test pictures
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    mean = figures["mean_ap"]
    axes.set_title(title if mean is None else f"{title}: mAP@0.5 {100 * mean:.2f} %", loc="left", fontsize=11)
    save_picture(drawn, folder / "precision-recall.png")
    _draw_errors(folder / "errors.png", title, figures)
    if figures.get("regions"):
        region_recall.draw(folder, title, figures["regions"])


def _draw_errors(path: Path, title: str, figures: Mapping[str, Any]) -> None:
    """A bar a class: the shares of its best boxes that are right, and wrong in each way."""
    from convscope.inspect.pictures import save_picture
    from convscope.inspect.pictures.canvas import INK, SERIES, new_figure, plain_axes

    classes = figures["classes"]
    drawn = new_figure(6.4, 1.4 + 0.34 * len(classes))
    axes = plain_axes(drawn.add_subplot())
    left = [0.0] * len(classes)
    kinds = {"right": "right", **_KINDS}
    for place, (kind, label) in enumerate(kinds.items()):
        shares = [
            100 * errors[kind] / max(1, sum(errors[each] for each in kinds)) for errors in figures["errors"]
        ]  # fmt: skip
        if any(shares):
            colour = SERIES[(2, 0, 3, 1, 4, 5)[place]]
            axes.barh(range(len(classes)), shares, left=left, color=colour, height=0.7, label=label)
        left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.set_yticks(range(len(classes)), classes, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("of the best boxes, as many as there are things of the class, in %")
    axes.set_title(title, loc="left", fontsize=11)
    if axes.patches:
        drawn.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save_picture(drawn, path)
