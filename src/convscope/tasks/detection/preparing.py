"""Bringing pictures with boxes and a detector together: class numbers, scale, the canvas, a try."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from convscope import seeding, spec
from convscope.data import Batch, Dataset, Stage
from convscope.data.augment import parse_augmentation
from convscope.data.examples import Examples
from convscope.data.feed import augmenting
from convscope.data.kinds.boxes import Boxes, BoxTargets
from convscope.data.ragged import Ragged
from convscope.errors import ArgumentError
from convscope.models.fast_rcnn import Regions
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.detection.proposals import KeptProposals, method_of, of_store
from convscope.tasks.detection.proposed import EVERY, Proposed, drawing
from convscope.tasks.detection.scaling import Scale, scaling
from convscope.tasks.detection.settings import DetectionSettings
from convscope.training.config import Config
from convscope.training.preparing import description_of
from convscope.training.task import AnyStage, Examined, Prepared
from convscope.training.trying import tried, two_inputs


def prepare_data(model: nn.Module, dataset: Dataset[Boxes], config: Config, settings: DetectionSettings) -> Prepared:
    """Make the data set fit ``model``, and attach scale, class names and thresholds to its description.

    A model that knows all classes of the data set by name keeps its own numbers for them; else it takes the data set's.
    Examples that come with regions keep these. Raises ArgumentError without pictures or boxes to learn from, or without
    pictures to evaluate on.
    """
    settings.use_in(model)
    given = [each.regions if isinstance(each, Proposed) else None for each in (dataset.train, dataset.test)]
    dataset = dataclasses.replace(dataset, train=alone(dataset.train), test=alone(dataset.test))
    if len(dataset.train) == 0 or len(dataset.train.labels) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without boxes to learn from", "at least one picture with a box")
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one picture to evaluate on")
    scale = Scale(settings.shorter, settings.longest)
    canvas = scale.canvas(torch.cat([dataset.train.pictures.sizes, dataset.test.pictures.sizes]))
    described = description_of(model, (dataset.train.channels, *canvas))
    known = described is not None and set(dataset.classes) <= set(described.classes)
    classes = described.classes if described is not None and known else dataset.classes
    train, test = numbered_as(dataset.train, classes), numbered_as(dataset.test, classes)
    preprocessing = described.preprocessing if described is not None else None
    if preprocessing is None:
        channels = described.input_shape[0] if described is not None and described.input_shape else None
        preprocessing = dataset.preprocessing(canvas, channels)
    preprocessing = dataclasses.replace(preprocessing, size=canvas)
    if described is not None:
        more = dataclasses.asdict(settings)
        inputs, answers = detector_inputs(preprocessing), Answers("boxes", classes, more)
        spec.attach(model, described.replace(task="detection", inputs=inputs, answers=answers))
    fit = scaling(scale, preprocessing, canvas)
    stages: list[AnyStage] = [fit]
    if config.augment:
        stages.append(augmenting(parse_augmentation(config.augment).fitted(train)))
    inputs = detector_inputs(preprocessing)
    if getattr(model, "proposes", False):
        return Prepared(train, test, (*stages, Stage("things", with_things)), (fit,), inputs)
    own, its = (
        with_regions(each, scale, preprocessing, settings) if regions is None else Proposed(each, regions)
        for each, regions in zip((train, test), given, strict=True)
    )
    draws = drawing(getattr(model, "background", 0.0), len(settings.pyramid))
    return Prepared(own, its, (*stages, draws), (fit, EVERY), inputs)


def alone(examples: Boxes | Proposed) -> Boxes:
    """The examples without regions."""
    return examples.examples if isinstance(examples, Proposed) else examples


def with_regions(examples: Boxes, scale: Scale, preprocessing: Preprocessing, settings: DetectionSettings) -> Proposed:
    """The examples with regions proposed in the pictures as the model sees them, computed once and kept on disk."""
    kept = KeptProposals(method_of(settings.proposals), settings.regions)
    rows = of_store(examples.pictures, kept, scale, preprocessing)
    return Proposed(examples, Ragged.of(rows, torch.float32))


def with_things(batch: Batch, generator: torch.Generator) -> Batch:
    """The things that are there as a third input, (k, 6): picture, box, class counted from 1; not the difficult. The
    fourth are the pictures' seeds, which the targets have too."""
    targets: BoxTargets = batch.targets
    owners, labels = targets.pictures().to(targets.boxes), targets.labels.to(targets.boxes)
    things = torch.cat((owners[:, None], targets.boxes, labels[:, None] + 1), 1)[~targets.difficult]
    seeds = seeding.seeds(generator, len(targets.counts)).to(things.device)
    targets = dataclasses.replace(targets, seeds=seeds)
    return dataclasses.replace(batch, inputs=(*batch.inputs[:2], things, seeds), targets=targets)


