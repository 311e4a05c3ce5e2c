"""What the contract of every model must know of the task that the model is for: its answers, targets and loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from convscope.layers import PixelCrossEntropy, loss_for
from convscope.models import MODELS, Entry


@dataclasses.dataclass(frozen=True)
class Asked:
    """``answer(n, classes, picture)`` is the shape of a model's outputs for n pictures of shape ``picture``;
    ``targets(classes, picture)`` are targets for as many pictures as there are ``classes`` (int64, one each), each of
    that class alone; ``loss(entry, model)`` is what is minimised; ``classes`` are enough to tell eight pictures by, at
    Adam's ``rate``."""

    answer: Callable[[int, int, Sequence[int]], tuple[int, ...]]
    targets: Callable[[Tensor, Sequence[int]], Any]
    loss: Callable[[Entry, nn.Module], Any]
    classes: int = 32
    rate: float = 3e-4


def _maps(classes: Tensor, picture: Sequence[int]) -> Tensor:
    return classes[:, None, None].expand(-1, *picture[1:]).contiguous()


TASKS: dict[str, Asked] = {
    "classification": Asked(
        lambda n, classes, picture: (n, classes),
        lambda classes, picture: classes,
        lambda entry, model: loss_for(entry.card.loss, model),
    ),
    "segmentation": Asked(
        lambda n, classes, picture: (n, classes, *picture[1:]),
        _maps,
        lambda entry, model: PixelCrossEntropy(),
        classes=8,
        rate=3e-3,
    ),
}


def asked(name: str) -> Asked:
    """Of the catalogue model ``name``."""
    return TASKS[MODELS[name].card.task]


def class_scores(scores: Tensor) -> Tensor:
    """(n, classes, …) → (n, classes): the means over all places, where there are any."""
    return scores.flatten(2).mean(2) if scores.ndim > 2 else scores
