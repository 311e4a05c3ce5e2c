"""What a sentence classifier goes by: the n-grams that its filters like, and how much each word counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import PADDING, Vocabulary
from convscope.errors import ArgumentError
from convscope.models.text_cnn import TextCNN
from convscope.tasks.sentences.preparing import known_vocabulary


@dataclasses.dataclass(frozen=True)
class Liked:
    """An n-gram that a filter answers to: the filter's layer and number, the words, its answer, and the class that the
    filter speaks for most, by how much a unit (its weight less the mean of all classes')."""

    layer: str
    filter: int
    words: tuple[str, ...]
    answer: float
    speaks_for: str
    by: float

    def __str__(self) -> str:
        return f"{self.layer}[{self.filter}] {' '.join(self.words)!r} {self.answer:.2f} for {self.speaks_for}"


@torch.no_grad()
def favourites(model: TextCNN, sentences: Sentences, each: int = 3, batch_size: int = 256) -> list[list[Liked]]:
    """For every filter of the network the ``each`` different n-grams of ``sentences`` to which it answers most, best
    first. Words beyond a sentence's edges are "·"."""
    if not isinstance(model, TextCNN):
        raise ArgumentError("model", type(model).__name__, "a text_cnn, whose filters read n-grams")
    vocabulary = known_vocabulary(model)
    classes = _classes(model, sentences)
    found: list[list[Liked]] = []
    parts = _filters(model)
    model.eval()
    best: list[list[tuple[float, tuple[str, ...]]]] = [[] for _ in range(sum(maps for _, _, maps in parts))]
    for start in range(0, len(sentences), batch_size):
        tokens, lengths = sentences.tokens.padded(torch.arange(start, min(start + batch_size, len(sentences))), PADDING)
        number = 0
        for width, answers, maps in parts:
            y = answers(tokens, lengths)  # (n, maps, places)
            values, places = y.max(2)
            for place in range(maps):
                top = values[:, place].topk(min(4 * each, len(values)))
                for value, row in zip(top.values.tolist(), top.indices.tolist(), strict=True):
                    own = tokens[row, : lengths[row]]
                    best[number].append((value, ngram(vocabulary, own, int(places[row, place]), width)))
                number += 1
    weights = model.output.weight - model.output.weight.mean(0)  # (classes, filters)
    number = 0
    for width, _, maps in parts:
        for place in range(maps):
            by, speaks = weights[:, number].max(0)
            ranked = dict(sorted((words, value) for value, words in sorted(best[number])))
            order = sorted(ranked.items(), key=lambda item: (-item[1], item[0]))[:each]
            found.append(
                [Liked(f"conv{width}", place, words, value, classes[int(speaks)], float(by)) for words, value in order]
            )
            number += 1
    return found


def _classes(model: TextCNN, sentences: Sentences) -> tuple[str, ...]:
    if len(sentences.classes) != model.output.out_features:
        wanted = f"sentences of {model.output.out_features} classes, as the model has"
        raise ArgumentError("sentences", f"{len(sentences.classes)} classes", wanted)
    return sentences.classes


def _filters(model: TextCNN) -> list[tuple[int, Callable[[Tensor, Tensor], Tensor], int]]:
    """(width, what all filters of it answer at every place within reach, how many there are)."""

    def of(width: int) -> Callable[[Tensor, Tensor], Tensor]:
        def answers(tokens: Tensor, lengths: Tensor) -> Tensor:
            words = model.embedding(tokens).transpose(1, 2)
            y: Tensor = model.get_submodule(f"conv{width}")(words).clamp(min=0)
            reach = torch.arange(y.shape[2]) < (lengths + width - 1)[:, None, None]
            return y.masked_fill(~reach, -torch.inf)

        return answers

    convs = [(width, model.get_submodule(f"conv{width}")) for width in model.widths]
    return [(width, of(width), conv.out_channels) for width, conv in convs if isinstance(conv, nn.Conv1d)]


def ngram(vocabulary: Vocabulary, tokens: Tensor, place: int, width: int) -> tuple[str, ...]:
    """The words that a filter of ``width`` sees at output ``place`` of a sentence with padding of width − 1."""
    seen = range(place - width + 1, place + 1)
    return tuple(vocabulary.tokens[int(tokens[at])] if 0 <= at < len(tokens) else "·" for at in seen)


def word_shares(model: nn.Module, tokens: Sequence[int], number: int) -> list[float]:
    """How much each token counts for the score of class ``number``: ∂score/∂e·e, gradient times input at the word
    vectors e, positive where it speaks for the class. ArgumentError for a model without word vectors."""
    table = next((each for each in model.modules() if isinstance(each, nn.Embedding)), None)
    if table is None:
        raise ArgumentError("model", type(model).__name__, "a model with an embedding of its tokens")
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[-1]

    training = model.training
    handle = table.register_forward_hook(keep)
    model.eval()
    try:
        with torch.enable_grad():
            place = table.weight.device
            scores = model(torch.tensor([list(tokens)], device=place), torch.tensor([len(tokens)], device=place))
            (gradient,) = torch.autograd.grad(scores[0, number], kept[:1])
    finally:
        handle.remove()
        model.train(training)
    shares: list[float] = (gradient * kept[0]).sum(-1)[0].tolist()
    return shares
