"""Figures of a writer of captions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import nn

from convscope.data.vocabulary import Vocabulary
from convscope.errors import ArgumentError
from convscope.models.searching import Search
from convscope.tasks.bleu import bleu
from convscope.tasks.captions.foretelling import FittedPictures, Foretelling
from convscope.tasks.captions.writing import write
from convscope.tasks.token_writing import TokenTally
from convscope.training.figures import Figures

_SHOWN = 5
_TOGETHER = 64  # pictures captioned at a time


@dataclasses.dataclass(frozen=True)
class CaptionFigures(Figures):
    """``bleu`` is BLEU-4 from 0 to 100 against all captions of each picture, with sacrebleu's ``signature``;
    ``exact_match`` the share of captions that are, word for word, one of their picture's. ``loss`` is the mean over the
    tokens of −ln p, the caption so far being given, ``perplexity`` its exponential, ``token_accuracy`` the share
    foretold rightly. ``first`` are the first few pictures: caption, one of theirs. ``unended``: captions without an
    end."""

    headline = "exact_match"
    counted = "images"

    images: int
    loss: float
    perplexity: float
    token_accuracy: float
    exact_match: float
    bleu: float
    signature: str
    unended: int
    first: tuple[tuple[str, str], ...]


class CaptionTally(TokenTally):
    """Adds up the loss of every token, and captions the pictures of each batch by ``search``.

    The captions of a batch's pictures lie side by side, one picture's after another's, and their pictures with them.
    """

    def __init__(self, model: nn.Module, examples: Foretelling, search: Search) -> None:
        super().__init__()
        self.model, self.examples, self.search = model, examples, search

    def figures(self) -> CaptionFigures:
        """ArgumentError when nothing was added."""
        if not self.seen:
            raise ArgumentError("split", "no pictures", "at least one picture to evaluate")
        captions = self.examples.captions
        first = next(self.model.parameters())
        assert isinstance(captions.pictures, FittedPictures)
        fitting = captions.pictures.preprocessing
        found = []
        for places in torch.split(torch.arange(len(captions)), _TOGETHER):
            pictures = fitting.normalise(captions.pictures.stacked(places))
            found += write(self.model, pictures.to(first.device, first.dtype), self.search)
        texts = [captions.vocabulary.decode(each.tokens) for each in found]
        given = iter(captions.texts)
        references = [list(itertools.islice(given, count)) for count in captions.counts.tolist()]
        measured = bleu(texts, references, "char" if captions.vocabulary.cut == "characters" else "13a")
        return CaptionFigures(
            images=self.seen,
            **self.by_token(),
            exact_match=exact(texts, references, captions.vocabulary) / len(texts),
            bleu=measured.score,
            signature=measured.signature,
            unended=sum(not each.whole for each in found),
            first=tuple((text, own[0]) for text, own in list(zip(texts, references, strict=True))[:_SHOWN]),
        )


def exact(texts: Sequence[str], references: Sequence[Sequence[str]], vocabulary: Vocabulary) -> int:
    """How many of ``texts`` are, word for word, one of their references, as ``vocabulary`` cuts them."""
    return sum(
        any(vocabulary.split(text) == vocabulary.split(each) for each in own)
        for text, own in zip(texts, references, strict=True)
    )