def examine(
    model: nn.Module, examples: Examples, preprocessing: Preprocessing | None, settings: DetectionSettings
) -> Examined:
    """Pictures as a trained ``model`` takes them; ArgumentError for classes that it does not have."""
    assert isinstance(examples, Boxes | Proposed)
    settings.use_in(model)
    given, examples = examples.regions if isinstance(examples, Proposed) else None, alone(examples)
    described = spec.spec_of(model)
    preprocessing = preprocessing or (described.preprocessing if described is not None else None)
    if preprocessing is None:
        raise ArgumentError("preprocessing", None, "how pictures become this model's input, as it does not carry it")
    classes = described.classes if described is not None and described.classes else examples.classes
    if not set(examples.classes) <= set(classes):
        raise ArgumentError("data", examples.classes, f"boxes of the model's own classes, {classes}")
    scale = Scale(settings.shorter, settings.longest)
    canvas = scale.canvas(examples.pictures.sizes) if len(examples) else preprocessing.size
    preprocessing = dataclasses.replace(preprocessing, size=canvas)
    stage = scaling(scale, preprocessing, canvas)
    numbered = numbered_as(examples, classes)
    if getattr(model, "proposes", False):
        return Examined(numbered, (stage,), detector_inputs(preprocessing))
    proposed = with_regions(numbered, scale, preprocessing, settings) if given is None else Proposed(numbered, given)
    return Examined(proposed, (stage, EVERY), detector_inputs(preprocessing))


def detector_inputs(preprocessing: Preprocessing) -> tuple[Input, ...]:
    """The pictures and their own sizes; regions that come beside them are taken as they are."""
    pictures = Input("pictures", (preprocessing.channels, *preprocessing.size), preprocessing)
    return pictures, Input("numbers", (2,))


def numbered_as(examples: Boxes, classes: tuple[str, ...]) -> Boxes:
    """The examples with labels as indices into ``classes``, which hold all their own."""
    if examples.classes == classes:
        return examples
    numbers = torch.tensor([classes.index(name) for name in examples.classes])
    return dataclasses.replace(examples, labels=numbers[examples.labels], classes=classes)


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Boxes]) -> None:
    """One forward pass of two pictures, in evaluation mode, to meet what does not fit before anything is written."""
    _, inputs = two_inputs(model, prepared)
    shape = f"{dataset.name!r}, pictures of shape {tuple(inputs[0].shape[1:])}"
    wanted = "pictures that the model can take"
    outputs = tried(model, lambda: model(*inputs), "data", shape, wanted, (RuntimeError, ValueError, TypeError))
    if not isinstance(outputs, Regions):
        raise ArgumentError("model", f"outputs of type {type(outputs).__name__}", "a detector's, Regions")
    classes = len(prepared.train.classes)  # type: ignore[attr-defined]
    if outputs.scores.shape[1] != classes + 1:
        got = f"scores of {outputs.scores.shape[1]} classes, background among them"
        raise ArgumentError("model", got, f"{classes + 1}", f"Build it with classes={classes}")
