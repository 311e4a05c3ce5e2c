"""Bringing sentences and a model together: one vocabulary, one numbering of the classes, a try before training."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input
from convscope.training.preparing import description_of
from convscope.training.task import Prepared
from convscope.training.trying import tried, two_inputs


def prepare_data(model: nn.Module, dataset: Dataset[Sentences]) -> Prepared:
    """Sentences in the numbers of the model's own vocabulary, where it has one, else of the data set's, which the model
    is given; likewise the classes.

    Raises ArgumentError when there are no test sentences, or for classes that a trained model does not have.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test sentences", "at least one to evaluate on")
    described = description_of(model, (int(dataset.train.lengths.max()),))
    vocabulary = vocabulary_of(described)
    train, test = dataset.train, dataset.test
    if vocabulary is not None and described is not None:
        train, test = (fitted(each, vocabulary, described.classes) for each in (train, test))
    shape = described.input_shape if described is not None and len(described.input_shape) == 1 else ()
    inputs = (_input(train.vocabulary, shape),)
    if described is not None:
        answers = Answers("classes", train.classes)
        spec.attach(model, described.replace(task="sentences", inputs=inputs, answers=answers))
    return Prepared(train, test, (), (), inputs)


def _input(vocabulary: Vocabulary, shape: tuple[int, ...]) -> Input:
    kept = vocabulary.to_json()
    return Input("tokens", shape, vocabulary=vocabulary.tokens, more={"cut": kept["cut"], "lower": kept["lower"]})


def vocabulary_of(described: spec.ModelSpec | None) -> Vocabulary | None:
    """The vocabulary that a model's description holds."""
    if described is None or not described.inputs or not described.inputs[0].vocabulary:
        return None
    first = described.inputs[0]
    return Vocabulary(first.vocabulary, first.more.get("cut", "words"), bool(first.more.get("lower", False)))


def known_vocabulary(model: nn.Module) -> Vocabulary:
    """The same of a trained model; ArgumentError for one without."""
    found = vocabulary_of(spec.spec_of(model))
    if found is None:
        raise ArgumentError("model", type(model).__name__, "a model that was trained on sentences, with its vocabulary")
    return found


def fitted(sentences: Sentences, vocabulary: Vocabulary, classes: tuple[str, ...]) -> Sentences:
    """The sentences in the numbers of ``vocabulary``, their classes as places in ``classes``; ArgumentError for a class
    that is not there."""
    if not set(sentences.classes) <= set(classes):
        raise ArgumentError("data", sentences.classes, f"sentences of the model's own classes, {classes}")
    numbers = torch.tensor([classes.index(name) for name in sentences.classes])
    tokens = sentences.tokens if vocabulary == sentences.vocabulary else None
    return dataclasses.replace(
        sentences,
        labels=numbers[sentences.labels],
        classes=classes,
        vocabulary=vocabulary,
        tokens=tokens,  # type: ignore[arg-type]  # None: encoded anew
    )


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Any]) -> None:
    """One forward pass of two sentences, to meet what does not fit before anything is written."""
    assert isinstance(prepared.train, Sentences)
    table = next((each for each in model.modules() if isinstance(each, nn.Embedding)), None)
    words, classes = len(prepared.train.vocabulary), len(prepared.train.classes)
    if table is not None and table.num_embeddings < words:
        raise ArgumentError(
            "model", f"{table.num_embeddings} word vectors", f"one for each of the {words} tokens of {dataset.name!r}",
            f"Build it with vocabulary={words}",
        )  # fmt: skip
    wanted = "a model of token numbers (n, t) and lengths (n,)"
    batch, inputs = two_inputs(model, prepared)
    scores = tried(model, lambda: model(*inputs), "model", type(model).__name__, wanted)
    shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if shape != (batch.examples, classes):
        raise ArgumentError(
            "model", f"outputs {shape}", f"(sentences, {classes}): {dataset.name} has {classes} classes"
        )
