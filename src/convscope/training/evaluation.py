"""How good a classifier is on a set of pictures it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset, Feed, Labelled, Order, fitting, load_dataset
from convscope.errors import ArgumentError
from convscope.layers import Loss, loss_for
from convscope.models import MODELS
from convscope.training.inference import Inference, prepare_inference
from convscope.training.metrics import Metrics, Tally
from convscope.training.preparing import numbered_as


def evaluate(
    model: nn.Module,
    data: Labelled | Dataset | str | Path,
    batch_size: int = 256,
    loss: str | Loss | None = None,
    preprocessing: spec.Preprocessing | None = None,
    engine: str | Inference = "auto",
) -> Metrics:
    """Loss, accuracy, error, top-5, accuracy of each class, their mean, and the confusion matrix.

    ``data`` is a split, a data set or its name (then its test pictures). The model runs in evaluation mode where its
    parameters are, and is left in the mode it had. ``preprocessing`` defaults to the one the model carries. Raises
    ArgumentError when pictures, classes and model do not go together. Classes go together by their names: those of the
    pictures must be among the model's.
    """
    if isinstance(data, str | Path):
        data = load_dataset(data)
    described = spec.spec_of(model)
    preprocessing = preprocessing or preprocessing_for(model, data)
    split = data.test if isinstance(data, Dataset) else data
    if described is not None and described.classes:
        if not set(split.classes) <= set(described.classes):
            raise ArgumentError("data", split.classes, f"pictures of the model's own classes, {described.classes}")
        split = numbered_as(split, described.classes)
    objective = loss if isinstance(loss, Loss) else loss_for(loss or default_loss(model), model)
    inference = engine if isinstance(engine, Inference) else prepare_inference(model, preprocessing, engine, len(split))
    return evaluate_batches(model, split, batch_size, objective, preprocessing, inference.outputs)


def preprocessing_for(model: nn.Module, data: Labelled | Dataset | None = None) -> spec.Preprocessing:
    """How pictures become the model's input: as it says itself, else as the data set suggests; ArgumentError without
    either."""
    described = spec.spec_of(model)
    if described is not None and described.preprocessing is not None:
        return described.preprocessing
    if isinstance(data, Dataset):
        return data.preprocessing()
    raise ArgumentError("preprocessing", None, "how pictures become this model's input, as it does not carry it")


def evaluate_batches(
    model: nn.Module,
    split: Labelled,
    batch_size: int,
    loss: Loss,
    preprocessing: spec.Preprocessing,
    outputs_of: Callable[[torch.Tensor], Any],
) -> Metrics:
    """``evaluate`` with everything given; pictures not of the model's size are prepared batch by batch.

    ``outputs_of`` takes uint8 pictures of the model's size.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    tally: Tally | None = None
    try:
        with torch.inference_mode():
            order = Order(len(split), batch_size, shuffle=False)
            for batch in Feed(split, order, [fitting(preprocessing)], device):
                labels = batch.targets
                outputs = outputs_of(batch.inputs[0])
                scores = loss.predictions(outputs)
                tally = tally or Tally(scores.shape[1], scores.device)
                tally.add(scores, labels, loss.value(outputs, labels))
    finally:
        model.train(training)
    assert tally is not None  # an order refuses a split without pictures
    return tally.metrics(split.classes)


def default_loss(model: nn.Module) -> str:
    """The loss on the card of the model's architecture, else cross-entropy."""
    described = spec.spec_of(model)
    if described is not None and described.architecture in MODELS:
        return MODELS[described.architecture].card.loss
    return "cross_entropy"
