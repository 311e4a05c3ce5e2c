"""Bringing lines and a reader together: one alphabet, one height, a try before training."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.kinds.lines import STEP, Lines
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input, Preprocessing
from convscope.training.preparing import description_of
from convscope.training.task import Prepared
from convscope.training.trying import tried, two_inputs

_log = logging.getLogger("convscope.tasks")
# Background must be 0 for the network, as what lies beyond a picture's edge is; the deviation is MNIST's, roughly.
_STD = 0.3


def prepare_data(model: nn.Module, dataset: Dataset[Lines], beam: int = 1) -> Prepared:
    """Lines in the numbers of the model's own alphabet, where it has one, else of the data set's, which the model is
    given; so it is told ``beam``, how wide to read. Training lines that are too narrow for their text are left out, and
    said.

    Raises ArgumentError when there are no test lines, for other heights, and for characters that a trained model does
    not know.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test lines", "at least one to evaluate on")
    described = description_of(model, (1, dataset.train.height, 4 * dataset.train.height))
    alphabet = described.classes if described is not None and described.classes else dataset.train.alphabet
    train, test = (fitted(each, alphabet) for each in (dataset.train, dataset.test))
    if described is not None and described.input_shape[1:2] not in ((), (train.height,)):
        wanted = f"lines {described.input_shape[1]} pixels high, as the model takes them"
        raise ArgumentError("data", f"{dataset.name!r}, {train.height} pixels high", wanted)
    shape = (1, train.height, 4 * train.height)
    inputs = (Input("pictures", shape, pixels(train.height), more={"dark": train.dark}), Input("widths"))
    if described is not None:
        answers = Answers("characters", alphabet, {"beam": beam})
        spec.attach(model, described.replace(task="lines", inputs=inputs, answers=answers))
    return Prepared(_wide_enough(model, train), test, (), (), inputs)


def pixels(height: int) -> Preprocessing:
    """How a line's pixels become numbers; its width is its own."""
    return Preprocessing(1, (height, 4 * height), (0.0,), (_STD,))


def stride_of(model: nn.Module) -> int:
    """Columns of the picture a step of the model's answer; 4 where it does not say."""
    found = getattr(model, "stride", 4)
    return found if isinstance(found, int) else 4


def needed(text: str) -> int:
    """The fewest steps in which CTC can spell ``text``: its characters, and a blank between equal neighbours."""
    return len(text) + sum(one == other for one, other in itertools.pairwise(text))


def _wide_enough(model: nn.Module, lines: Lines) -> Lines:
    if lines.widths is None:
        return lines
    stride = stride_of(model)
    enough = torch.tensor([needed(text) for text in lines.texts]) * stride <= -(-lines.widths // STEP) * STEP
    if enough.all():
        return lines
    narrow = torch.nonzero(~enough).flatten().tolist()
    told = ", ".join(repr(lines.texts[index]) for index in narrow[:3])
    _log.warning("%d lines are left out, whose pictures are too narrow for their texts: %s", len(narrow), told)
    if not enough.any():
        raise ArgumentError("data", f"{len(lines)} lines", f"pictures with {stride} columns a character at least")
    return lines.select(torch.nonzero(enough).flatten())


def fitted(lines: Lines, alphabet: tuple[str, ...]) -> Lines:
    """The lines in the numbers of ``alphabet``; ArgumentError for a character that it lacks."""
    unknown = sorted(set(lines.alphabet) - set(alphabet))
    if unknown:
        shown = "".join(alphabet[:40])
        raise ArgumentError("data", f"the characters {''.join(unknown)!r}", f"those of the model's alphabet, {shown!r}")
    return lines if lines.alphabet == alphabet else lines.spelled(alphabet)


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Any]) -> None:
    """One forward pass of two lines, to meet what does not fit before anything is written."""
    assert isinstance(prepared.train, Lines)
    wanted = f"a model of pictures (n, 1, {prepared.train.height}, w) and widths (n,)"
    _, inputs = two_inputs(model, prepared)
    scores = tried(model, lambda: model(*inputs), "model", type(model).__name__, wanted)
    classes = len(prepared.train.alphabet) + 1
    shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if not isinstance(scores, torch.Tensor) or scores.ndim != 3 or scores.shape[2] != classes:
        wanted = f"(lines, steps, {classes}): {dataset.name} has {classes - 1} characters, and there is the blank"
        raise ArgumentError("model", f"outputs {shape}", wanted)
