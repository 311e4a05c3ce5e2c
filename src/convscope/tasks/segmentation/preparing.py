"""Bringing pictures with maps and a network that answers for every pixel together: class numbers, balance, a try."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convscope import spec
from convscope.data import Batch, Dataset, FixedStage, Maps
from convscope.data.augment import parse_augmentation
from convscope.data.examples import Examples
from convscope.data.feed import augmenting
from convscope.data.kinds.maps import IGNORED
from convscope.data.picture_stores import LookedUp
from convscope.data.transforms import convert_channels
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input, Preprocessing
from convscope.training.config import Config
from convscope.training.preparing import description_of, preprocessing_for
from convscope.training.task import AnyStage, Examined, Prepared
from convscope.training.trying import tried, two_inputs


def prepare_data(model: nn.Module, dataset: Dataset[Maps], config: Config, balance: str) -> Prepared:
    """Make the data set fit ``model``, and attach preprocessing, class names, colours and balance to its description.

    Pictures are not resized. A model that knows all classes of the data set by name keeps its own, and the maps are
    numbered as it does; else it takes the data set's. Raises ArgumentError without test pictures, and where a balance
    is asked for a model that cannot be described.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one picture to evaluate on")
    largest = torch.cat([dataset.train.pictures.sizes, dataset.test.pictures.sizes]).amax(0).tolist()
    described = description_of(model, (dataset.train.channels, *largest))
    train, test = dataset.train, dataset.test
    known = described is not None and set(dataset.classes) <= set(described.classes)
    classes = described.classes if described is not None and known else dataset.classes
    train, test = numbered_as(train, classes), numbered_as(test, classes)
    preprocessing = described.preprocessing if described is not None else None
    if preprocessing is None:
        channels = described.input_shape[0] if described is not None and described.input_shape else None
        preprocessing = dataset.preprocessing((largest[0], largest[1]), channels)
    if described is not None:
        more: dict[str, Any] = {"palette": [list(colour) for colour in train.palette or ()]}
        if balance != "none":
            more["weights"] = class_weights(train.histogram, balance)
        pictures = Input("pictures", (preprocessing.channels, *preprocessing.size), preprocessing)
        answers = Answers("maps", classes, more)
        spec.attach(model, described.replace(task="segmentation", inputs=(pictures,), answers=answers))
    elif balance != "none":
        raise ArgumentError(
            "balance", balance, "'none' for a model that cannot be described, as the weights go with it"
        )
    stages = _stages(train, preprocessing)
    augment: tuple[AnyStage, ...] = ()
    if config.augment:
        augment = (augmenting(parse_augmentation(config.augment).fitted(train), IGNORED),)
    return Prepared(
        train, test, (*stages, *augment), _stages(test, preprocessing), (_input(preprocessing, (train, test)),)
    )


def examine(
    model: nn.Module, examples: Examples, dataset: Dataset[Any] | None, preprocessing: Preprocessing | None
) -> Examined:
    """Maps as a trained ``model`` takes them; ArgumentError for classes that it does not have."""
    assert isinstance(examples, Maps)
    if preprocessing is None and spec.spec_of(model) is None and dataset is not None:
        largest = examples.pictures.sizes.amax(0).tolist()
        preprocessing = dataset.preprocessing((largest[0], largest[1]))
    preprocessing = preprocessing or preprocessing_for(model)
    described = spec.spec_of(model)
    classes = described.classes if described is not None and described.classes else examples.classes
    if not set(examples.classes) <= set(classes):
        raise ArgumentError("data", examples.classes, f"maps of the model's own classes, {classes}")
    inputs = (_input(preprocessing, (examples,)),)
    return Examined(numbered_as(examples, classes), _stages(examples, preprocessing), inputs)


def numbered_as(examples: Maps, classes: tuple[str, ...]) -> Maps:
    """The examples with maps of indices into ``classes``, which hold all their own, and ``IGNORED`` for no class."""
    if examples.classes == classes and examples.ignored == IGNORED:
        return examples
    if len(classes) > IGNORED:
        raise ArgumentError("classes", len(classes), f"at most {IGNORED} classes")
    numbers = torch.tensor([classes.index(name) for name in examples.classes])
    table = torch.full((256,), IGNORED, dtype=torch.uint8)
    table[: len(numbers)] = numbers.to(torch.uint8)
    histogram = torch.zeros((len(examples), len(classes)), dtype=torch.int64)
    histogram[:, numbers] = examples.histogram
    palette = examples.palette if examples.classes == classes else None
    return dataclasses.replace(
        examples, maps=LookedUp(examples.maps, table), classes=classes, ignored=IGNORED, palette=palette,
        histogram=histogram,
    )  # fmt: skip


