"""Bringing sentence pairs and a translator together: vocabularies, lengths, a try before training."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.data import Dataset
from convscope.data.byte_pairs import BytePairs
from convscope.data.kinds.parallel import Parallel
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError
from convscope.spec import Answers, Input
from convscope.tasks.translation.translating import places_of
from convscope.training.preparing import description_of
from convscope.training.task import Prepared
from convscope.training.trying import tried, two_inputs

_log = logging.getLogger("convscope.tasks")
Coding = Vocabulary | BytePairs


@functools.lru_cache(maxsize=2)
def learned(texts: tuple[str, ...], pieces: int) -> BytePairs:
    """Byte pairs of ``texts``; the last ones are kept, since a data set is asked for them twice."""
    return BytePairs.learn(texts, pieces)


def codings(dataset: Dataset[Parallel], pieces: int) -> tuple[Coding, Coding]:
    """How source and target are cut: byte pairs of both together, or with 0 ``pieces`` as the data set has them."""
    train = dataset.train
    if not pieces:
        return train.source_vocabulary, train.target_vocabulary
    found = learned((*train.source_texts, *train.target_texts), pieces)
    return found, found


def prepare_data(
    model: nn.Module, dataset: Dataset[Parallel], pieces: int, tokens: int, too_long: str, reading: dict[str, Any]
) -> Prepared:
    """Sentence pairs in the model's own tokens, where it has some, else in ``codings``, which the model is given with
    ``reading``, how to search. Training pairs that are longer than the model's places are left out and counted.

    Raises ArgumentError when there are no test sentences, and where too long ones are to be refused.
    """
    if len(dataset.test) == 0:
        raise ArgumentError("data", f"{dataset.name!r} without test sentences", "at least one to evaluate on")
    described = description_of(model, ((8,), (8,)))
    own = known(described)
    chosen = codings(dataset, pieces) if own is None else own
    train, test = (coded(each, *chosen) for each in (dataset.train, dataset.test))
    train = _short_enough(train, places_of(model), too_long)
    test = cut(test, places_of(model), too_long)
    inputs = (_input(chosen[0]), Input("tokens") if chosen[0] == chosen[1] else _input(chosen[1]))
    if described is not None:
        more = reading if own is None else {**described.answers.more, **reading}
        answers = Answers("tokens", chosen[1].tokens, more)
        spec.attach(model, described.replace(task="translation", inputs=inputs, answers=answers))
    return Prepared(train, test, (), (), inputs, tokens or None)


def coded(examples: Parallel, source: Coding, target: Coding) -> Parallel:
    """The same sentences in other tokens."""
    if examples.source_vocabulary == source and examples.target_vocabulary == target:
        return examples
    return dataclasses.replace(
        examples, source_vocabulary=source, target_vocabulary=target,
        source=None, target=None,  # type: ignore[arg-type]  # encoded anew
    )  # fmt: skip


def _short_enough(train: Parallel, places: int, too_long: str) -> Parallel:
    fits = train.lengths <= places
    if bool(fits.all()):
        return train
    count = int((~fits).sum())
    if too_long == "refuse":
        first = int((~fits).nonzero()[0])
        raise ArgumentError("data", f"{count} pairs too long, the first {first + 1}", f"at most {places} tokens a side")
    _log.warning("%d pairs of more than %d tokens are left out of training", count, places)
    if not bool(fits.any()):
        raise ArgumentError("data", f"{len(train)} pairs", f"some of at most {places} tokens")
    return train.select(fits.nonzero().flatten())


def cut(examples: Parallel, places: int, too_long: str) -> Parallel:
    """Both sides cut to the model's places, counted and said, or ArgumentError where that is refused."""
    over = examples.lengths > places
    if not bool(over.any()):
        return examples
    count = int(over.sum())
    if too_long == "refuse":
        first = int(over.nonzero()[0]) + 1
        raise ArgumentError("data", f"{count} pairs too long, the first {first}", f"at most {places} tokens a side")
    _log.warning("%d pairs are cut to %d tokens", count, places)
    sides = {side: Ragged.of([row[: places - 1] for row in getattr(examples, side)]) for side in ("source", "target")}
    return dataclasses.replace(examples, **sides)  # type: ignore[arg-type]


def _input(coding: Coding) -> Input:
    kept = coding.to_json()
    more = {name: value for name, value in kept.items() if name not in ("format", "tokens")}
    return Input("tokens", vocabulary=coding.tokens, more=more)


def known(described: spec.ModelSpec | None) -> tuple[Coding, Coding] | None:
    """Source's and target's tokens as a model's description has them; None where it has none."""
    if described is None or not described.inputs or not described.inputs[0].vocabulary:
        return None
    first, second = described.inputs[0], described.inputs[-1]
    source = _coding(first)
    return source, _coding(second) if second.vocabulary else source


def known_to(model: nn.Module) -> tuple[Coding, Coding]:
    """The same of a trained model; ArgumentError for one without."""
    found = known(spec.spec_of(model))
    if found is None:
        raise ArgumentError("model", type(model).__name__, "a model that was trained to translate, with its vocabulary")
    return found


def _coding(given: Input) -> Coding:
    if "merges" in given.more:
        return BytePairs(given.vocabulary, tuple(given.more["merges"]))
    return Vocabulary(given.vocabulary, given.more.get("cut", "words"), bool(given.more.get("lower", False)))


def try_out(model: nn.Module, prepared: Prepared, dataset: Dataset[Any]) -> None:
    """One forward pass of two pairs, to meet what does not fit before anything is written."""
    assert isinstance(prepared.train, Parallel)
    table = next((each for each in model.modules() if isinstance(each, nn.Embedding)), None)
    words, classes = len(prepared.train.source_vocabulary), len(prepared.train.target_vocabulary)
    if table is not None and table.num_embeddings < words:
        raise ArgumentError(
            "model", f"{table.num_embeddings} word vectors", f"one for each of the {words} tokens of {dataset.name!r}",
            f"Build it with vocabulary={words}, or classes={words} where source and target have the same",
        )  # fmt: skip
    if prepared.tokens is not None and prepared.tokens < int(prepared.train.lengths.max()):
        longest = int(prepared.train.lengths.max())
        raise ArgumentError("tokens", prepared.tokens, f"room for the longest sentence, {longest} tokens")
    wanted = "a model of source tokens (n, s) and target tokens (n, t)"
    batch, inputs = two_inputs(model, prepared)
    scores = tried(model, lambda: model(*inputs), "model", type(model).__name__, wanted)
    shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if shape != (*batch.targets.shape, classes):
        wanted = f"(sentences, tokens, {classes}): so many tokens the target has"
        raise ArgumentError("model", f"outputs {shape}", wanted)
