"""Bringing labelled pictures and a classifier together: class numbers, sizes, and a try before training."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset, Labelled, LabelledOnDisk, prepare
from convscope.data.augment import parse_augmentation
from convscope.data.examples import Examples
from convscope.data.feed import augmenting, fitting
from convscope.errors import ArgumentError
from convscope.spec import Input, Preprocessing
from convscope.training.config import Config
from convscope.training.preparing import description_of, preprocessing_for, preprocessing_of
from convscope.training.task import AnyStage, Examined, Objective, Prepared
from convscope.training.trying import tried, two_inputs

L = TypeVar("L", bound=Labelled | LabelledOnDisk)

# Pictures up to this size are prepared once, as a whole; larger ones batch by batch.
_WHOLE_BYTES = 2 << 30


@dataclasses.dataclass(frozen=True)
class ClassificationSettings:
    width: int = 0  # pixels that the figure on each picture is made wide, as MCDNN's columns have it; 0: as it is


def prepare_data(
    model: nn.Module,
    dataset: Dataset[Labelled],
    config: Config,
    settings: ClassificationSettings = ClassificationSettings(),
) -> Prepared:
    """Make the data set's pictures fit ``model``, and attach preprocessing and class names to the model's description.

    A model that has its preprocessing already (one that was loaded, to train on) keeps it. Where it knows all classes
    of the data set by name, it keeps its classes too, and the labels are numbered as it does; else it takes the data
    set's names. Raises ArgumentError when there are no test pictures.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one picture to evaluate on")
    described = description_of(model, dataset.shape)
    train, test = dataset.train, dataset.test
    if described is not None and set(dataset.classes) <= set(described.classes):
        train, test = numbered_as(train, described.classes), numbered_as(test, described.classes)
    preprocessing = _at_width(preprocessing_of(model, dataset, config), described, settings.width)
    if described is not None:
        spec.attach(model, described.replace(classes=train.classes, preprocessing=preprocessing))
    whole = all(not each.on_disk and len(each) * _pixels(preprocessing) <= _WHOLE_BYTES for each in (train, test))
    stages: tuple[AnyStage, ...] = ()
    if whole:
        train, test = fitted(train, preprocessing), fitted(test, preprocessing)
    else:
        stages = (fitting(preprocessing),)
    augment: tuple[AnyStage, ...] = ()
    if config.augment:
        augment = (augmenting(parse_augmentation(config.augment).fitted(train)),)
    return Prepared(train, test, (*stages, *augment), stages, (Input("pictures", preprocessing=preprocessing),))


def _at_width(preprocessing: Preprocessing, described: spec.ModelSpec | None, width: int) -> Preprocessing:
    """The preprocessing with the figure's width as the settings have it; a model that has its own keeps that."""
    if not width or preprocessing.width == width:
        return preprocessing
    if described is not None and described.preprocessing is not None:
        hint = "Its preprocessing travels with it"
        raise ArgumentError("width", width, f"the {preprocessing.width or 0} that the model was trained with", hint)
    return dataclasses.replace(preprocessing, width=width)


def examine(
    model: nn.Module, examples: Examples, dataset: Dataset[Any] | None, preprocessing: Preprocessing | None
) -> Examined:
    """Labelled pictures as a trained ``model`` takes them; ArgumentError for classes that it does not have."""
    assert isinstance(examples, Labelled | LabelledOnDisk)
    preprocessing = preprocessing or preprocessing_for(model, dataset)
    described = spec.spec_of(model)
    if described is not None and described.classes:
        if not set(examples.classes) <= set(described.classes):
            raise ArgumentError("data", examples.classes, f"pictures of the model's own classes, {described.classes}")
        examples = numbered_as(examples, described.classes)
    return Examined(examples, (fitting(preprocessing),), (Input("pictures", preprocessing=preprocessing),))


def try_out(model: nn.Module, prepared: Prepared, objective: Objective, dataset: Dataset[Labelled]) -> None:
    """One forward pass of two pictures, in evaluation mode, to meet what does not fit before anything is written."""
    _, inputs = two_inputs(model, prepared)
    shape = f"{dataset.name!r}, pictures of shape {tuple(inputs[0].shape[1:])}"
    scores = tried(
        model, lambda: objective.scores(model(*inputs)), "data", shape,  # type: ignore[attr-defined]
        "pictures that the model can take", (RuntimeError, ValueError),
    )  # fmt: skip
    classes = len(prepared.train.classes)  # type: ignore[attr-defined]
    if not isinstance(scores, torch.Tensor) or scores.ndim != 2:
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ArgumentError(
            "model", f"outputs of shape {got}", f"(pictures, {classes}): {dataset.name} has {classes} classes"
        )
    if scores.shape[1] != classes:
        hint = (
            f"Build it with classes={classes}; weights= takes over the other layers of a saved model. A model of other "
            "classes can only train on pictures whose class names are all among its own"
        )
        raise ArgumentError(
            "model", f"{scores.shape[1]} outputs", f"one for each of the {classes} classes of {dataset.name!r}", hint
        )


def numbered_as(examples: L, classes: tuple[str, ...]) -> L:
    """The examples with their labels as indices into ``classes``, which hold all their own."""
    if examples.classes == classes:
        return examples
    numbers = torch.tensor([classes.index(name) for name in examples.classes], device=examples.labels.device)
    return dataclasses.replace(examples, labels=numbers[examples.labels], classes=classes)


def fitted(examples: Labelled, preprocessing: Preprocessing) -> Labelled:
    """The examples with their pictures in the model's size and channels."""
    return dataclasses.replace(examples, images=prepare(examples.images, preprocessing))


def _pixels(preprocessing: Preprocessing) -> int:
    return preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
