"""Bringing pictures with captions and a writer together: vocabulary, size, a try before training."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.kinds.captions import Captions
from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input, Preprocessing
from convscope.tasks.captions.foretelling import FittedPictures, Foretelling
from convscope.training.config import Config
from convscope.training.preparing import description_of
from convscope.training.task import Prepared
from convscope.training.trying import tried, two_inputs

_log = logging.getLogger("convscope.tasks")


def prepare_data(
    model: nn.Module, dataset: Dataset[Captions], size: int, reading: dict[str, Any], config: Config
) -> Prepared:
    """Captions in the model's own words, where it has some, else in those of the data set, which the model is given
    with ``reading``, how to search; pictures in the model's size, else in their own, or ``size`` a side.

    Every caption of a picture is learned from as an example of its own. Raises ArgumentError when there are no test
    pictures, and for pictures of many sizes where none is asked for.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test pictures", "at least one to evaluate on")
    pictures = dataset.train.pictures
    own = pictures.shape if pictures.uniform and not size else (pictures.channels, size or 128, size or 128)
    described = description_of(model, (own, (8,)))
    known = vocabulary_of(described)
    vocabulary = dataset.train.vocabulary if known is None else known
    found = described.preprocessing if described is not None else None
    if found is None:
        fit = "resize" if config.fit == "auto" else config.fit
        channels = described.input_shape[0] if described is not None and len(described.input_shape) == 3 else own[0]
        found = dataset.preprocessing(own[1:], channels, fit)
    shape = (found.channels, *found.size)
    kept = vocabulary.to_json()
    words = Input("tokens", vocabulary=vocabulary.tokens, more={"cut": kept["cut"], "lower": kept["lower"]})
    inputs = (Input("pictures", shape, found), words)
    if described is not None:
        more = reading if known is None else {**described.answers.more, **reading}
        answers = Answers("tokens", vocabulary.tokens, more)
        spec.attach(model, described.replace(task="captions", inputs=inputs, answers=answers))
    train, test = (told(each, vocabulary, found) for each in (dataset.train.apart(), dataset.test))
    return Prepared(train, test, (), (), inputs)


def told(captions: Captions, vocabulary: Vocabulary, preprocessing: Preprocessing) -> Foretelling:
    """The captions in the words of ``vocabulary``, the pictures in the model's size; words that it does not know are
    counted and said."""
    changed: dict[str, Any] = {"pictures": FittedPictures(captions.pictures, preprocessing), "by_tokens": True}
    if captions.vocabulary != vocabulary:
        strange = set(captions.vocabulary.tokens) - set(vocabulary.tokens)
        if strange:
            _log.warning("%d words that the model does not know, %r for one", len(strange), min(strange))
        changed |= {"vocabulary": vocabulary, "tokens": None}
    return Foretelling(dataclasses.replace(captions, **changed))


def vocabulary_of(described: spec.ModelSpec | None) -> Vocabulary | None:
    """The words in a model's description; None where it has none."""
    if described is None or not described.inputs or not described.inputs[-1].vocabulary:
        return None
    words = described.inputs[-1]
    return Vocabulary(words.vocabulary, words.more.get("cut", "words"), bool(words.more.get("lower", False)))


def known_to(model: nn.Module) -> tuple[Vocabulary, Preprocessing]:
    """Words and preprocessing of a trained model; ArgumentError for one without."""
    described = spec.spec_of(model)
    vocabulary = vocabulary_of(described)
    if described is None or vocabulary is None or described.preprocessing is None:
        wanted = "a model that was trained to write captions, with its vocabulary"
        raise ArgumentError("model", type(model).__name__, wanted)
    return vocabulary, described.preprocessing


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Any]) -> None:
    """One forward pass of two pictures, to meet what does not fit before anything is written."""
    assert isinstance(prepared.train, Foretelling)
    classes = len(prepared.train.captions.vocabulary)
    table = next((each for each in model.modules() if isinstance(each, nn.Embedding)), None)
    if table is not None and table.num_embeddings != classes:
        wanted = f"one for each of the {classes} words of {dataset.name!r}"
        raise ArgumentError("model", f"{table.num_embeddings} word vectors", wanted, f"Build it with classes={classes}")
    wanted = "a model of pictures (n, c, h, w) and words (n, t)"
    batch, inputs = two_inputs(model, prepared)
    scores = tried(model, lambda: model(*inputs), "model", type(model).__name__, wanted)
    shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if shape != (*batch.targets.shape, classes):
        raise ArgumentError("model", f"outputs {shape}", f"(captions, words, {classes}): so many words there are")
