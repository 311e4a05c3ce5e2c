"""Evaluation and preparation of pictures."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from convscope import create_model, evaluate, spec
from convscope.data import Dataset, Labelled, prepare
from convscope.errors import ArgumentError
from convscope.models.catalog import default_loss
from convscope.tasks.classification.preparing import prepare_data
from convscope.training import Config, Result
from convscope.training.preparing import how_to_fit


def test_against_a_plain_loop(fitted: Callable[..., Result], stripes: Dataset) -> None:
    model = fitted(epochs=1).model
    described = spec.spec_of(model)
    assert described is not None
    assert described.preprocessing is not None
    model.train()
    right, losses = 0, []
    for image, label in zip(stripes.test.images, stripes.test.labels, strict=True):
        model.eval()
        with torch.no_grad():
            logits = model(described.preprocessing.normalise(image[None]))
        right += int(logits.argmax() == label)
        losses.append(float(nn.functional.cross_entropy(logits, label[None])))
    model.train()
    for batch_size in (1, 7, 100):
        metrics = evaluate(model, stripes.test, batch_size=batch_size)
        assert metrics.accuracy == right / len(stripes.test)
        assert metrics.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert model.training, "left in the mode it had"
    assert evaluate(model, stripes) == evaluate(model, stripes.test)
    assert evaluate(model, stripes, loss="hinge").loss != metrics.loss


def test_what_does_not_go_together_is_refused(fitted: Callable[..., Result], stripes: Dataset) -> None:
    with pytest.raises(ArgumentError, match="preprocessing: got None, wanted how pictures become"):
        evaluate(nn.Sequential(nn.Flatten(), nn.Linear(63, 3)), stripes.test)
    model = fitted(epochs=1).model
    test = stripes.test
    other = Labelled(test.images, test.labels, ("row", "column", "cross"))
    with pytest.raises(ArgumentError, match="data: .*'cross'.* pictures of the model's own classes.*'both'"):
        evaluate(model, other)
    with pytest.raises(ArgumentError, match="examples: got 0, wanted at least one example"):
        evaluate(model, stripes.test.select(torch.tensor([], dtype=torch.int64)))


def test_classes_go_together_by_name(fitted: Callable[..., Result], stripes: Dataset) -> None:
    """Some of the model's classes, numbered otherwise: the figures of those classes do not change."""
    model = fitted(epochs=3).model
    whole = evaluate(model, stripes)
    part = evaluate(model, stripes.test.restrict(("both", "row")))
    assert part.classes == whole.classes
    assert (part.confusion[0], sum(part.confusion[1]), part.confusion[2]) == (whole.confusion[0], 0, whole.confusion[2])
    assert part.per_class[0] == whole.per_class[0]


def test_pictures_meet_the_model(stripes: Dataset) -> None:
    model = create_model("lenet5", classes=3)
    prepared = prepare_data(model, stripes, Config.of())
    assert isinstance(prepared.train, Labelled)
    assert isinstance(prepared.test, Labelled)
    assert prepared.train.shape == (1, 28, 28)
    described = spec.spec_of(model)
    assert described is not None
    assert described.preprocessing == stripes.preprocessing((28, 28), 1, "resize")
    assert described.classes == stripes.classes
    assert torch.equal(prepared.test.images, prepare(stripes.test.images, described.preprocessing))


@pytest.mark.parametrize(
    ("picture", "wanted", "expected"),
    [((1, 28, 28), (1, 32, 32), "pad"), ((1, 28, 28), (1, 29, 29), "pad"), ((1, 8, 8), (1, 28, 28), "resize"),
     ((3, 32, 32), (3, 28, 28), "resize"), ((3, 28, 40), (3, 32, 32), "resize"), ((1, 28, 28), (1, 28, 28), "pad")],
)  # fmt: skip
def test_how_a_picture_meets_the_input(picture: tuple[int, ...], wanted: tuple[int, ...], expected: str) -> None:
    assert how_to_fit(picture, wanted, Config.of()) == expected
    assert how_to_fit(picture, wanted, Config.of(fit="crop")) == "crop"


def test_the_cards_loss_is_the_default() -> None:
    assert default_loss(create_model("lenet5_1998")) == "rbf"
    assert default_loss(create_model("lenet5")) == "cross_entropy"
    assert default_loss(nn.Linear(2, 2)) == "cross_entropy"
