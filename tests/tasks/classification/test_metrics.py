"""Counting against a hand-worked example and scikit-learn."""

from __future__ import annotations

import json
import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from convscope.errors import ArgumentError
from convscope.layers import LOSSES
from convscope.tasks.classification.metrics import Tally


def test_a_hand_worked_example() -> None:
    tally = Tally(LOSSES["cross_entropy"], ("a", "b", "c"))
    scores = torch.tensor([[9.0, 1, 0], [0, 5, 1], [3, 2, 1], [0, 1, 2]])
    tally.count(scores[:3], torch.tensor([0, 1, 1]), torch.tensor(2.0))
    tally.count(scores[3:], torch.tensor([1]), torch.tensor(4.0))
    metrics = tally.figures()
    assert metrics.confusion == ((1, 0, 0), (1, 1, 1), (0, 0, 0))
    assert (metrics.images, metrics.accuracy, metrics.error) == (4, 0.5, 0.5)
    assert metrics.loss == (3 * 2.0 + 4.0) / 4
    assert metrics.per_class[:2] == pytest.approx((1.0, 1 / 3))
    assert math.isnan(metrics.per_class[2])
    assert metrics.mean_class_accuracy == pytest.approx(2 / 3)
    assert metrics.top5 == 1.0
    assert metrics["accuracy"] == 0.5
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["per_class"][2] is None


def test_against_scikit_learn() -> None:
    chance = torch.Generator().manual_seed(3)
    scores, labels = torch.randn(333, 12, generator=chance), torch.randint(0, 12, (333,), generator=chance)
    tally = Tally(LOSSES["cross_entropy"])
    for part in torch.split(torch.arange(333), 50):
        tally.count(scores[part], labels[part], torch.tensor(0.0))
    metrics = tally.figures()
    predicted = scores.argmax(1)
    assert torch.tensor(metrics.confusion).tolist() == confusion_matrix(labels, predicted).tolist()
    assert metrics.mean_class_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert metrics.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5))
    # the canary: one label changed must show
    tally.count(scores[:1], (predicted[:1] + 1) % 12, torch.tensor(0.0))
    assert tally.figures().accuracy < metrics.accuracy


def test_nothing_to_count_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least one picture to evaluate"):
        Tally(LOSSES["cross_entropy"]).figures()


def test_scores_that_are_no_numbers_are_never_right() -> None:
    """argmax takes nan for the largest, and nothing is larger than nan: such a model had 100 % in its top five."""
    tally = Tally(LOSSES["cross_entropy"], tuple("abcdefg"))
    scores = torch.zeros(4, 7)
    scores[0, 3] = 1.0
    scores[1:] = float("nan")
    scores[2, 1:] = 0.0
    tally.count(scores, torch.tensor([3, 0, 0, 6]), torch.tensor(float("nan")))
    metrics = tally.figures()
    assert (metrics.accuracy, metrics.top5) == (0.25, 0.25)
    assert math.isnan(metrics.loss)
    assert json.loads(json.dumps(metrics.to_json(), allow_nan=False))["loss"] is None
