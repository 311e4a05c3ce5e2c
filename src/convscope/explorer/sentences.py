"""A model of sentences on the page: all of its layers for one sentence, from the vectors of its words on.

Numbers of tokens have no derivative and no picture. What the page shows begins where both begin: at the rows that the
table of word vectors has for the sentence, side by side, a column a word. The view is the same network by the same
parameters from there on, for a sentence of just this length, so that nothing fills it up.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convscope.data import Dataset
from convscope.data.kinds.sentences import Sentences
from convscope.data.vocabulary import SPECIAL, UNKNOWN
from convscope.errors import ArgumentError
from convscope.explorer.inputs import Desk, Picture
from convscope.explorer.network import Network
from convscope.graph.examples import takes_indices
from convscope.inspect.inputs import InputOfModel
from convscope.models.text_cnn import TextCNN
from convscope.spec import Preprocessing, spec_of
from convscope.tasks.sentences.preparing import known_vocabulary

MOST_WORDS = 64  # columns of the page; a sentence of movie-review polarity has at most 56 words
_EXAMPLE_WORDS = 8
#: What the page may ask of a model of sentences; everything else is of pictures.
ANSWERS = (
    "hello", "fingerprint", "layout", "frame", "grid", "values", "elastic", "explain", "field", "stages", "effective",
    "nudge", "ask", "edit", "undo", "edits", "show_data", "show_sentence",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sentence(Picture):
    """Token ``numbers``, one a column; ``pixels`` are their vectors in grey, for the overview."""

    numbers: tuple[int, ...] = ()


class OneSentence(nn.Module):
    """Word vectors (1, size, t) → class scores: ``text_cnn`` behind its table, for one sentence without filling."""

    def __init__(self, model: TextCNN) -> None:
        super().__init__()
        self.widths = model.widths
        for width in self.widths:
            for kind in ("conv", "relu", "pool"):
                self.add_module(f"{kind}{width}", getattr(model, f"{kind}{width}"))
        self.dropout, self.output = model.dropout, model.output

    def forward(self, x: Tensor) -> Tensor:
        best = []
        for width in self.widths:
            found = getattr(self, f"relu{width}")(getattr(self, f"conv{width}")(x))
            best.append(getattr(self, f"pool{width}")(found))
        scores: Tensor = self.output(self.dropout(torch.cat(best, 1)))
        return scores


class Reader(ABC):
    """How a model of sentences is read: its ``view``, its classes, and a text as columns of the page."""

    view: nn.Module
    classes: tuple[str, ...]

    @property
    @abstractmethod
    def table(self) -> Tensor:
        """The word vectors (tokens, size)."""

    @abstractmethod
    def read(self, text: str, kind: str = "typed") -> Sentence:
        """The sentence as the model reads it; ArgumentError for one that is empty or too long for the page."""

    @abstractmethod
    def example(self) -> str:
        """A text to begin with."""

    def vectors(self, sentence: Sentence) -> Tensor:
        """(1, size, t): the words' rows of the table, side by side."""
        return self.table.detach()[list(sentence.numbers)].T[None].contiguous()

    def network(self, sentence: Sentence) -> Network:
        """The calls of the view for a sentence of this length."""
        return Network(self.view, (self.table.shape[1], len(sentence.numbers)))

    def fits(self, network: Network, sentence: Sentence) -> bool:
        """Whether ``network`` is of sentences of this length."""
        return network.input_shape[1] == len(sentence.numbers)

    def sentence(self, numbers: Sequence[int], source: dict[str, Any], label: int | None = None) -> Sentence:
        rows = self.table.detach()[list(numbers)].T  # (size, t)
        limit = max(float(rows.abs().max()), 1e-30)
        grey = ((rows / limit + 1) * 127.5).round().to(torch.uint8)[None, None]
        return Sentence(grey, source, (), label, tuple(numbers))


