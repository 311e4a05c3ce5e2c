"""Figures of a segmentation as text and as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convscope.columns import padded, share, shown, width
from convscope.tasks.segmentation.drawing import write_bars
from convscope.tasks.segmentation.metrics import SegmentationFigures


def summary(figures: SegmentationFigures) -> str:
    """The figures in one line."""
    return (
        f"mean IoU {share(figures.mean_iou)}, pixel accuracy {share(figures.pixel_accuracy)}, mean class accuracy "
        f"{share(figures.mean_class_accuracy)}, loss {figures.loss:.4f}"
    )


def report(figures: SegmentationFigures) -> str:
    """The figures as text: totals, every class, the commonest mistakes."""
    lines = [
        f"pictures                {figures.images:,}",
        f"pixels with a class     {figures.pixels:,}",
        f"mean IoU                {share(figures.mean_iou)}",
        f"frequency-weighted IoU  {share(figures.frequency_weighted_iou)}",
        f"pixel accuracy          {share(figures.pixel_accuracy)}",
        f"mean class accuracy     {share(figures.mean_class_accuracy)}",
        f"loss                    {figures.loss:.4f}",
        "",
    ]
    cells = max(width(name) for name in ("class", *figures.classes))
    lines.append(f"{padded('class', cells)}  {'IoU':>8}  {'accuracy':>8}  {'of all pixels':>13}")
    for name, iou, accuracy, row in zip(
        figures.classes, figures.per_class_iou, figures.per_class, figures.confusion, strict=True
    ):
        of_all = sum(row) / figures.pixels
        lines.append(f"{padded(name, cells)}  {share(iou):>8}  {share(accuracy):>8}  {of_all:>13.2%}")
    mistakes = [
        (count, figures.classes[true], figures.classes[taken])
        for true, row in enumerate(figures.confusion)
        for taken, count in enumerate(row)
        if true != taken and count
    ]
    if mistakes:
        lines += ["", "commonest mistakes, pixels"]
        for count, true, taken in sorted(mistakes, key=lambda item: -item[0])[:8]:
            lines.append(f"{count:>10,} of {shown(true)} taken for {shown(taken)}")
    return "\n".join(lines)


def draw(folder: Path, title: str, figures: Mapping[str, Any]) -> None:
    """confusion.png (in per cent of a class's pixels by shade) and iou.png, the classes' IoU as bars."""
    from convscope.inspect.pictures import confusion_figure, save_picture

    text = f"{title}: mean IoU {100 * figures['mean_iou']:.2f} %"
    save_picture(confusion_figure(figures["confusion"], figures["classes"], text), folder / "confusion.png")
    iou = [each or 0.0 for each in figures["per_class_iou"]]
    write_bars(folder / "iou.png", text, figures["classes"], iou)
