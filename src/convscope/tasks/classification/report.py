"""A classifier's figures as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convscope.columns import cut, padded, shown, width
from convscope.tasks.classification.metrics import Metrics


def summary(metrics: Metrics) -> str:
    """The figures in one line."""
    wrong = round(metrics.error * metrics.images)
    return f"test error {metrics.error:.2%} ({wrong:,} of {metrics.images:,}), loss {metrics.loss:.4f}"


def report(metrics: Metrics) -> str:
    """The figures of an evaluation as text: totals, every class, the commonest mistakes, the confusion matrix (up to 20
    classes)."""
    lines = [
        f"pictures             {metrics.images:,}",
        f"error                {metrics.error:.2%}",
        f"accuracy (top 1)     {metrics.accuracy:.2%}",
        f"accuracy (top 5)     {metrics.top5:.2%}",
        f"mean class accuracy  {metrics.mean_class_accuracy:.2%}",
        f"loss                 {metrics.loss:.4f}",
        "",
    ]
    cells = max(width(name) for name in ("class", *metrics.classes))
    lines.append(f"{padded('class', cells)}  {'accuracy':>9}  {'pictures':>9}  {'wrong':>6}")
    for index, name in enumerate(metrics.classes):
        total, right = sum(metrics.confusion[index]), metrics.confusion[index][index]
        share = f"{right / total:.2%}" if total else "–"
        lines.append(f"{padded(name, cells)}  {share:>9}  {total:>9,}  {total - right:>6,}")
    mistakes = [
        (count, metrics.classes[true], metrics.classes[taken])
        for true, row in enumerate(metrics.confusion)
        for taken, count in enumerate(row)
        if true != taken and count
    ]
    if mistakes:
        lines += ["", "commonest mistakes"]
        for count, true, taken in sorted(mistakes, key=lambda item: -item[0])[:8]:
            lines.append(f"{count:>6,} × {shown(true)} taken for {shown(taken)}")
    if len(metrics.classes) <= 20:
        lines += ["", "confusion matrix (row: true class, column: taken for)", *_matrix(metrics)]
    return "\n".join(lines)


def _matrix(metrics: Metrics) -> list[str]:
    names = [cut(name, 10) for name in metrics.classes]
    label = max(map(width, names))
    cell = max(*(len(str(count)) for row in metrics.confusion for count in row), *map(width, names)) + 1
    lines = [" " * label + "".join(padded(name, cell, right=True) for name in names)]
    for name, row in zip(names, metrics.confusion, strict=True):
        lines.append(padded(name, label) + "".join((str(count) if count else "·").rjust(cell) for count in row))
    return lines


def draw_confusion(path: Path, title: str, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Which class was taken for which, as a picture."""
    from convscope.inspect.pictures import confusion_figure, save_picture

    total = sum(map(sum, matrix))
    right = sum(matrix[index][index] for index in range(len(matrix)))
    text = f"{title}: {100 * (1 - right / total):.2f} % error, {total - right:,} of {total:,} test pictures"
    save_picture(confusion_figure(matrix, classes, text), path)