class TextReader(Reader):
    """``text_cnn``: one sentence, and which class it is of."""

    def __init__(self, model: TextCNN) -> None:
        described = spec_of(model)
        self.model, self.view = model, OneSentence(model).eval()
        self.vocabulary = known_vocabulary(model)
        self.classes = tuple(described.classes) if described is not None else ()

    @property
    def table(self) -> Tensor:
        return self.model.embedding.weight

    def read(self, text: str, kind: str = "typed") -> Sentence:
        words = self.vocabulary.split(text)
        checked(words, MOST_WORDS)
        numbers = self.vocabulary.encode(text)
        return self.sentence(numbers, told(kind, text, words, numbers))

    def example(self) -> str:
        return self.vocabulary.join(self.vocabulary.tokens[len(SPECIAL) :][:_EXAMPLE_WORDS])


def checked(words: Sequence[str], most: int) -> None:
    """ArgumentError for no words at all, and for more than there is room for."""
    if not words:
        raise ArgumentError("text", "no words", "a sentence")
    if len(words) > most:
        raise ArgumentError("text", f"{len(words)} words", f"at most {most}: each is a column of the page")


def told(kind: str, text: str, words: Sequence[str], numbers: Sequence[int]) -> dict[str, Any]:
    """Where a sentence came from, for the page: its words, and the columns of those that the model does not know."""
    unknown = [place for place, number in enumerate(numbers) if number == UNKNOWN]
    return {"kind": kind, "text": text, "words": list(words), "unknown": unknown}


def reader_of(model: nn.Module) -> Reader | None:
    """``model`` as one of sentences, None for a model of pictures; ArgumentError for one of token numbers that cannot
    be shown, by name, and for one that was not trained and has no vocabulary."""
    if isinstance(model, TextCNN):
        return TextReader(model)
    if takes_indices(model):
        described = spec_of(model)
        name = described.architecture if described is not None else type(model).__name__
        hint = "convscope.trace has every value of it; convscope predict FILE TEXT -o FOLDER draws what counted"
        raise ArgumentError("model", f"{name}, which reads numbers of tokens", "a model that reads pictures", hint)
    return None


class SentenceDesk(Desk):
    """Sentences instead of pictures: typed, or of a data set of sentences."""

    def __init__(self, reader: Reader, data: Dataset[Any] | None) -> None:
        self.reader = reader
        super().__init__(_takes(reader, 1), data)

    def first(self, start: int | None = None) -> Sentence:
        """What to begin with: an item of the test set, or words that the model knows."""
        return self.from_text(self.reader.example(), "words") if self.data is None else self._item("test", start or 0)

    def network(self, picture: Picture, network: Network | None = None) -> Network:
        """The network for a sentence, ``network`` where that fits."""
        assert isinstance(picture, Sentence)
        return network if network is not None and self.reader.fits(network, picture) else self.reader.network(picture)

    def turn_to(self, sentence: Sentence) -> None:
        """The input is as long as this sentence from now on."""
        takes = _takes(self.reader, len(sentence.numbers))
        self.takes, self.preprocessing = takes, takes.preprocessing
        self.input_shape, self.picture_shape = takes.shape, takes.picture_shape

    def x(self, picture: Picture) -> Tensor:
        assert isinstance(picture, Sentence)
        return self.reader.vectors(picture)

    def from_text(self, text: str, kind: str = "typed") -> Sentence:
        return self.reader.read(text, kind)

    def from_data(self, split: str, index: int) -> Picture:
        return self._item(split, index)

    def _item(self, split: str, index: int) -> Sentence:
        chosen: Any = self.split(split)
        assert isinstance(chosen, Sentences)
        if not 0 <= index < len(chosen):
            raise ArgumentError("index", index, f"0…{len(chosen) - 1}, an item of the {split} split")
        sentence = self.reader.read(chosen.texts[index], "data")
        name = chosen.classes[int(chosen.labels[index])]
        label = self.reader.classes.index(name) if name in self.reader.classes else None
        source = {**sentence.source, "split": split, "index": index, "class": name}
        return dataclasses.replace(sentence, source=source, label=label)

    def from_file(self, content: bytes, kind: str = "upload") -> Picture:
        raise ArgumentError("upload", "a file", "a sentence, typed on the page: this model reads words")

    def example(self) -> Picture:
        return self.first()


def _takes(reader: Reader, words: int) -> InputOfModel:
    size = reader.table.shape[1]
    return InputOfModel((size, words), Preprocessing(1, (size, words), (0.0,), (1.0,)), "model")