BALANCES = ("none", "median", "frequency")


def class_weights(histogram: Tensor, balance: str) -> list[float]:
    """A factor a class from the pixels (n, classes) that it has in each picture.

    "median": median of the classes' frequencies over its own, where a class's frequency is its pixels over all pixels
    of the pictures that show it (Eigen, Fergus, ICCV 2015; SegNet). "frequency": 1 over its share of all pixels.
    All are divided by their mean over the pixels, so that J stays of the size that it has without. A class without
    pixels has factor 0.
    """
    pixels = histogram.to(torch.float64)
    total, whole = pixels.sum(0), pixels.sum()
    shown = total > 0
    among = (pixels.sum(1, keepdim=True) * (pixels > 0)).sum(0) if balance == "median" else whole
    share = total / torch.where(shown, among, 1)
    weights = torch.where(shown, share[shown].median() / torch.where(shown, share, 1), 0)
    scaled: list[float] = (weights * whole / (weights * total).sum()).tolist()
    return scaled


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Maps]) -> None:
    """One forward pass of two pictures, in evaluation mode, to meet what does not fit before anything is written."""
    batch, inputs = two_inputs(model, prepared)
    shape = f"{dataset.name!r}, pictures of shape {tuple(inputs[0].shape[1:])}"
    wanted = "pictures that the model can take"
    scores = tried(model, lambda: model(*inputs), "data", shape, wanted, (RuntimeError, ValueError))
    if not isinstance(scores, Tensor) or scores.ndim != 4:
        got = str(tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__)
        raise ArgumentError("model", f"outputs of shape {got}", "scores of every pixel, (n, classes, h, w)")
    classes = len(prepared.train.classes)  # type: ignore[attr-defined]
    right = (batch.examples, classes, *batch.targets.shape[1:])
    if scores.shape != right:
        hint = "" if scores.shape[1:2] == right[1:2] else f"Build it with classes={classes}"
        got = f"outputs of shape {tuple(scores.shape)}"
        raise ArgumentError("model", got, f"{right}: scores of {classes} classes for every pixel", hint)


def _own_size(examples: Maps, preprocessing: Preprocessing) -> tuple[int, int]:
    """The size of every batch: the pictures' own, or where they differ the largest there is, so that an answer never
    depends on what else is in its batch."""
    pictures = examples.pictures
    if pictures.uniform and len(pictures):
        return pictures.shape[1:]
    largest = torch.cat([pictures.sizes, torch.tensor([preprocessing.size])]).amax(0).tolist()
    return largest[0], largest[1]


def _stages(examples: Maps, preprocessing: Preprocessing) -> tuple[AnyStage, ...]:
    """What brings grey pictures to colour, or the reverse, where the model wants that, and all to one size, with 0 at
    the right and at the bottom, there of no class."""
    height, width = _own_size(examples, preprocessing)
    if examples.channels == preprocessing.channels and examples.pictures.uniform:
        return ()

    def fit(batch: Batch) -> Batch:
        pictures = convert_channels(batch.inputs[0], preprocessing.channels)
        edges = (0, max(0, width - pictures.shape[3]), 0, max(0, height - pictures.shape[2]))
        maps = functional.pad(batch.targets, edges, value=IGNORED)
        return dataclasses.replace(batch, inputs=(functional.pad(pictures, edges),), targets=maps)

    return (FixedStage("fit", fit),)


def _input(preprocessing: Preprocessing, parts: Sequence[Maps]) -> Input:
    """The model's input, of the pictures' size where all parts are of one."""
    sizes = {_own_size(part, preprocessing) for part in parts}
    if len(sizes) > 1:
        return Input("pictures", preprocessing=preprocessing, more={"any_size": True})
    own = dataclasses.replace(preprocessing, size=sizes.pop())
    return Input("pictures", (own.channels, *own.size), own)
