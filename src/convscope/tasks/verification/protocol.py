"""How well two pictures' scores tell one person from two, by the protocol of Labeled Faces in the Wild.

Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of Massachusetts 07-49 (2007).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convscope.errors import ArgumentError
from convscope.training.figures import Figures


@dataclasses.dataclass(frozen=True)
class Verified(Figures):
    """``accuracy`` is the mean over the folds, each decided by the threshold that is best on all others, and
    ``standard_error`` that of this mean; without folds one threshold, 0 unless given, decides all. ``auc`` is the area
    below the ROC, ``equal_error`` the rate where both kinds of mistakes are as frequent."""

    headline = "accuracy"
    counted = "pairs"

    pairs: int
    loss: float
    accuracy: float
    standard_error: float
    auc: float
    equal_error: float
    threshold: float  # the mean over the folds
    folds: tuple[float, ...]  # the accuracy of each
    roc: tuple[tuple[float, float], ...]  # (false accepts, true accepts), at most 200 points


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the folds' figures and its standard error, 0 of one fold."""
    count = len(values)
    mean = sum(values) / count
    spread = sum((each - mean) ** 2 for each in values)
    return mean, math.sqrt(spread / (count - 1) / count) if count > 1 else 0.0


def roc_points(scores: Tensor, same: Tensor) -> Tensor:
    """(points, 2): shares of false and of true accepts while the threshold falls; scores that are equal go together."""
    order = scores.argsort(descending=True)
    ranked, right = scores[order], same[order].to(torch.float64)
    ends = torch.cat((torch.nonzero(ranked[1:] != ranked[:-1]).flatten(), torch.tensor([len(ranked) - 1])))
    true, all_ = right.cumsum(0)[ends], ends.to(torch.float64) + 1
    points = torch.stack(((all_ - true) / (~same).sum(), true / same.sum()), 1)
    return torch.cat((torch.zeros(1, 2, dtype=torch.float64), points))


def best_threshold(scores: Tensor, same: Tensor) -> float:
    """The threshold with most right decisions, "the same" from it on: between two scores, of several the middle one."""
    values = torch.unique(scores)  # ascending
    cuts = torch.cat((values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1))
    ranked, order = scores.sort()
    right = same[order].to(torch.int64)
    below = torch.searchsorted(ranked, cuts)  # how many are refused at each cut
    accepted = torch.cat((right.new_zeros(1), right.cumsum(0)))
    correct = (below - accepted[below]) + (right.sum() - accepted[below])
    best = torch.nonzero(correct == correct.max()).flatten()
    return float(cuts[best[len(best) // 2]])


def verify(
    scores: Tensor, same: Tensor, folds: Tensor | None = None, threshold: float = 0.0, loss: float = 0.0
) -> Verified:
    """The figures of ``scores`` (n,), larger where two are more likely one person, ``same`` bool (n,), ``folds`` int64
    (n,) or None. Raises ArgumentError where there are no pairs of one kind, scores that are no numbers, or one fold."""
    scores, same = scores.detach().to("cpu", torch.float64), same.cpu().to(torch.bool)
    if scores.ndim != 1 or same.shape != scores.shape:
        raise ArgumentError("scores", tuple(scores.shape), f"one for each of the {len(same)} pairs")
    if not same.any() or same.all():
        kind = "one person" if not same.any() else "two people"
        raise ArgumentError("pairs", f"none of {kind}", "pairs of one person and pairs of two")
    if not torch.isfinite(scores).all():
        raise ArgumentError("scores", "some that are no numbers", "finite scores")
    if folds is None:
        accuracies, thresholds = [float(((scores >= threshold) == same).double().mean())], [threshold]
    else:
        accuracies, thresholds = _by_folds(scores, same, folds.cpu())
    points = roc_points(scores, same)
    widths = points[1:, 0] - points[:-1, 0]
    missed = 1 - points[:, 1]
    place = int((missed <= points[:, 0]).nonzero()[0])
    mean, error = mean_and_error(accuracies)
    thinned = points[:: max(1, -(-len(points) // 199))]
    return Verified(
        pairs=len(scores),
        loss=loss,
        accuracy=mean,
        standard_error=error,
        auc=float((widths * (points[1:, 1] + points[:-1, 1]) / 2).sum()),
        equal_error=_crossing(points[:, 0], missed, place),
        threshold=sum(thresholds) / len(thresholds),
        folds=tuple(accuracies),
        roc=tuple((float(x), float(y)) for x, y in torch.unique(torch.cat((thinned, points[-1:])), dim=0).tolist()),
    )


def _by_folds(scores: Tensor, same: Tensor, folds: Tensor) -> tuple[list[float], list[float]]:
    numbers = torch.unique(folds).tolist()
    if len(numbers) < 2:
        raise ArgumentError("folds", numbers, "at least two folds: the threshold of each is chosen on the others")
    accuracies, thresholds = [], []
    for number in numbers:
        own = folds == number
        thresholds.append(best_threshold(scores[~own], same[~own]))
        accuracies.append(float(((scores[own] >= thresholds[-1]) == same[own]).double().mean()))
    return accuracies, thresholds


def _crossing(wrong: Tensor, missed: Tensor, place: int) -> float:
    """Where the falling share of missed pairs meets the rising one of wrong accepts, on a straight line between."""
    if place == 0:
        return float(wrong[0])
    before, after = float(missed[place - 1] - wrong[place - 1]), float(missed[place] - wrong[place])
    share = before / (before - after) if before != after else 1.0
    return float(wrong[place - 1] + share * (wrong[place] - wrong[place - 1]))


def page(figures: Verified) -> str:
    """The figures as text."""
    lines = [
        f"pairs            {figures.pairs:,}",
        f"accuracy         {figures.accuracy:.2%} ± {figures.standard_error:.2%}",
        f"area below ROC   {figures.auc:.4f}",
        f"equal error      {figures.equal_error:.2%}",
        f"threshold        {figures.threshold:.4g}",
    ]
    if len(figures.folds) > 1:
        lines.append("folds            " + "  ".join(f"{each:.1%}" for each in figures.folds))
    return "\n".join(lines)


def draw_roc(path: Path, curves: Mapping[str, Any], title: str) -> Path:
    """The ROC of each method by name; values are lists of (false accepts, true accepts)."""
    from convscope.inspect.pictures.canvas import FAINT, INK, SERIES, new_figure, plain_axes, save_picture

    drawn = new_figure(5.6, 5.2)
    axes = plain_axes(drawn.add_subplot())
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel("two people taken for one", fontsize=9, color=FAINT)
    axes.set_ylabel("one person taken for one", fontsize=9, color=FAINT)
    for place, (name, points) in enumerate(curves.items()):
        axes.plot(*zip(*points, strict=True), color=SERIES[place % len(SERIES)], linewidth=1.6, label=name)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return save_picture(drawn, path)
