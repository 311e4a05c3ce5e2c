"""Bringing a model and a data set together: picture size, channels, normalisation, class names, fresh weights."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from convscope import seeding, spec
from convscope.data import Dataset, Labelled, prepare
from convscope.errors import ArgumentError
from convscope.layers import Loss, initialise
from convscope.models import create_model, modelfile
from convscope.training.config import Config

# Splits up to this size are prepared once, as a whole; larger ones batch by batch.
_WHOLE_BYTES = 2 << 30
# A picture at most this much smaller than the input is padded (MNIST's 28 in 32, as LeCun did), else it is stretched.
_PADDED = 1.3


@dataclasses.dataclass(frozen=True)
class Prepared:
    """``train`` and ``test`` are of the model's size, unless ``per_batch`` leaves that to the batches."""

    train: Labelled
    test: Labelled
    preprocessing: spec.Preprocessing
    per_batch: bool


def build_model(name: str, dataset: Dataset, options: dict[str, object], config: Config) -> nn.Module:
    """A catalogue model for the data set's classes and channels, its weights drawn from the configuration's seed."""
    options = {"classes": len(dataset.classes), "in_channels": dataset.shape[0], **options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.derive(config.seed, "model"))
        return create_model(name, **options)  # type: ignore[arg-type]


def initialise_model(model: nn.Module, config: Config) -> None:
    """Draw the weights anew by ``config.init``; "default" leaves them as they are. UnknownNameError for other names."""
    if config.init != "default":
        initialise(model, config.init, seed=config.seed, scale=config.init_scale)


def prepare_data(model: nn.Module, dataset: Dataset, config: Config, loss: Loss) -> Prepared:
    """Make the data set's pictures fit ``model``, and attach preprocessing and class names to the model's description.

    A model that has its preprocessing already (one that was loaded, to train on) keeps it. Where it knows all classes
    of the data set by name, it keeps its classes too, and the labels are numbered as it does; else it must have one
    output a class, which then takes the data set's names. Raises ArgumentError when pictures or classes cannot fit.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one picture to evaluate on")
    described = _description(model, dataset)
    if described is not None and set(dataset.classes) <= set(described.classes):
        own = described.classes
        dataset = Dataset(dataset.name, numbered_as(dataset.train, own), numbered_as(dataset.test, own))
    shape = described.input_shape if described is not None and len(described.input_shape) == 3 else dataset.shape
    preprocessing = described.preprocessing if described is not None else None
    if preprocessing is None:
        preprocessing = dataset.preprocessing((shape[1], shape[2]), shape[0], how_to_fit(dataset.shape, shape, config))
    if described is not None:
        spec.attach(model, described.replace(classes=dataset.classes, preprocessing=preprocessing))
    splits = []
    per_batch = False
    for split in (dataset.train, dataset.test):
        size = len(split) * preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
        if size > _WHOLE_BYTES:
            per_batch = True
    for split in (dataset.train, dataset.test):
        splits.append(split if per_batch else fitted(split, preprocessing))
    prepared = Prepared(splits[0], splits[1], preprocessing, per_batch)
    _try_out(model, prepared, dataset, loss)
    return prepared


def numbered_as(split: Labelled, classes: tuple[str, ...]) -> Labelled:
    """The split with its labels as indices into ``classes``, which hold all its own."""
    if split.classes == classes:
        return split
    numbers = torch.tensor([classes.index(name) for name in split.classes], device=split.labels.device)
    return Labelled(split.images, numbers[split.labels], classes)


def fitted(split: Labelled, preprocessing: spec.Preprocessing) -> Labelled:
    """The split with its pictures in the model's size and channels."""
    return Labelled(prepare(split.images, preprocessing), split.labels, split.classes)


def how_to_fit(picture: tuple[int, ...], wanted: tuple[int, ...], config: Config) -> spec.Fit:
    """The configuration's way, or for "auto": pad pictures a little smaller than the input, resize all others."""
    if config.fit != "auto":
        return config.fit
    slightly_smaller = all(own <= full <= own * _PADDED for own, full in zip(picture[1:], wanted[1:], strict=True))
    return "pad" if slightly_smaller else "resize"


def _description(model: nn.Module, dataset: Dataset) -> spec.ModelSpec | None:
    """The model's description, made now for a user's own module; None for one that cannot be described, which trains
    all the same but whose file holds weights only."""
    try:
        return modelfile.current_spec(model, dataset.shape)
    except ArgumentError:
        return None


def _try_out(model: nn.Module, prepared: Prepared, dataset: Dataset, loss: Loss) -> None:
    """One forward pass of two pictures, in evaluation mode, to meet what does not fit before anything is written."""
    pixels = prepare(prepared.train.images[:2], prepared.preprocessing)
    first = next(model.parameters(), None)
    if first is None:
        raise ArgumentError("model", type(model).__name__, "a model with at least one parameter that is trained")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            x = prepared.preprocessing.normalise(pixels.to(first.device)).to(first.dtype)
            scores = loss.predictions(model(x))
    except (RuntimeError, ValueError) as problem:
        shape = f"{dataset.name!r}, pictures of shape {tuple(x.shape[1:])}"
        raise ArgumentError("data", shape, "pictures that the model can take", str(problem).split("\n")[0]) from problem
    finally:
        model.train(training)
    classes = len(dataset.classes)
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
