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
from convscope.data.vocabulary import END, PADDING, SPECIAL, START, UNKNOWN
from convscope.errors import ArgumentError
from convscope.explorer.inputs import Desk, Picture
from convscope.explorer.network import Network
from convscope.graph.examples import takes_indices
from convscope.inspect.inputs import InputOfModel
from convscope.models.text_cnn import TextCNN
from convscope.models.transformer import Transformer
from convscope.spec import Preprocessing, spec_of
from convscope.tasks.sentences.preparing import known_vocabulary
from convscope.tasks.translation.preparing import known_to

MOST_WORDS = 64  # columns of the page; a sentence of movie-review polarity has at most 56 words
_EXAMPLE_WORDS = 8
#: What the page may ask of a model of sentences; everything else is of pictures.
ANSWERS = (
    "hello", "fingerprint", "layout", "frame", "grid", "values", "elastic", "explain", "field", "stages", "effective",
    "nudge", "ask", "edit", "undo", "edits", "show_data", "show_sentence", "next_token",
    "weigh", "newest",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sentence(Picture):
    """Token ``numbers``, one a column; ``pixels`` are their vectors in grey, for the overview."""

    numbers: tuple[int, ...] = ()
    split: int = 0
    """Of a translator: how many of the columns are the source's."""


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


class OneToken(nn.Module):
    """Word vectors (1, size, s + t) of a source and of its translation so far → the scores (1, classes) of the token
    that comes next: ``transformer`` behind its tables. ``split`` is s."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.size, self.split = model.size, 1
        self.positions, self.dropout = model.positions, model.dropout
        self.encoders = [f"encoder{number}" for number in range(1, model.depth[0] + 1)]
        self.decoders = [f"decoder{number}" for number in range(1, model.depth[1] + 1)]
        for name in self.encoders:
            self.add_module(name, getattr(model, name))
        self.encoder_norm = model.encoder_norm
        self.target_positions, self.target_dropout = model.target_positions, model.target_dropout
        for name in self.decoders:
            self.add_module(name, getattr(model, name))
        self.decoder_norm, self.output = model.decoder_norm, nn.Linear(1, 1, bias=False)
        tied = model.output.weight is model.target_words().weight
        # tied, it is also the table: ∂J/∂W by the scores alone would not be its gradient
        self.output.weight = nn.Parameter(model.output.weight.detach(), False) if tied else model.output.weight
        self.output.out_features, self.output.in_features = self.output.weight.shape

    def forward(self, x: Tensor) -> Tensor:
        vectors = x.transpose(1, 2) * self.size**0.5  # (1, s + t, size)
        memory = self.dropout(self.positions(vectors[:, : self.split]))
        for name in self.encoders:
            memory = getattr(self, name)(memory, None)
        memory = self.encoder_norm(memory)
        y = self.target_dropout(self.target_positions(vectors[:, self.split :]))
        for name in self.decoders:
            y = getattr(self, name)(y, memory, None)
        scores: Tensor = self.output(self.decoder_norm(y[:, -1]))
        return scores


class Reader(ABC):
    """How a model of sentences is read: its ``view``, its classes, and a text as columns of the page."""

    view: nn.Module
    classes: tuple[str, ...]
    translates = False
    tied = False

    @property
    @abstractmethod
    def table(self) -> Tensor:
        """The word vectors (tokens, size)."""

    @abstractmethod
    def read(self, text: str, kind: str = "typed", begun: str = "") -> Sentence:
        """The sentence as the model reads it, of a translator with the translation so far; ArgumentError for one that
        is empty or too long for the page."""

    @abstractmethod
    def example(self) -> str:
        """A text to begin with."""

    def vectors(self, sentence: Sentence) -> Tensor:
        """(1, size, t): the words' rows of the table, side by side."""
        return self.table.detach()[list(sentence.numbers)].T[None].contiguous()

    def check_own(self, name: str, parameter: str) -> None:
        """ArgumentError for a parameter of a layer that is the table of word vectors too, of whose gradient, and of
        whose edits, the page would see one part only."""
        if self.tied and name == "output":
            wanted = "a parameter of one use: this one is the table of words as well"
            raise ArgumentError("parameter", f"{name}.{parameter}", wanted)

    def network(self, sentence: Sentence) -> Network:
        """The calls of the view for a sentence of this length."""
        return Network(self.view, (self.table.shape[1], len(sentence.numbers)))

    def fits(self, network: Network, sentence: Sentence) -> bool:
        """Whether ``network`` is of sentences of this length."""
        return network.input_shape[1] == len(sentence.numbers)

    def sentence(self, numbers: Sequence[int], source: dict[str, Any], split: int = 0) -> Sentence:
        made = Sentence(torch.empty(0), source, (), None, tuple(numbers), split)
        x = self.vectors(made)
        grey = ((x / x.abs().max().clamp_min(1e-30) + 1) * 127.5).round().to(torch.uint8)[None]
        return dataclasses.replace(made, pixels=grey)


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

    def read(self, text: str, kind: str = "typed", begun: str = "") -> Sentence:
        if begun:
            raise ArgumentError("begun", begun, "nothing: this model translates nothing")
        words = self.vocabulary.split(text)
        checked(words, MOST_WORDS)
        numbers = self.vocabulary.encode(text)
        return self.sentence(numbers, told(kind, text, words, numbers))

    def example(self) -> str:
        return self.vocabulary.join(self.vocabulary.tokens[len(SPECIAL) :][:_EXAMPLE_WORDS])


class TranslationReader(Reader):
    """``transformer``: a source sentence and its translation so far, and which token comes next."""

    translates = True

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.view: OneToken = OneToken(model).eval()
        self.source, self.target = known_to(model)
        self.classes = self.target.tokens
        self.tied = not self.view.output.weight.requires_grad

    @property
    def table(self) -> Tensor:
        return self.model.words.weight

    def vectors(self, sentence: Sentence) -> Tensor:
        given, begun = sentence.numbers[: sentence.split], sentence.numbers[sentence.split :]
        rows = [self.table.detach()[list(given)], self.model.target_words().weight.detach()[list(begun)]]
        return torch.cat(rows).T[None].contiguous()

    def read(self, text: str, kind: str = "typed", begun: str = "") -> Sentence:
        words = self.source.split(text)
        checked(words, MOST_WORDS - 1)
        numbers, written = self.source.encode(text), [START, *self.target.encode(begun)]
        return self._both([*numbers, END], written, {**told(kind, text, words, numbers)})

    def next(self, sentence: Sentence, token: int) -> Sentence:
        """With one more token of the translation; ArgumentError where that is its end."""
        if token in (PADDING, END):
            raise ArgumentError("token", self.classes[token], "a token of the text: the translation ends here")
        given, begun = sentence.numbers[: sentence.split], sentence.numbers[sentence.split :]
        source = {**sentence.source, "unknown": [each for each in sentence.source["unknown"] if each < len(given)]}
        source["words"] = sentence.source["words"][: len(given) - 1]
        return self._both(given, [*begun, token], source)

    def _both(self, given: Sequence[int], begun: Sequence[int], source: dict[str, Any]) -> Sentence:
        most = min(self.model.places, MOST_WORDS)
        for side, numbers in (("text", given), ("begun", begun)):
            if len(numbers) > most:
                raise ArgumentError(side, f"{len(numbers)} tokens", f"at most {most}, ends counted")
        words = [*source["words"], SPECIAL[END], *(self.target.tokens[number] for number in begun)]
        unknown = source["unknown"] + [len(given) + k for k, number in enumerate(begun) if number == UNKNOWN]
        parts, text = [len(given), len(begun)], self.target.decode(begun)
        source = {**source, "words": words, "unknown": unknown, "parts": parts, "begun": text}
        return self.sentence([*given, *begun], source, len(given))

    def network(self, sentence: Sentence) -> Network:
        self.view.split = sentence.split
        return super().network(sentence)

    def fits(self, network: Network, sentence: Sentence) -> bool:
        return super().fits(network, sentence) and self.view.split == sentence.split

    def example(self) -> str:
        words = [token for token in self.source.tokens[len(SPECIAL) :] if len(token) > 2]
        return self.source.join((words or list(self.source.tokens[len(SPECIAL) :]))[:4])


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
    if isinstance(model, Transformer):
        return TranslationReader(model)
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

    def from_text(self, text: str, kind: str = "typed", begun: str = "") -> Sentence:
        return self.reader.read(text, kind, begun)

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
