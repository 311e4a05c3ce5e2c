"""Which class a sentence is of, with what probability, and by which words."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convscope import spec
from convscope.columns import shown
from convscope.data.given_texts import given_texts
from convscope.data.ragged import Ragged
from convscope.data.vocabulary import PADDING, UNKNOWN
from convscope.errors import ArgumentError
from convscope.tasks.sentences.ngrams import word_shares
from convscope.tasks.sentences.preparing import known_vocabulary
from convscope.training.inference import Inference, prepare_inference


@dataclasses.dataclass(frozen=True)
class SentencePrediction:
    """``label`` is the most probable class, ``probabilities`` those of all ``classes``. ``unknown`` are the words that
    the model's vocabulary does not have. ``shares()``: how much each of the ``tokens`` counts for the label."""

    source: str
    text: str
    label: str
    probability: float
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    tokens: tuple[str, ...]
    unknown: tuple[str, ...]
    shares: Callable[[], list[float]] = dataclasses.field(repr=False, compare=False)

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The ``count`` most probable classes, best first."""
        order = sorted(range(len(self.classes)), key=lambda index: -self.probabilities[index])
        return [(self.classes[index], self.probabilities[index]) for index in order[:count]]

    def line(self, most: int) -> str:
        told = "  ".join(f"{shown(name)} {share:.1%}" for name, share in self.top(most))
        missing = f"  (unknown: {', '.join(map(shown, self.unknown))})" if self.unknown else ""
        return f"{shown(self.text)}: {told}{missing}"

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "sentence": self.text,
            "class": self.label,
            "probability": self.probability,
            "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
            "unknown": list(self.unknown),
            "words": [[word, share] for word, share in zip(self.tokens, self.shares(), strict=True)],
        }

    def rows(self, most: int) -> list[tuple[Any, ...]]:
        return [(self.text, rank, name, f"{share:.6f}") for rank, (name, share) in enumerate(self.top(most), 1)]

    def save(self, folder: Path) -> list[Path]:
        """The sentence as a picture, its words shaded by how much they count."""
        from convscope.tasks.sentences.drawing import draw_words

        name = re.sub(r"[^\w.-]+", "-", self.source).strip("-.") or "sentence"
        path = folder / f"{name}.png"
        draw_words(path, f"{self.label} {self.probability:.1%}", self.tokens, self.shares())
        return [path]


def predict(
    model: nn.Module,
    inputs: Any,
    batch_size: int = 64,
    engine: str = "auto",
    told: Callable[[Inference], object] = lambda inference: None,
) -> Iterator[SentencePrediction]:
    """The class of every sentence, batch by batch.

    ``inputs``: a sentence or several; where one is the name of a text file, its sentences, one a line, empty lines left
    out; "-" reads them from standard input. Raises ArgumentError for an empty request, what is no text, and a model
    without a vocabulary, DataError for a file that cannot be read or is not UTF-8 (the line is named).
    """
    described = spec.spec_of(model)
    vocabulary = known_vocabulary(model)
    sentences = list(given_texts(inputs, empty_lines=False))
    if not sentences:
        raise ArgumentError("inputs", inputs, "at least one sentence")
    assert described is not None
    inference = prepare_inference(model, described.inputs, engine, len(sentences))
    told(inference)
    for start in range(0, len(sentences), batch_size):
        part = sentences[start : start + batch_size]
        rows = [vocabulary.encode(text) or [UNKNOWN] for _, text in part]
        batch = Ragged.of(rows).padded(torch.arange(len(rows)), PADDING)
        shares = torch.softmax(inference.outputs(batch).float(), 1).cpu()
        if bool(shares.isnan().any()):
            hint = "The model's weights may have exploded in training"
            raise ArgumentError("model", "outputs that are no numbers", "a model whose outputs are finite", hint)
        for (source, text), numbers, row in zip(part, rows, shares.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            tokens = tuple(vocabulary.split(text)) or ("",)
            yield SentencePrediction(
                source=source,
                text=text,
                label=described.classes[best],
                probability=row[best],
                classes=described.classes,
                probabilities=tuple(row),
                tokens=tokens,
                unknown=tuple(token for token, number in zip(tokens, numbers, strict=True) if number == UNKNOWN),
                shares=functools.partial(word_shares, model, numbers, best),
            )
